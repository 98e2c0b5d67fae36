package kernel

import (
	"slices"
	"strings"
	"testing"
)

// kept is a config that keeps every promise of a variant.
func kept(variant string) []byte {
	var b strings.Builder
	b.WriteString("CONFIG_X86_64=y\n")
	for _, p := range Promises {
		if p.Value != off && !slices.Contains(p.But, variant) {
			b.WriteString("CONFIG_" + p.Option + "=" + p.Value + "\n")
		}
	}
	return []byte(b.String())
}

func TestEveryBrokenPromiseIsReportedWithItsReason(t *testing.T) {
	for _, v := range Variants {
		if err := Keep(v.Name, kept(v.Name)); err != nil {
			t.Errorf("%s: %v", v.Name, err)
		}
		for _, p := range Promises {
			config := string(kept(v.Name))
			if p.Value == off {
				config += "CONFIG_" + p.Option + "=m\n"
			} else {
				config = strings.ReplaceAll(config, "CONFIG_"+p.Option+"="+p.Value+"\n", "")
			}
			want := p.Option + " is"
			if slices.Contains(p.But, v.Name) {
				want = ""
			}
			expect(t, Keep(v.Name, []byte(config)), want)
		}
	}
	expect(t, Keep("cpu", nil), "empty")
}

func TestEveryPromiseHasAReasonAndStandsOnce(t *testing.T) {
	seen := map[string]bool{}
	for _, p := range Promises {
		if p.Reason == "" || seen[p.Option] || strings.HasPrefix(p.Option, "CONFIG_") {
			t.Errorf("%+v", p)
		}
		seen[p.Option] = true
		for _, name := range p.But {
			if _, err := Named(name); err != nil {
				t.Errorf("%s: %v", p.Option, err)
			}
		}
	}
}

// A fragment that Kconfig contradicts would show in Check; one that contradicts
// a promise shows here, before anything is built.
func TestNoFragmentBreaksAPromise(t *testing.T) {
	for _, v := range Variants {
		src, err := Load(Files, v.Fragments)
		if err != nil {
			t.Fatalf("%s: %v", v.Name, err)
		}
		options, err := parseFragment(src.Config)
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range options {
			for _, p := range Promises {
				if o.name == "CONFIG_"+p.Option && o.value != p.Value && !slices.Contains(p.But, v.Name) {
					t.Errorf("%s: a fragment has %s=%s, the promise is %q", v.Name, o.name, o.value, p.Value)
				}
			}
		}
		if len(src.Patches) != 2 || !slices.IsSorted(src.Options) {
			t.Errorf("%s: %d patches", v.Name, len(src.Patches))
		}
	}
}

func TestFragmentsAreAllUsedAndNoOthersExist(t *testing.T) {
	used := map[string]bool{}
	for _, v := range Variants {
		for _, f := range v.Fragments {
			used[f+".config"] = true
		}
	}
	entries, err := Files.ReadDir("config.d")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if !used[e.Name()] {
			t.Errorf("no kernel has %s", e.Name())
		}
	}
	if _, err := Named("floppy"); err == nil {
		t.Error("an unknown variant was found")
	}
}

func TestCommentsAndOrderOfFragmentsDoNotChangeTheKernel(t *testing.T) {
	load := func(text string) []string {
		s, err := Load(fragment(text), []string{"a"})
		if err != nil {
			t.Fatal(err)
		}
		return s.Options
	}
	if a, b := load("# why\nCONFIG_A=y\nCONFIG_B=y\n"), load("CONFIG_B=y\n\n# because\nCONFIG_A=y\n"); !slices.Equal(a, b) {
		t.Errorf("%q and %q", a, b)
	}
	if a, b := load("CONFIG_A=y\n"), load("# CONFIG_A is not set\n"); slices.Equal(a, b) {
		t.Errorf("on and off are both %q", a)
	}
}
