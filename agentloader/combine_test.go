package agentloader

import (
	"strings"
	"testing"
)

func TestOnlyPrincipalsThatMayStandTogetherMakeAnAgent(t *testing.T) {
	tests := []struct {
		name    string
		combine []string
		refused string
	}{
		{"anybody that the policy names", nil, ""},
		{"both", []string{"acme", "files-co"}, ""},
		{"not the provider of its tools", []string{"acme"}, "components of files-co"},
		{"not its author", []string{"files-co"}, "components of acme"},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			w := newWorld(t)
			raw := w.publish()
			_, err := w.loader(func(c *Config) { c.Trust.Agents[0].Combine = tc.combine }).Admit(t.Context(), raw)
			if tc.refused == "" && err != nil {
				t.Fatal(err)
			}
			if tc.refused != "" && (err == nil || !strings.Contains(err.Error(), tc.refused)) {
				t.Errorf("%v, want %q", err, tc.refused)
			}
		})
	}
}
