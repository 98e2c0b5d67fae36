package compile

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"omega/policy"
)

func TestOwnRegoCanOnlyTakeAway(t *testing.T) {
	permit := "rego: [own.rego]\n" + agent + "      - {id: p, action: mcp.tools/call, resource: s/x, more_args: true, conditions: [ok]}\n"
	tests := []struct{ name, rego, fault string }{
		{"a condition", "package omega.custom\nok if input.args.v > 3", ""},
		{"a condition with helpers", "package omega.custom\nok if big(input.args.v)\nbig(x) if x > 3", ""},
		{"a value that is no truth", "package omega.custom\nok := input.args.v", ""},
		{"one that fails", "package omega.custom\nok if to_number(input.args.w) == 1", ""},
		{"another package", "package omega\nok if true", "own.rego:1:1: the package must be omega.custom"},
		{"permits of its own", "package omega\npermit[\"a\"][\"mcp.tools/call\"][\"s/x\"] contains [\"p\", []] if true", "the package must be omega.custom"},
		{"a look at the rest", "package omega.custom\nok if data.omega.met_p", "own.rego:2:7: refers to data.omega.met_p, outside of its package"},
		{"a look at everything", "package omega.custom\nok if data[_]", "outside of its package"},
		{"an import of the rest", "package omega.custom\nimport data.omega\nok if omega.met_p", "outside of its package"},
		{"the clock", "package omega.custom\nok if time.now_ns() > 0", "own.rego:2:7: undefined function time.now_ns"},
		{"the network", "package omega.custom\nok if http.send({})", "undefined function http.send"},
		{"a misspelt field", "package omega.custom\nok if input.state.lables == []", "own.rego:2:7: undefined ref: input.state.lables"},
		{"a syntax error", "package omega.custom\nok if {", "own.rego:2:"},
		{"a function in the place of a rule", "package omega.custom\nok(x) if x", `no module has a rule "ok"`},
		{"nothing", "", "policy.yaml:1:8: rego[0].text: 0 bytes"},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.CopyFS(filepath.Join(dir, "keys"), os.DirFS("testdata/keys")); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, "own.rego"), []byte(tc.rego), 0o600); err != nil {
				t.Fatal(err)
			}
			out, err := Compile([]byte(permit), dir)
			if tc.fault != "" {
				if err == nil || !strings.Contains(err.Error(), tc.fault) {
					t.Errorf("got %v, want %q", err, tc.fault)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			d := decider(t, out)
			if got := decide(t, d, call("s/x", `{"v":1,"w":"9e"}`)); got.Permit {
				t.Error("permitted without its condition")
			}
			if got := decide(t, d, call("s/y", `{"v":5}`)); got.Permit {
				t.Error("permitted by the condition alone")
			}
			if got := decide(t, d, call("s/x", `{"v":5,"w":"x"}`)); got.Permit != strings.Contains(tc.rego, "> 3") {
				t.Errorf("with a condition that holds: %+v", got)
			}
		})
	}
}

func TestDocumentsAreDecidedWithoutInterruption(t *testing.T) {
	for file, bounded := range map[string]bool{"testdata/demo.yaml": true, "testdata/rich.yaml": false} {
		rego := string(mustCompile(t, file).Rego)
		if got := strings.Contains(rego, "\nbounded := true"); got != bounded {
			t.Errorf("%s: bounded %v", file, got)
		}
	}
	d := decider(t, mustCompile(t, "testdata/rich.yaml"))
	in := call("t/custom", `{"v":"Ab","w":"aB"}`)
	if got := d.Decide(context.Background(), mustEncode(t, in)); !got.Permit || got.Rule != "custom" {
		t.Errorf("%+v", got)
	}
	in.Args = []byte(`{"v":"Ab","w":"ac"}`)
	if got := d.Decide(context.Background(), mustEncode(t, in)); got.Permit || !strings.Contains(strings.Join(got.Reasons, ";"), "condition twins") {
		t.Errorf("%+v", got)
	}
}

func mustEncode(t *testing.T, in policy.Input) []byte {
	t.Helper()
	b, err := in.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return b
}
