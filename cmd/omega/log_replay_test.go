package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"omega/policy"
	"omega/policy/compile"
	"omega/policy/provenance"
)

// decided is an intent as the gateway enters it.
func decided(t *testing.T, d *policy.Decider, resource, args string) provenance.Entry {
	t.Helper()
	text, err := policy.Input{
		Agent: policy.InputAgent{Name: "reporter", Instance: "reporter-1"}, Action: "mcp.tools/call",
		Resource: resource, Args: []byte(args),
	}.Encode()
	if err != nil {
		t.Fatal(err)
	}
	got := d.Decide(t.Context(), text)
	return provenance.Entry{
		Kind: provenance.KindIntent, Agent: "reporter-1", Action: "mcp.tools/call", Resource: resource,
		Input: text, Decision: got.Word(), Rule: got.Rule, Reasons: got.Reasons,
	}
}

func TestReplayDecidesEveryIntentAgain(t *testing.T) {
	const yaml = "../../policy/compile/testdata/demo.yaml"
	out, err := compile.File(yaml)
	if err != nil {
		t.Fatal(err)
	}
	d, err := policy.NewDecider(t.Context(), out.Wasm)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close(t.Context())
	honest := []provenance.Entry{
		{Kind: provenance.KindBoot}, {Kind: provenance.KindStart, Agent: "reporter-1"},
		decided(t, d, "files/read_file", `{"path":"/data/public/a.txt"}`),
		decided(t, d, "files/read_file", `{"path":"/data/private/a.txt"}`),
	}
	forged := append([]provenance.Entry{}, honest...)
	forged[3].Decision, forged[3].Rule, forged[3].Reasons = provenance.Permit, "read-public", nil
	bare := append([]provenance.Entry{}, honest...)
	bare[3].Input = nil
	moved := append([]provenance.Entry{}, honest...)
	moved[2].Resource = "files/write_file"
	wasm := filepath.Join(t.TempDir(), "policy.wasm")
	if err := os.WriteFile(wasm, out.Wasm, 0o644); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name    string
		entries []provenance.Entry
		policy  string
		code    int
		says    string
	}{
		{"decided by this policy", honest, yaml, exitOK, "2 intents decided again, 0 differ"},
		{"decided by this policy's Wasm", honest, wasm, exitOK, "2 intents decided again, 0 differ"},
		{"a denial was logged as a permit", forged, yaml, exitMismatch, "entry 4: logged permit read-public"},
		{"nothing to decide", bare, yaml, exitMismatch, "entry 4: its input cannot be decided again"},
		{"another call was decided", moved, yaml, exitMismatch, "entry 3: it is reporter-1's mcp.tools/call on files/write_file, but what was decided"},
		{"a call is not counted", append(honest, honest[2]), yaml, exitMismatch, "entry 5: call 1 of rule read-public is counted twice"},
		{"decided by another policy", honest, "../../images/closed.yaml", exitMismatch, "2 intents decided again, 2 differ"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			l := newTestLog(t, tt.entries...)
			code, stdout, words := omega(t, "log", "replay", l.exported(t), "--key", l.auditorFile(t), "--policy", tt.policy)
			if code != tt.code || !strings.Contains(stdout+words, tt.says) {
				t.Errorf("exit %d, want %d and %q\n%s%s", code, tt.code, tt.says, stdout, words)
			}
		})
	}
}
