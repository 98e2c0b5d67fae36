package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const demoPolicyYAML = "../../policy/compile/testdata/demo.yaml"

// written puts text into a file of its own.
func written(t *testing.T, name, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

const readCall = `{"session":1,"agent":"reporter","action":"mcp.tools/call","resource":"files/read_file","args":{"path":"PATH"}}`

func TestPolicyEvalSaysPermitOrDeny(t *testing.T) {
	dir := t.TempDir()
	if code, out, words := omega(t, "policy", "compile", "--policy", demoPolicyYAML, "--out", dir); code != exitOK || !strings.Contains(out, `"digest":"`) {
		t.Fatalf("compile: exit %d, %s%s", code, out, words)
	}
	full := `{"action":"mcp.tools/call","agent":{"instance":"i","name":"reporter"},"args":{"body":"b","subject":"s","to":[]},"resource":"mail/send","state":{"counts":{"send-inside":2},"labels":[]}}`
	tests := []struct {
		name, input string
		code        int
		want        string
	}{
		{"permitted", strings.Replace(readCall, "PATH", "/data/public/a", 1), exitOK, `{"decision":"permit","labels":["untrusted:files/read_file"],"reasons":[],"rule":"read-public"}`},
		{"denied", strings.Replace(readCall, "PATH", "/data/public/../a", 1), exitMismatch, `{"decision":"deny","labels":[],"reasons":["argument \"path\" must be`},
		{"a logged input with its state", full, exitMismatch, "the limit of 2 calls is used up"},
		{"no JSON", "x", exitMismatch, `{"decision":"deny"`},
	}
	for _, p := range []string{demoPolicyYAML, filepath.Join(dir, "policy.wasm")} {
		for _, tc := range tests {
			t.Run(tc.name+" by "+filepath.Ext(p), func(t *testing.T) {
				code, out, words := omega(t, "policy", "eval", "--policy", p, "--input", written(t, "in.json", tc.input))
				if code != tc.code || !strings.Contains(out, tc.want) || strings.Count(out, "\n") != 1 {
					t.Errorf("exit %d, %q %q; want %d with %q", code, out, words, tc.code, tc.want)
				}
			})
		}
	}
}

func TestPolicyReplayCountsAlongASession(t *testing.T) {
	send := `{"session":"S","agent":{"name":"reporter","instance":"r"},"action":"mcp.tools/call","resource":"mail/send","args":{"to":["a@acme.example"],"subject":"s","body":"b"}}`
	calls := strings.Join([]string{
		send, send, send,
		strings.Replace(send, `"S"`, `"other"`, 1),
		"", `{"unreadable":`, `{"agent":5}`,
		strings.Replace(readCall, "PATH", strings.Repeat("x", 300<<10), 1),
		strings.Replace(readCall, "PATH", "/data/public/a", 1),
	}, "\n")
	code, out, words := omega(t, "policy", "replay", "--policy", demoPolicyYAML, "--calls", written(t, "calls.jsonl", calls))
	if code != exitOK {
		t.Fatalf("exit %d: %s", code, words)
	}
	lines := strings.Split(strings.TrimSpace(out), "\n")
	want := []string{"permit", "permit", "deny", "permit", "deny", "deny", "deny", "permit", `{"summary":{"calls":8,"deny":4,"permit":4}}`}
	if len(lines) != len(want) {
		t.Fatalf("%d lines, want %d:\n%s", len(lines), len(want), out)
	}
	for i := range want {
		if !strings.Contains(lines[i], want[i]) {
			t.Errorf("line %d: %s, want %s", i, lines[i], want[i])
		}
	}
}

func TestPolicyCheckNamesThePlaceOfAFault(t *testing.T) {
	bad := written(t, "bad.yaml", "version: omega/policy/v1\nplatform: demo\nagentz: []\n")
	code, _, words := omega(t, "policy", "check", demoPolicyYAML, bad)
	if code != exitUsage || !strings.Contains(words, bad+":3:1: unknown field \"agentz\"") || !strings.Contains(words, "1 agents, digest") {
		t.Errorf("exit %d: %s", code, words)
	}
}

func TestPolicyExplainUsesWords(t *testing.T) {
	code, out, words := omega(t, "policy", "explain", demoPolicyYAML)
	if code != exitOK || !strings.Contains(out, `argument "path" must be a plain path under /data/public`) || !strings.Contains(out, "at most 2 times") {
		t.Errorf("exit %d: %s%s", code, out, words)
	}
}

func TestPolicyWithoutArgumentsExplainsItself(t *testing.T) {
	for _, args := range [][]string{{"policy"}, {"policy", "fly"}, {"policy", "eval"}, {"policy", "replay", "--policy", "x"}, {"policy", "compile"}, {"policy", "check"}, {"policy", "explain"}} {
		if code, out, words := omega(t, args...); code != exitUsage || out != "" || words == "" {
			t.Errorf("%v: exit %d, %q %q", args, code, out, words)
		}
	}
}
