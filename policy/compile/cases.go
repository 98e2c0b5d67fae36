package compile

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"omega/policy"
)

// CasesVersion is the only version of a file of cases that is read.
const CasesVersion = "omega/policy-test/v1"

// Cases are what somebody expects of a policy.
type Cases struct {
	Version string `json:"version"`
	Cases   []Case `json:"cases"`
}

// Case is a session: its calls are decided in their order.
type Case struct {
	Name  string     `json:"name"`
	Calls []CaseCall `json:"calls"`
}

// CaseCall is one call and what shall become of it.
type CaseCall struct {
	Agent     string         `json:"agent"`
	Action    string         `json:"action"`
	Resource  string         `json:"resource"`
	Args      map[string]any `json:"args"`
	Now       int            `json:"now"`
	Approvals []string       `json:"approvals"`
	Labels    []string       `json:"labels"`
	Result    any            `json:"result"`
	Expect    string         `json:"expect"` // permit or deny
	Rule      string         `json:"rule"`   // that permits; "" for any
	Reason    string         `json:"reason"` // part of a reason for the denial
}

// CasesFile is where the cases of a policy are: beside it, X_test.yaml for X.yaml.
func CasesFile(policyFile string) string {
	return strings.TrimSuffix(strings.TrimSuffix(policyFile, ".yaml"), ".yml") + "_test.yaml"
}

// ReadCases reads a file of cases as strictly as a policy.
func ReadCases(path string) (*Cases, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("policy cases: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxSource+1))
	if err != nil {
		return nil, fmt.Errorf("policy cases: %w", err)
	}
	return parseCases(path, text)
}

func parseCases(path string, text []byte) (*Cases, error) {
	root, err := source{file: path}.parse(text)
	if err != nil {
		return nil, err
	}
	w := &walker{file: path, places: map[string]place{}}
	var out Cases
	w.decode(root, &out)
	if out.Version != CasesVersion && len(w.faults) == 0 {
		w.fault("version", "%q, want %q", out.Version, CasesVersion)
	}
	names := map[string]bool{}
	for i, c := range out.Cases {
		at := fmt.Sprintf("cases[%d]", i)
		if c.Name == "" || names[c.Name] || len(c.Calls) == 0 {
			w.fault(at, "a case needs a name of its own and calls")
		}
		names[c.Name] = true
		for j, call := range c.Calls {
			w.expectation(fmt.Sprintf("%s.calls[%d]", at, j), call)
		}
	}
	if len(w.faults) > 0 {
		return nil, errors.Join(w.faults...)
	}
	return &out, nil
}

func (w *walker) expectation(at string, c CaseCall) {
	switch {
	case c.Expect != "permit" && c.Expect != "deny":
		w.fault(at+".expect", "%q, want permit or deny", c.Expect)
	case c.Expect == "deny" && c.Rule != "":
		w.fault(at+".rule", "a denial has no rule")
	case c.Expect == "permit" && c.Reason != "":
		w.fault(at+".reason", "a permit has no reason")
	}
}

// Met says whether a decision is what the call expects.
func (c CaseCall) Met(d policy.Decision) bool {
	if d.Word() != c.Expect || c.Rule != "" && c.Rule != d.Rule {
		return false
	}
	return strings.Contains(strings.Join(d.Reasons, "; "), c.Reason)
}
