package compile

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/open-policy-agent/opa/v1/rego"
	"go.yaml.in/yaml/v3"

	"omega/policy"
)

func TestPublishedSchemaIsTheOneOfTheCode(t *testing.T) {
	want, err := Schema()
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile("../../docs/policy.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Error("docs/policy.schema.json is another; `omega policy schema > docs/policy.schema.json` writes it")
	}
}

func TestSchemaTakesOurPoliciesAndNoMisspeltOnes(t *testing.T) {
	var schema any
	text, err := Schema()
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &schema); err != nil {
		t.Fatal(err)
	}
	// OPA's validator is another one's.
	q, err := rego.New(rego.Query("x := json.match_schema(input.document, input.schema)")).PrepareForEval(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	match := func(file string, change func(string) string) bool {
		t.Helper()
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var doc any
		if err := yaml.Unmarshal([]byte(change(string(text))), &doc); err != nil {
			t.Fatal(err)
		}
		rs, err := q.Eval(context.Background(), rego.EvalInput(map[string]any{"document": doc, "schema": schema}))
		if err != nil || len(rs) != 1 {
			t.Fatal(err, rs)
		}
		list, _ := rs[0].Bindings["x"].([]any)
		ok, _ := list[0].(bool)
		if !ok {
			t.Logf("%s: %v", file, list[1])
		}
		return ok
	}
	for _, file := range []string{"testdata/demo.yaml", "testdata/rich.yaml", "../../examples/policies/assistant.yaml", "../../examples/demo/policy.yaml"} {
		if !match(file, func(s string) string { return s }) {
			t.Errorf("%s does not fit the schema", file)
		}
	}
	for _, change := range [][2]string{
		{"version: omega/policy/v1", "version: v2"}, {"platform: test-1", "plattform: test-1"}, {"action: mcp.tools/call", "action: mcp.tools/cal"},
		{"integrity: trusted", "integrity: true"}, {"consequential: true", "consequential: yes please"}, {"roles: [approver]", "roles: [king]"},
		{"prefix: /data/public", "prefx: /data/public"}, {`from: "08:00"`, `from: "8"`}, {"hosts: [a.example, ", "host: [a.example, "}, {"limit: 2", `limit: "2"`},
	} {
		if match("testdata/rich.yaml", func(s string) string {
			if !strings.Contains(s, change[0]) {
				t.Fatalf("nothing to change: %s", change[0])
			}
			return strings.Replace(s, change[0], change[1], 1)
		}) {
			t.Errorf("%q fits the schema", change[1])
		}
	}
}

func TestEveryActionIsDocumented(t *testing.T) {
	text, err := os.ReadFile("../../docs/policy.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range policy.Actions {
		if !strings.Contains(string(text), "`"+a.Name+"`") {
			t.Errorf("docs/policy.md does not name %s", a.Name)
		}
		for _, arg := range a.Args {
			if !strings.Contains(string(text), "`"+arg+"`") {
				t.Errorf("docs/policy.md does not name argument %s of %s", arg, a.Name)
			}
		}
	}
}

func TestCasesAreReadStrictly(t *testing.T) {
	const good = "version: omega/policy-test/v1\ncases:\n  - name: x\n    calls:\n      - {agent: a, action: b, resource: c, args: {deep: [1, {x: true}]}, result: [1], expect: deny, reason: no}\n"
	if _, err := parseCases("x_test.yaml", []byte(good)); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct{ old, new, want string }{
		"unknown field":     {"agent: a", "agnet: a", `x_test.yaml:5:10: unknown field "agnet"`},
		"version":           {"test/v1", "test/v2", "x_test.yaml:1:10: version"},
		"no expectation":    {", expect: deny, reason: no", "", "want permit or deny"},
		"reason of permit":  {"expect: deny", "expect: permit", "a permit has no reason"},
		"rule of denial":    {"reason: no", "rule: r", "a denial has no rule"},
		"no name":           {"name: x", "name: ''", "a case needs a name"},
		"anchor":            {"[1, {x: true}]", "&a [1]", "anchors and aliases"},
		"duplicate key":     {"{x: true}", "{x: 1, x: 2}", `"x" is given twice`},
		"number for a name": {"{x: true}", "{1: 2}", "is not a name"},
	} {
		_, err := parseCases("x_test.yaml", []byte(strings.Replace(good, tc.old, tc.new, 1)))
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want %q", name, err, tc.want)
		}
	}
}

func FuzzCases(f *testing.F) {
	b, err := os.ReadFile("../../examples/policies/assistant_test.yaml")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		if c, err := parseCases("x_test.yaml", b); err == nil && c.Version != CasesVersion {
			t.Fatal("another version")
		}
	})
}
