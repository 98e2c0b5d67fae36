package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"omega/internal/skip"
)

// The agent on Python and the official SDKs was started ahead, answers whoever asks it from the warm pool, and
// does what the one on Node does.
func TestAPythonAgentOnTheOfficialSDKsAnswersFromThePool(t *testing.T) {
	if os.Geteuid() != 0 {
		skip.Missing(t, "root is needed for namespaces and gVisor")
	}
	if os.Getenv("OMEGA_SKIP_VM") != "" {
		t.Skip("OMEGA_SKIP_VM is set")
	}
	w := newDevWorld(t)
	folder := w.folder(t, "python")
	port := freeTestPort(t)
	ctx, cancel := context.WithCancel(t.Context())
	said, ended := &words{}, make(chan error, 1)
	go func() {
		e := &env{Stdin: strings.NewReader(""), Stdout: said, Stderr: said}
		ended <- runDev(ctx, e, append([]string{"--policy", w.policy, "--port", fmt.Sprint(port), folder}, w.dial...))
	}()
	defer func() {
		cancel()
		if err := <-ended; err != nil || t.Failed() {
			t.Errorf("ended with %v; it said\n%s", err, said)
		}
	}()
	waitSaid(t, said, "omega: ready", ended)
	// The pool waits until nobody starts anything. A session that comes too early costs a cold start, no more.
	time.Sleep(5 * time.Second)
	url := fmt.Sprintf("https://127.0.0.1:%d", port)
	run := func(verb func(context.Context, *env, []string) error, input string, args ...string) string {
		t.Helper()
		var out bytes.Buffer
		if err := verb(t.Context(), &env{Stdin: strings.NewReader(input), Stdout: &out, Stderr: said}, append([]string{url, "--dev"}, args...)); err != nil {
			t.Fatal(err)
		}
		return out.String()
	}
	begin := time.Now()
	if got := run(runInvoke, "Plan the next quarter: read the brief, and append a note.", "analyst"); got != "The plan is written." {
		t.Errorf("it answered %q", got)
	}
	t.Logf("the task took %s", time.Since(begin))
	notes, err := os.ReadFile(w.world.record("notes"))
	if err != nil || !strings.Contains(string(notes), "Open the second workshop") {
		t.Errorf("the note is %q, error %v", notes, err)
	}
	if wrote := run(runAgents, "", "--output", "analyst.s1"); !strings.Contains(wrote, "refused: ") || !strings.Contains(wrote, "/public") {
		t.Errorf("nothing says that a call was refused, and why: %s", wrote)
	}
}
