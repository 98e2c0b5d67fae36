package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"omega/internal/skip"
)

const askedPolicy = `version: omega/policy/v1
platform: laptop
principals:
  - {name: writer, key: writer.pub, roles: [author], names: ["*"]}
  - {name: boss, key: writer.pub, roles: [approver], names: ["*"]}
auditors:
  - {name: nobody, key: "%s"}
web:
  - {name: shop, hosts: [shop.invalid], ports: [80], plain: true}
agents:
  - name: asked
    requires: [{role: author, principal: writer}]
    permits:
      - {id: buy, action: http.request, resource: shop, approval: boss}
`

// askedPlatform is `omega dev` with one agent that serves.
func askedPlatform(t *testing.T) (url string, said *words) {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{"policy.yaml": fmt.Sprintf(askedPolicy, strings.Repeat("5a", 32)),
		"asked/agent.json": `{"name":"asked","command":["/asked"],"serve":{"port":8000}}`} {
		if err := os.MkdirAll(filepath.Join(dir, "asked", "root"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	keys := demoKeys{dir: dir}
	if _, err := keys.signer("writer"); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("go", "build", "-o", filepath.Join(dir, "asked", "root", "asked"), "./testdata/asked")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	_ = l.Close()
	ctx, cancel := context.WithCancel(context.Background())
	said = &words{}
	ended := make(chan error, 1)
	go func() {
		e := &env{Stdin: strings.NewReader(""), Stdout: said, Stderr: said}
		ended <- runDev(ctx, e, []string{"--policy", filepath.Join(dir, "policy.yaml"), "--port", strconv.Itoa(port), filepath.Join(dir, "asked")})
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("ended with %v", err)
		}
		if t.Failed() {
			t.Logf("the platform said\n%s", said)
		}
	})
	waitSaid(t, said, "omega: agent asked started", ended)
	return fmt.Sprintf("https://127.0.0.1:%d", port), said
}

// An agent is asked, its answer comes with a statement that the platform's
// evidence vouches for, and what it asks people is approved once.
func TestAnAgentOfAPlatformIsAskedAndWaitsForAPerson(t *testing.T) {
	if os.Geteuid() != 0 {
		skip.Missing(t, "root is needed for namespaces and gVisor")
	}
	if os.Getenv("OMEGA_SKIP_VM") != "" {
		t.Skip("OMEGA_SKIP_VM is set")
	}
	t.Setenv("YES", "1") // no person: it answers for packages, never for a signature
	url, said := askedPlatform(t)
	run := func(verb func(context.Context, *env, []string) error, input string, args ...string) (string, error) {
		var out bytes.Buffer
		err := verb(t.Context(), &env{Stdin: strings.NewReader(input), Stdout: &out, Stderr: said}, append([]string{"--dev"}, args...))
		return out.String(), err
	}
	statement := filepath.Join(t.TempDir(), "statement.json")
	got, err := run(runInvoke, "hello", url, "asked", "--statement", statement)
	if err != nil || got != "omega-dev said hello" {
		t.Fatalf("%q %v", got, err)
	}
	if _, err := run(runVerify, "", url, "--invocation", statement); err != nil {
		t.Errorf("its statement: %v", err)
	}
	if _, err := run(runInvoke, "hello", url, "nobody"); exitCode(err) != exitMismatch || !strings.Contains(err.Error(), "no such agent") {
		t.Errorf("an agent that there is not: exit code %d, %v", exitCode(err), err)
	}
	const order = "get http://shop.invalid/buy?n=1"
	if got, err := run(runInvoke, order, url, "asked"); err != nil || !strings.Contains(got, "needs an approval by boss") {
		t.Fatalf("what needs an approval: %q %v", got, err)
	}
	list, err := run(runApprove, "", url, "--json")
	var questions []question
	if err != nil || json.Unmarshal([]byte(list), &questions) != nil || len(questions) != 1 || questions[0].Resource != "shop" {
		t.Fatalf("questions %s %v", list, err)
	}
	dev, err := devDir()
	if err != nil {
		t.Fatal(err)
	}
	entry, key := strconv.FormatUint(questions[0].Entry, 10), filepath.Join(dev, "keys", "boss-0.pem")
	if _, err := run(runApprove, "no\n", url, entry, "--key", key); exitCode(err) != exitMismatch {
		t.Errorf("a person who says no: %v", err)
	}
	if _, err := run(runApprove, "", url, entry, "--key", filepath.Join(dev, "keys", "writer-0.pem"), "--yes"); exitCode(err) != exitMismatch || !strings.Contains(err.Error(), "no key of who can answer") {
		t.Errorf("another's key: %v", err)
	}
	if _, err := run(runApprove, "yes\n", url, entry, "--key", key); err != nil {
		t.Fatalf("approving: %v", err)
	}
	if got, err := run(runInvoke, order, url, "asked"); err != nil || strings.Contains(got, "approval") || !strings.Contains(got, "shop.invalid") {
		t.Errorf("approved, to a shop that there is not: %q %v", got, err)
	}
	if got, err := run(runInvoke, order, url, "asked"); err != nil || !strings.Contains(got, "needs an approval by boss") {
		t.Errorf("once more: %q %v", got, err)
	}
}
