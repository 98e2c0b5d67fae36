package main

import (
	"encoding/json"
	"os"
	"strings"
	"testing"
)

const assistantYAML = "../../examples/policies/assistant.yaml"

// assistantCall is a call of the example's agent, in a session.
func assistantCall(session, action, resource, args string) string {
	return `{"session":"` + session + `","agent":"assistant","action":"` + action + `","resource":"` + resource + `","args":` + args + `}`
}

func TestPolicyTestRunsTheCasesBesideAPolicy(t *testing.T) {
	code, out, words := omega(t, "policy", "test", assistantYAML)
	if code != exitOK || !strings.Contains(out, "0 not as expected\n") || strings.Contains(out, "FAIL") {
		t.Fatalf("exit %d: %s%s", code, out, words)
	}
	code, out, words = omega(t, "policy", "test", "--json", assistantYAML)
	var r casesReport
	if err := json.Unmarshal([]byte(out), &r); code != exitOK || err != nil || r.Cases < 5 || len(r.Failed) > 0 || r.Rules["pay"] != 2 || len(r.Unused) > 0 {
		t.Errorf("exit %d, %+v %v %s", code, r, err, words)
	}
	cases := `version: omega/policy-test/v1
cases:
  - name: wrong hopes
    calls:
      - {agent: reporter, action: mcp.tools/call, resource: files/read_file, args: {path: /etc}, expect: permit}
      - {agent: reporter, action: mcp.tools/call, resource: files/read_file, args: {path: /data/public/a}, expect: permit, rule: other}
      - {agent: reporter, action: mcp.tools/call, resource: files/read_file, args: {path: /x}, expect: deny, reason: of another kind}
      - {agent: reporter, action: mcp.tools/call, resource: files/read_file, args: {path: /data/public/a}, expect: permit}
`
	code, out, _ = omega(t, "policy", "test", "--cases", written(t, "c.yaml", cases), demoPolicyYAML)
	if code != exitMismatch || strings.Count(out, "FAIL wrong hopes, call ") != 3 || !strings.Contains(out, "rules that no case uses: send-inside, think") {
		t.Errorf("exit %d: %s", code, out)
	}
}

func TestPolicyReplayMovesLabelsAlongASession(t *testing.T) {
	const tool, send = "mcp.tools/call", `{"to":"jo@partner.org","subject":"s","body":"b"}`
	calls := strings.Join([]string{
		assistantCall("1", tool, "mail/send", send),
		assistantCall("1", tool, "mail/read", `{}`),
		assistantCall("1", tool, "mail/send", strings.Replace(send, "jo@", "al@", 1)),
		assistantCall("2", tool, "mail/send", send), // another session begins anew
		assistantCall("3", "agent.invoke", "assistant", `{"input":"Mail jo@partner.org"}`),
		assistantCall("3", tool, "mail/read", `{}`),
		assistantCall("3", tool, "mail/send", send),
		strings.TrimSuffix(assistantCall("4", "agent.invoke", "assistant", `{"input":"Mail jo@partner.org"}`), "}") + `,"labels":["untrusted:somebody"]}`,
		assistantCall("4", tool, "mail/send", send),
		strings.TrimSuffix(assistantCall("5", tool, "files/read", `{"path":"/etc/passwd"}`), "}") + `,"result":"what was denied was not read"}`,
		assistantCall("5", tool, "mail/send", send),
	}, "\n")
	code, out, words := omega(t, "policy", "replay", "--policy", assistantYAML, "--calls", written(t, "calls.jsonl", calls))
	if code != exitOK {
		t.Fatalf("exit %d: %s", code, words)
	}
	want := []string{
		`"rule":"mail-anybody"`, `"labels":["untrusted:mail/read"]`, `untrusted content from mail/read has influenced this agent`, `"rule":"mail-anybody"`,
		`"rule":"invoke"`, `"permit"`, `"rule":"mail-anybody"`, `"permit"`, `untrusted content from somebody`, `"deny"`, `"rule":"mail-anybody"`,
		`{"summary":{"calls":11,"deny":3,"permit":8}}`,
	}
	lines := strings.Split(strings.TrimSpace(out), "\n")
	if len(lines) != len(want) {
		t.Fatalf("%d lines, want %d:\n%s", len(lines), len(want), out)
	}
	for i := range want {
		if !strings.Contains(lines[i], want[i]) {
			t.Errorf("line %d: %s, want %s", i+1, lines[i], want[i])
		}
	}
}

func TestPolicyExplainSaysWhatWouldHaveToChange(t *testing.T) {
	state := `,"state":{"counts":{},"labels":["untrusted:mail/read"],"budgets":{"cost":0,"payments":0},"charges":{"bytes":1}}}`
	in := strings.TrimSuffix(assistantCall("1", "mcp.tools/call", "mail/send", `{"to":"x@evil.org","subject":"s","body":"b"}`), "}") + state
	code, out, words := omega(t, "policy", "explain", "--policy", assistantYAML, "--input", written(t, "in.json", in))
	for _, want := range []string{
		"denied\n", "untrusted content from mail/read", "(rule mail-colleagues)", "(rule mail-anybody)",
		"it would be permitted by mail-anybody if no untrusted source had influenced the agent",
		"it would be permitted by mail-anybody if to had values that the caller or another trusted source gave",
	} {
		if code != exitOK || !strings.Contains(out, want) {
			t.Errorf("exit %d, %q is missing in\n%s%s", code, want, out, words)
		}
	}
	in = assistantCall("1", "mcp.tools/call", "files/delete", `{"path":"/home/me/x","force":true}`)
	code, out, _ = omega(t, "policy", "explain", "--json", "--policy", assistantYAML, "--input", written(t, "in.json", in))
	want := `"remedies":[{"change":"owner approved it, and argument \"force\" were left out","rule":"delete-file"}]`
	if code != exitOK || !strings.Contains(out, want) {
		t.Errorf("exit %d, %s is missing in\n%s", code, want, out)
	}
	code, out, _ = omega(t, "policy", "explain", "--policy", assistantYAML, "--input", written(t, "in.json", assistantCall("1", "mcp.tools/call", "mail/wipe", `{}`)))
	if code != exitOK || !strings.Contains(out, "no rule is for this agent, action and resource") {
		t.Errorf("exit %d:\n%s", code, out)
	}
}

func TestPolicyDiffNamesTheCallsThatChange(t *testing.T) {
	text, err := os.ReadFile(assistantYAML)
	if err != nil {
		t.Fatal(err)
	}
	other := strings.Replace(string(text), "endorse: [to]", "endorse: [to, body]", 1)
	other = strings.Replace(other, "prefix: /home/me/notes}", "prefix: /home/me}", 1)
	calls := written(t, "calls.jsonl", strings.Join([]string{
		assistantCall("1", "agent.invoke", "assistant", `{"input":"Mail jo@partner.org"}`),
		assistantCall("1", "mcp.tools/call", "mail/read", `{}`),
		assistantCall("1", "mcp.tools/call", "mail/send", `{"to":"jo@partner.org","subject":"s","body":"b"}`),
		assistantCall("1", "mcp.tools/call", "files/write", `{"path":"/home/me/a","content":"x"}`),
		"not JSON",
	}, "\n"))
	code, out, words := omega(t, "policy", "diff", assistantYAML, written(t, "b.yaml", other), "--calls", calls)
	for _, want := range []string{
		"call of line 3, assistant: mcp.tools/call on mail/send\n  permit by mail-anybody\n  deny: ", "call of line 4, assistant: mcp.tools/call on files/write\n  deny: ", "\n  permit by write-file\n",
		"5 calls, 2 decided differently: 1 newly permitted, 1 newly denied\n",
	} {
		if code != exitOK || !strings.Contains(out, want) {
			t.Errorf("exit %d, %q is missing in\n%s%s", code, want, out, words)
		}
	}
	code, out, _ = omega(t, "policy", "diff", "--json", "--calls", calls, assistantYAML, assistantYAML)
	if code != exitOK || out != `{"summary":{"calls":5,"changed":0,"newly_denied":0,"newly_permitted":0}}`+"\n" {
		t.Errorf("exit %d: %s", code, out)
	}
}

func TestPolicyOPADecidesAsWeDo(t *testing.T) {
	dir := t.TempDir()
	if code, out, words := omega(t, "policy", "compile", "--policy", demoPolicyYAML, "--out", dir); code != exitOK {
		t.Fatalf("compile: exit %d, %s%s", code, out, words)
	}
	in, err := benchInput()
	if err != nil {
		t.Fatal(err)
	}
	code, out, words := omega(t, "policy", "opa", "--rego", dir+"/policy.rego", "--input", written(t, "in.json", string(in)))
	if code != exitOK || !strings.Contains(out, `"rule":"read-public"`) {
		t.Errorf("exit %d: %s%s", code, out, words)
	}
}

func TestPolicySchemaIsJSON(t *testing.T) {
	if code, out, words := omega(t, "policy", "schema"); code != exitOK || !json.Valid([]byte(out)) {
		t.Errorf("exit %d: %s%s", code, out, words)
	}
}
