// Package depcheck holds the import rules of DESIGN section 3 as a test: which
// class a package has, what each class may import, and which fields stay apart.
package depcheck

import (
	"fmt"
	"os"
	"os/exec"
	"path"
	"slices"
	"strings"
	"testing"
)

// class says on which side of the build line a package stands.
type class string

const (
	both  class = "both"  // pure: no network, no processes
	host  class = "host"  // runs on the operator's or the relying party's machine
	guest class = "guest" // runs inside the measured image
)

// classes gives each package its class. The longest matching prefix decides, and
// a package that nothing matches fails the test.
var classes = map[string]class{
	"attest":                   both,
	"attest/attester":          guest,
	"attest/collateral":        host,
	"attest/kbs":               guest,
	"attest/kbs/rcar":          both,
	"attest/psp":               host,
	"agentloader":              guest,
	"agentloader/bundle":       both,
	"agentloader/ocicrypt":     both,
	"cmd/omega":                host,
	"gpu":                      guest,
	"gpu/evidence":             both,
	"gpu/probe":                both,
	"images":                   host,
	"init":                     guest,
	"internal":                 both,
	"kernel":                   host,
	"policy":                   both,
	"policy/compile":           host,
	"policy/gateway":           guest,
	"policy/provenance/writer": guest,
}

// forbidden are the standard packages that a package of class both may not reach
// directly: it takes bytes and returns values, so that all of it can be fuzzed.
var forbidden = []string{"net", "net/http", "os/exec", "unsafe", "plugin"}

// fields do not import one another; the mains join them.
var fields = []string{"attest", "policy", "agentloader", "gpu", "images"}

// exceptions to the rule on fields, as importer -> imported.
var exceptions = map[string]string{"attest/verifier": "gpu/evidence"}

type pkg struct {
	path    string
	imports []string
}

func TestPackagesImportOnlyWhatTheirClassAllows(t *testing.T) {
	for _, p := range list(t) {
		for _, msg := range violations(p) {
			t.Error(msg)
		}
	}
}

func TestRulesRefuseWrongImports(t *testing.T) {
	tests := []struct {
		name string
		pkg  pkg
		want string
	}{
		{"a pure package reaches the network", pkg{"attest/snp", []string{"net/http"}}, "may not import net/http"},
		{"the guest imports the host", pkg{"init", []string{"omega/images"}}, "guest may not import host"},
		{"the host imports the guest", pkg{"cmd/omega", []string{"omega/policy/gateway"}}, "host may not import guest"},
		{"a pure package imports the guest", pkg{"policy", []string{"omega/policy/gateway"}}, "both may not import guest"},
		{"fields import one another", pkg{"attest", []string{"omega/policy"}}, "field attest may not import field policy"},
		{"internal imports another module", pkg{"internal/wire", []string{"golang.org/x/sys/unix"}}, "standard library only"},
		{"a package without a class", pkg{"toolbox", nil}, "has no class"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := violations(tt.pkg)
			if !slices.ContainsFunc(got, func(s string) bool { return strings.Contains(s, tt.want) }) {
				t.Errorf("violations = %q, want one with %q", got, tt.want)
			}
		})
	}
}

// violations returns a sentence for each rule that p breaks.
func violations(p pkg) []string {
	own, ok := classOf(p.path)
	if !ok {
		return []string{fmt.Sprintf("%s has no class; add it to classes", p.path)}
	}
	var out []string
	for _, imp := range p.imports {
		local, isLocal := strings.CutPrefix(imp, "omega/")
		if !isLocal {
			if own == both && slices.Contains(forbidden, imp) {
				out = append(out, fmt.Sprintf("%s (both) may not import %s", p.path, imp))
			}
			if strings.HasPrefix(p.path, "internal/") && strings.Contains(strings.Split(imp, "/")[0], ".") {
				out = append(out, fmt.Sprintf("%s imports %s; internal uses the standard library only", p.path, imp))
			}
			continue
		}
		other, _ := classOf(local)
		if other != both && other != own {
			out = append(out, fmt.Sprintf("%s imports %s: %s may not import %s", p.path, local, own, other))
		}
		from, to := field(p.path), field(local)
		if from != "" && to != "" && from != to && exceptions[p.path] != local {
			out = append(out, fmt.Sprintf("%s imports %s: field %s may not import field %s", p.path, local, from, to))
		}
	}
	return out
}

// classOf returns the class of the longest prefix of p that has one.
func classOf(p string) (class, bool) {
	for d := p; d != "." && d != "/"; d = path.Dir(d) {
		if c, ok := classes[d]; ok {
			return c, true
		}
	}
	return "", false
}

func field(p string) string {
	first, _, _ := strings.Cut(p, "/")
	if slices.Contains(fields, first) {
		return first
	}
	return ""
}

// list asks the go command for every package of the module and its direct imports.
func list(t *testing.T) []pkg {
	t.Helper()
	out, err := exec.Command("go", "list", "-e", "-f", `{{.ImportPath}} {{join .Imports " "}}`, "omega/...").Output()
	if err != nil {
		t.Fatalf("listing packages: %v", err)
	}
	var pkgs []pkg
	for line := range strings.Lines(string(out)) {
		words := strings.Fields(line)
		if len(words) == 0 || words[0] == "omega" {
			continue
		}
		pkgs = append(pkgs, pkg{strings.TrimPrefix(words[0], "omega/"), words[1:]})
	}
	if len(pkgs) == 0 {
		t.Fatal("go list found no packages")
	}
	return pkgs
}

// TestTheGuestsForeignPackagesAreOnTheList makes a new dependency of what runs
// in the guest a line in the review: it is weighed like code of PID 1.
func TestTheGuestsForeignPackagesAreOnTheList(t *testing.T) {
	const list = "testdata/guest.txt"
	out, err := exec.Command("go", "list", "-deps", "-f",
		"{{if not .Standard}}{{if .Module}}{{if not .Module.Main}}{{.ImportPath}}{{end}}{{end}}{{end}}",
		"omega/init", "omega/agentloader/shim").Output()
	if err != nil {
		t.Fatalf("listing dependencies: %v", err)
	}
	got := strings.Fields(string(out))
	slices.Sort(got)
	want, err := os.ReadFile(list)
	if err != nil {
		t.Fatal(err)
	}
	wanted := strings.Fields(string(want))
	for _, p := range got {
		if !slices.Contains(wanted, p) {
			t.Errorf("the guest depends on %s, which is not in %s", p, list)
		}
	}
	for _, p := range wanted {
		if !slices.Contains(got, p) {
			t.Errorf("%s names %s, which the guest no longer depends on", list, p)
		}
	}
}
