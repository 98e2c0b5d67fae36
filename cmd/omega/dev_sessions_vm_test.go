package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"omega/internal/skip"
)

const sessionsPolicy = `version: omega/policy/v1
platform: laptop
principals:
  - {name: writer, key: writer.pub, roles: [author], names: ["*"]}
  - {name: owner, key: writer.pub, roles: [tool], names: ["*"]}
auditors:
  - {name: nobody, key: "5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a"}
servers:
  - {name: notes, bundle: notes-server, principal: owner}
agents:
  - {name: notes-server, requires: [{role: author, principal: writer}], permits: []}
  - name: desk
    requires: [{role: author, principal: writer}, {role: tool, principal: owner}]
    sessions: clean
    permits: [{id: note, action: mcp.tools/call, resource: notes/note, args: {text: {type: string}}}]
`

// sessionFolders are an agent with clean sessions and its stdio server.
func sessionFolders(t *testing.T) (folders []string, policy string) {
	t.Helper()
	dir := t.TempDir()
	write := func(path, text string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	keys := demoKeys{dir: dir}
	if _, err := keys.signer("writer"); err != nil {
		t.Fatal(err)
	}
	policy = filepath.Join(dir, "policy.yaml")
	write(policy, sessionsPolicy)
	for name, manifest := range map[string]string{
		"notes-server": `{"name":"notes-server","command":["/sessions","server"],"server":{"transport":"stdio"}}`,
		"desk":         `{"name":"desk","command":["/sessions"],"tools":[{"server":"notes"}],"serve":{"port":8000}}`,
	} {
		folder := filepath.Join(dir, name)
		write(filepath.Join(folder, "agent.json"), manifest)
		write(filepath.Join(folder, "tools", "notes.json"), `[{"name":"note","description":"Keeps a note.","input_schema":{"type":"object"}}]`)
		cmd := exec.Command("go", "build", "-o", filepath.Join(folder, "root", "sessions"), "./testdata/sessions")
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		folders = append(folders, folder)
	}
	return folders, policy
}

// Each session has a sandbox of its own, and in it a server that nobody else
// speaks to, as real sandboxes.
func TestSessionsAndTheirServersShareNothing(t *testing.T) {
	if os.Geteuid() != 0 {
		skip.Missing(t, "root is needed for namespaces and gVisor")
	}
	if os.Getenv("OMEGA_SKIP_VM") != "" {
		t.Skip("OMEGA_SKIP_VM is set")
	}
	folders, policy := sessionFolders(t)
	port := freeTestPort(t)
	ctx, cancel := context.WithCancel(t.Context())
	said, ended := &words{}, make(chan error, 1)
	go func() {
		e := &env{Stdin: strings.NewReader(""), Stdout: said, Stderr: said}
		ended <- runDev(ctx, e, append([]string{"--policy", policy, "--port", fmt.Sprint(port)}, folders...))
	}()
	defer func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("ended with %v; it said\n%s", err, said)
		}
	}()
	waitSaid(t, said, "omega: ready", ended)
	url := fmt.Sprintf("https://127.0.0.1:%d", port)
	for _, step := range []struct{ session, input, want string }{
		{"one", "a", "kept: a"}, {"one", "b", "kept: a, b"}, {"two", "c", "kept: c"}, {"", "d", "kept: d"}, {"", "e", "kept: e"}, {"one", "f", "kept: a, b, f"},
	} {
		var out bytes.Buffer
		e := &env{Stdin: strings.NewReader(step.input), Stdout: &out, Stderr: said}
		args := []string{url, "desk", "--dev"}
		if step.session != "" {
			args = append(args, "--session", step.session)
		}
		if err := runInvoke(t.Context(), e, args); err != nil || !strings.Contains(out.String(), `"`+step.want+`"`) {
			t.Errorf("session %q: %q, %v; it said\n%s", step.session, out.String(), err, said)
		}
	}
	var out bytes.Buffer
	if err := runAgents(t.Context(), &env{Stdout: &out, Stderr: said}, []string{url, "--dev", "--once"}); err != nil {
		t.Fatal(err)
	}
	for _, instance := range []string{"notes-server+desk+s1", "notes-server+desk+s2", "desk+s1", "desk+s2", "desk+s3"} {
		if !strings.Contains(out.String(), instance+" ") {
			t.Errorf("no %s among the agents:\n%s", instance, out.String())
		}
	}
}
