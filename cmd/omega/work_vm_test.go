package main

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"
)

// workCrowd is how many agents are asked while others attack, workHostiles are those, with their exit codes.
const workCrowd = 4

var workHostiles = map[string]int{"escape-1": 0, "net-1": 0, "eat-1": 137, "crash-1": 1}

// workReaders are the agents with models, and how they end.
var workReaders = map[string]int{"pulled": 0, "stored": 0, "flipped": 3}

// TestVMAtWork boots one guest in which all kinds of agents run at once, from bundles on a disk and with no registry.
func TestVMAtWork(t *testing.T) {
	image(t) // or a skip
	w := &workplace{packer: newPacker(t)}
	for _, who := range []string{"mia", "boss"} {
		w.ok("bundle", "key", "--out", w.path(who))
	}
	w.ok("log", "keygen", "--out", w.path("log"))
	w.write("policy.yaml", workPolicy)
	disks := w.readers()
	w.agents()
	disks = append(disks, w.engine())
	w.ok(append([]string{"bundle", "layout", "--out", w.path("layout.tar")}, w.layout...)...)
	if _, err := build(t.Context(), bootEnv(t), buildOptions{Profile: "cpu", Policy: w.path("policy.yaml"), Out: w.path("image")}); err != nil {
		t.Fatal(err)
	}
	logDisk := w.path("log.disk")
	if err := os.WriteFile(logDisk, make([]byte, 16<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	var err error
	w.v, err = launch(t, bootOptions{Artifacts: w.path("image"), Config: w.filesConfig(w.deployments...), LogDisk: logDisk, Layout: w.path("layout.tar"), Disks: disks})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.v.WaitLine(vmContext(t), "omega: ready "); err != nil {
		t.Fatal(err)
	}
	if lines := strings.Join(w.v.Lines(), "\n"); strings.Contains(lines, " refused ") {
		t.Fatal("an agent was refused")
	}
	t.Run("agents answer while others attack", w.crowded)
	t.Run("an agent is asked, and a statement says so", w.invoked)
	t.Run("an agent waits for a person", w.approved)
	t.Run("sessions and their servers share nothing", w.sessions)
	t.Run("agents read what others wrote", w.shared)
	t.Run("an engine answers with an agent's own adapter", w.inferred)
	t.Run("the table and the last words of agents", w.observed)
	w.evidenceOf(w.v)
	if err := w.v.Stop(vmContext(t)); err != nil {
		t.Fatal(err)
	}
	checkFilesLog(t, w.packer, logDisk)
	w.checkLog(logDisk)
}

func (w *workplace) invoked(t *testing.T) {
	statement := w.path("statement.json")
	code, out, words := w.ask("invoke", "asked-0", "--input", w.say("hello", "hello"), "--statement", statement)
	if code != exitOK || out != "anyone said hello" {
		t.Fatalf("exit code %d: %q, %s", code, out, words)
	}
	if code, _, words := w.ask("verify", "--invocation", statement); code != exitOK {
		t.Errorf("its statement: exit code %d: %s", code, words)
	}
}

func (w *workplace) approved(t *testing.T) {
	order, boss := w.say("order", "get http://shop.invalid/buy?n=1"), []string{"--caller-key", w.path("boss")}
	if code, out, words := w.ask("invoke", "asked-1", "--input", order); code != exitOK || !strings.Contains(out, "needs an approval by boss") {
		t.Fatalf("what needs an approval: exit code %d: %q, %s", code, out, words)
	}
	var list []question
	code, out, words := w.ask("approve", append(boss, "--json")...)
	if code != exitOK || json.Unmarshal([]byte(out), &list) != nil || len(list) != 1 || list[0].Resource != "shop" || list[0].Instance != "asked-1" {
		t.Fatalf("questions: exit code %d: %s, %s", code, out, words)
	}
	if code, _, words := w.ask("approve", append(boss, fmt.Sprint(list[0].Entry), "--key", w.path("boss"), "--yes")...); code != exitOK {
		t.Fatalf("approving: exit code %d: %s", code, words)
	}
	// The guest has no such shop: what counts is that the call was let through, once.
	if code, out, words := w.ask("invoke", "asked-1", "--input", order); code != exitOK || strings.Contains(out, "approval") || !strings.Contains(out, "shop.invalid") {
		t.Errorf("approved: exit code %d: %q, %s", code, out, words)
	}
	if code, out, words := w.ask("invoke", "asked-1", "--input", order); code != exitOK || !strings.Contains(out, "needs an approval by boss") {
		t.Errorf("once more: exit code %d: %q, %s", code, out, words)
	}
}

func (w *workplace) sessions(t *testing.T) {
	for _, step := range []struct{ session, input, want string }{
		{"one", "a", `"kept: a"`}, {"one", "b", `"kept: a, b"`}, {"two", "c", `"kept: c"`}, {"one", "d", `"kept: a, b, d"`},
	} {
		if code, out, words := w.ask("invoke", "desk", "--session", step.session, "--input", w.say("note", step.input), "--caller-key", w.path("boss")); code != exitOK || !strings.Contains(out, step.want) {
			t.Fatalf("session %s: exit code %d: %q, %s", step.session, code, out, words)
		}
	}
}

func (w *workplace) shared(t *testing.T) {
	const board = "http://127.0.0.1:3128/data/board/"
	for _, step := range []struct{ agent, order, want string }{
		{"asked-0", "put " + board + "pub/note buy milk", "204"}, {"asked-0", "put " + board + "note buy milk", "403"}, {"asked-1", "get " + board + "pub/note", "buy milk"},
	} {
		if code, out, words := w.ask("invoke", step.agent, "--input", w.say("order", step.order)); code != exitOK || !strings.HasPrefix(out, step.want) {
			t.Errorf("%s, %s: exit code %d: %q, %s", step.agent, step.order, code, out, words)
		}
	}
}

// crowded asks everybody again and again until the last attack is over, and once more.
func (w *workplace) crowded(t *testing.T) {
	over := make(chan struct{})
	var answers sync.WaitGroup
	input := w.say("again", "again")
	for i := range workCrowd {
		answers.Go(func() {
			for last := false; ; {
				code, out, words := w.ask("invoke", fmt.Sprintf("asked-%d", i), "--input", input)
				if code != exitOK || out != "anyone said again" {
					t.Errorf("asked-%d: exit code %d: %q, %s", i, code, out, words)
				}
				if last {
					return
				}
				select {
				case <-over:
					last = true
				case <-time.After(2 * time.Second):
				}
			}
		})
	}
	for _, codes := range []map[string]int{workReaders, workHostiles} {
		for instance, code := range codes {
			want := fmt.Sprintf("omega: agent %s exited %d", instance, code)
			if _, err := w.v.WaitLine(vmContext(t), want); err != nil {
				t.Errorf("%s: %v", want, err)
			}
		}
	}
	close(over)
	answers.Wait()
}

func (w *workplace) observed(t *testing.T) {
	code, out, words := w.ask("agents", "--once")
	if code != exitOK {
		t.Fatalf("exit code %d: %s", code, words)
	}
	states := map[string]string{}
	for line := range strings.Lines(out) {
		if f := strings.Fields(line); len(f) > 2 {
			states[f[0]] = f[2]
		}
	}
	for instance, want := range map[string]string{
		"asked-0": "running,", "desk": "admitted", "desk+s1": "running", "notes-server+desk+s2": "running", "eat-1": "exited", "flipped": "exited",
	} {
		if states[instance] != want {
			t.Errorf("%s is %q, not %s:\n%s", instance, states[instance], want, out)
		}
	}
	if n := strings.Count(out, "running, healthy"); n != workCrowd {
		t.Errorf("%d agents are well, want %d:\n%s", n, workCrowd, out)
	}
	if code, _, _ := w.ask("agents", "--output", "escape-1"); code != exitMismatch {
		t.Errorf("a caller without the right reads what an agent wrote: exit code %d", code)
	}
	code, out, words = w.ask("agents", "--output", "escape-1", "--caller-key", w.path("boss"))
	if code != exitOK || !strings.Contains(out, "refused: making devices") {
		t.Errorf("exit code %d: %q, %s", code, out, words)
	}
}

// workDiskRate is slow enough for a model of 18,000 bytes to take seconds.
const workDiskRate = 8192

// checkLog looks for what the tests above have not seen.
func (w *workplace) checkLog(disk string) {
	w.t.Helper()
	out := w.ok("log", "show", "--json", "--evidence", w.path("evidence.json"), "--key", w.path("log/auditor.key"), disk)
	pooled, took := map[string]bool{}, map[string]int{}
	for line := range strings.Lines(out) {
		var item struct {
			Entry struct {
				Kind, Agent string
				Result      struct {
					From      string
					LastLines []string `json:"last_lines"`
				}
			}
		}
		if json.Unmarshal([]byte(line), &item) != nil {
			continue
		}
		if item.Entry.Kind == "start" {
			pooled[item.Entry.Agent] = item.Entry.Result.From == "pool"
		}
		for _, said := range item.Entry.Result.LastLines {
			var ms int
			if _, err := fmt.Sscanf(said, "it took %d ms", &ms); err == nil {
				took[item.Entry.Agent] = ms
			}
		}
	}
	// While agents attacked, nobody started anything, and the pool was filled.
	for instance, want := range map[string]bool{"asked-0": false, "desk+s1": true, "notes-server+desk+s1": true} {
		if got, ok := pooled[instance]; !ok || got != want {
			w.t.Errorf("%s started: %v, from the pool: %v, want %v", instance, ok, got, want)
		}
	}
	// Both have the same limit, and one's model does not lie on a disk.
	if took["stored"] < 1500 || took["pulled"] >= took["stored"] {
		w.t.Errorf("a model of 18,000 bytes at %d a second was read in %d ms from a disk, in %d from memory", workDiskRate, took["stored"], took["pulled"])
	}
	if w.t.Failed() {
		w.t.Log(out)
	}
}
