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
	want := []string{"permit", "permit", "deny", "permit", "deny", "deny", "deny", "permit", `{"summary":{"calls":8,"deny":4,"permit":4,"unreadable":2}}`}
	if len(lines) != len(want) {
		t.Fatalf("%d lines, want %d:\n%s", len(lines), len(want), out)
	}
	for i := range want {
		if !strings.Contains(lines[i], want[i]) {
			t.Errorf("line %d: %s, want %s", i, lines[i], want[i])
		}
	}
}

func TestPolicyReplaySaysWhatARecordedCorpusShows(t *testing.T) {
	const send = `{"session":"SESSION","agent":"reporter","action":"mcp.tools/call","resource":"mail/send","args":{"to":["a@acme.example"],"subject":"s","body":"b"},"expect":"EXPECT"}`
	call := func(session, expect string) string {
		return strings.NewReplacer("SESSION", session, "EXPECT", expect).Replace(send)
	}
	const unnamed = `{"session":"d","agent":"reporter","action":"mcp.tools/call","resource":"nobody/knows","args":{},"expect":"deny"}`
	for _, tt := range []struct {
		name, calls, summary string
		code                 int
		says                 string
	}{
		{"a policy that does as it should", call("a", "permit") + "\n" + call("a", "permit") + "\n" + call("a", "deny"),
			`{"attacks":1,"attacks_succeeded":0,"calls":3,"deny":1,"false_denials":0,"harmful":1,"harmful_permitted":0,"own":2,"permit":2,"tasks":1,"tasks_finished":1}`, exitOK, "0 of 1 attacks succeed"},
		{"an attack that succeeds", call("a", "deny"),
			`{"attacks":1,"attacks_succeeded":1,"calls":1,"deny":0,"harmful":1,"harmful_permitted":1,"permit":1}`, exitMismatch, ":1: expected deny: permit"},
		{"a task that does not finish", call("a", "permit") + "\n\n" + call("a", "permit") + "\n" + call("a", "permit") + "\n" + call("b", "permit"),
			`{"calls":4,"deny":1,"false_denials":1,"own":4,"permit":3,"tasks":2,"tasks_finished":1}`, exitMismatch, ":4: expected permit: deny"},
		{"a denial that says nothing of the rules", unnamed,
			`{"attacks":1,"attacks_succeeded":0,"calls":1,"deny":1,"harmful":1,"harmful_permitted":0,"permit":0,"unnamed":1}`, exitOK, "1 of 1 calls are of an agent, action or resource that the policy does not name"},
		{"a line that cannot be read", call("a", "perhaps") + "\n" + call("a", "permit"),
			`{"calls":2,"deny":1,"false_denials":0,"own":1,"permit":1,"tasks":1,"tasks_finished":1,"unreadable":1}`, exitMismatch, `:1: call: expect: "perhaps", want permit or deny`},
		{"a corpus that expects nothing", strings.Replace(call("a", ""), `,"expect":""`, "", 1),
			`{"calls":1,"deny":0,"permit":1}`, exitMismatch, "no call says what is expected of it"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			file := written(t, "calls.jsonl", tt.calls)
			code, out, words := omega(t, "policy", "replay", "--check", "--policy", demoPolicyYAML, "--calls", file)
			lines := strings.Split(strings.TrimSpace(out), "\n")
			if want := `{"summary":` + tt.summary + `}`; code != tt.code || lines[len(lines)-1] != want || !strings.Contains(words, tt.says) {
				t.Errorf("exit %d, want %d: %s\nwant %s\n%s", code, tt.code, lines[len(lines)-1], want, words)
			}
			if code, _, _ := omega(t, "policy", "replay", "--policy", demoPolicyYAML, "--calls", file); code != exitOK {
				t.Errorf("without --check: exit %d", code)
			}
		})
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
