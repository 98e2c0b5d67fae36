package kernel

import (
	"strings"
	"testing"
	"testing/fstest"
)

func TestEveryOptionOfTheFragmentsHasToSurvive(t *testing.T) {
	tests := []struct {
		name, fragment, config, want string
	}{
		{"all there", "CONFIG_A=y\n# CONFIG_B is not set\nCONFIG_N=256\n", "CONFIG_A=y\nCONFIG_N=256\n", ""},
		{"off and said to be off", "# CONFIG_B is not set\n", "CONFIG_A=y\n# CONFIG_B is not set\n", ""},
		{"n means off", "CONFIG_B=n\n", "CONFIG_A=y\n", ""},
		{"a string survives", "CONFIG_LSM=\"lockdown,yama\"\n", "CONFIG_LSM=\"lockdown,yama\"\n", ""},
		{"dropped", "CONFIG_A=y\n", "CONFIG_X=y\n", "CONFIG_A is off, the fragment says y"},
		{"dropped with a word", "CONFIG_A=y\n", "# CONFIG_A is not set\n", "CONFIG_A is off, the fragment says y"},
		{"turned into a module", "CONFIG_A=y\n", "CONFIG_A=m\n", "CONFIG_A is m, the fragment says y"},
		{"another number", "CONFIG_N=256\n", "CONFIG_N=64\n", "CONFIG_N is 64, the fragment says 256"},
		{"selected against our will", "# CONFIG_B is not set\n", "CONFIG_B=y\n", "CONFIG_B is y, the fragment says off"},
		{"an empty result", "# CONFIG_B is not set\n", "", "empty"},
		{"only a prefix is there", "CONFIG_A=y\n", "CONFIG_AB=y\n", "CONFIG_A is off"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			expect(t, Check([]byte(tt.fragment), []byte(tt.config)), tt.want)
		})
	}
}

func TestFragmentsAreReadStrictly(t *testing.T) {
	tests := []struct{ name, fragment, want string }{
		{"named twice", "CONFIG_A=y\nCONFIG_A=y\n", "named twice"},
		{"contradicted", "CONFIG_A=y\n# CONFIG_A is not set\n", "named twice"},
		{"not an option", "A=y\n", "neither an option nor a comment"},
		{"almost off", "# CONFIG_A is not  set\n", "neither an option nor a comment"},
		{"a blank before", " CONFIG_A=y\n", "neither an option nor a comment"},
		{"a comment", "# why\n\nCONFIG_A=y\n", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Load(fragment(tt.fragment), []string{"a"})
			expect(t, err, tt.want)
		})
	}
}

func FuzzFragment(f *testing.F) {
	f.Add([]byte("CONFIG_A=y\n# CONFIG_B is not set\n# why\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		options, err := parseFragment(b)
		if err != nil || len(options) == 0 || strings.Contains(string(b), "CONFIG_ALWAYS") {
			return
		}
		if err := Check(b, append(b, "\nCONFIG_ALWAYS=y\n"...)); err != nil {
			t.Errorf("a config does not survive itself: %v", err)
		}
	})
}

func expect(t *testing.T, err error, want string) {
	t.Helper()
	switch {
	case want == "" && err != nil:
		t.Errorf("error %v, want none", err)
	case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
		t.Errorf("error %v, want one with %q", err, want)
	}
}

// fragment is a recipe with one fragment, called a.
func fragment(text string) fstest.MapFS {
	return fstest.MapFS{"config.d/a.config": {Data: []byte(text)}}
}
