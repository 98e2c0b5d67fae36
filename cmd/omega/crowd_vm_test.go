package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"omega/agentloader/bundle"
	"omega/internal/skip"
	"omega/policy/provenance"
)

// crowdVariable says how many agents are to serve at once.
const crowdVariable = "OMEGA_CROWD"

// hostiles are the instances that try what no agent should, with the exit code of
// each (-1: any but 0), and the memory that those have who are to run out of it.
var hostiles = map[string]int{
	"peek-1": 0, "escape-1": 0, "cve-1": 0, "net-1": 0, "fork-1": 0, "files-1": 0, "flood-1": 0, "kill-1": -1, "eat-1": 137, "crash-1": 1,
}

const (
	crowdPatience = 20 * time.Minute // a call of the system takes a millisecond where a processor is emulated
	crowdMemory   = 64 << 20         // of one agent of the crowd, beside its sandbox
	crowdMachine  = 4096             // MiB
	crowdPolicy   = `
  - name: hostile
    requires: [{role: author, principal: workshop}, {role: operator, principal: operator}, {role: tool, principal: archive}]
    permits:
      - {id: read, action: mcp.tools/call, resource: files/read_file, args: {path: {prefix: /public}}}
`
)

// TestVMAgentsServeBesideHostileOnes boots one guest in which many agents work and
// others attack. It takes minutes: `make crowd` runs it with 200.
func TestVMAgentsServeBesideHostileOnes(t *testing.T) {
	n, err := strconv.Atoi(os.Getenv(crowdVariable))
	if err != nil || n < 1 {
		t.Skipf("%s does not say how many agents are to serve", crowdVariable)
	}
	needVM(t)
	w := newCrowd(t)
	ref := w.publish(t)
	w.boot(t, ref)
	w.deploy(t, ref, n)
	w.hostilesEnd(t)
	time.Sleep(20 * time.Second) // in which everybody is to be answered once more
	entries := w.entries(t)
	checkCrowd(t, entries, n)
	checkHostiles(t, entries)
	if err := w.powerOff(t.Context()); err != nil {
		t.Error(err)
	}
}

// crowd is the demo's world with an image, a policy and agents of its own.
type crowd struct{ *demo }

func newCrowd(t *testing.T) *crowd {
	t.Helper()
	d := &demo{e: &env{Stdin: strings.NewReader(""), Stdout: io.Discard, Stderr: io.Discard}, yes: true}
	if err := d.open(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.close(); err != nil {
			t.Error(err)
		}
	})
	path, err := d.writePolicy()
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	head, _, ok := strings.Cut(string(text), "\nagents:\n")
	if !ok {
		t.Fatal("the demo's policy has no agents")
	}
	head = strings.ReplaceAll(head, "names: [planner, reporter]", "names: [hostile]")
	path = filepath.Join(filepath.Dir(path), "crowd.yaml")
	if err := os.WriteFile(path, []byte(head+"\nagents:"+crowdPolicy), 0o644); err != nil {
		t.Fatal(err)
	}
	if d.artifacts, err = build(t.Context(), d.e, buildOptions{Profile: "cpu", Policy: path, Out: t.TempDir()}); err != nil {
		t.Fatal(err)
	}
	if err := buildExamples(t.Context(), d.e, d.source, d.programs()); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w -buildid= -R 0x10000",
		"-o", programIn(d.programs(), "hostile"), "./agents/hostile")
	cmd.Dir = filepath.Join(d.source, "examples")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		skip.Missing(t, "the hostile agent does not build: %v: %s", err, out)
	}
	return &crowd{d}
}

// publish puts the one agent into the registry, signed by everybody.
func (w *crowd) publish(t *testing.T) bundleRef {
	t.Helper()
	ctx := t.Context()
	var err error
	if w.world, err = startWorld(ctx, w.keys, w.programs(), w.run); err != nil {
		t.Fatal(err)
	}
	repo, err := parseRepo(w.world.registry+"/crowd", false)
	if err != nil {
		t.Fatal(err)
	}
	tools, err := w.publishTools(ctx, repo, demoProviders[0])
	if err != nil {
		t.Fatal(err)
	}
	ref, err := packBundle(ctx, repo, bundle.Manifest{
		Name: "hostile", Command: []string{"/hostile"}, Tools: []bundle.Tool{{Server: "files", Descriptors: tools}},
		Limits: bundle.Limits{MemoryBytes: crowdMemory, CPUMillis: 1000, Processes: 48},
	}, filepath.Dir(programIn(w.programs(), "hostile")))
	for _, by := range []struct{ key, role, principal string }{{"author", "author", "workshop"}, {"operator", "operator", "operator"}} {
		if err == nil {
			err = signRef(ctx, ref, w.keys.signers[by.key], bundle.Vouch{Role: by.role, Principal: by.principal})
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	return ref
}

// boot starts the machine with the hostile agents in its launch config.
func (w *crowd) boot(t *testing.T, ref bundleRef) {
	t.Helper()
	var deployments []json.RawMessage
	for instance := range hostiles {
		one, err := bundle.SignDeployment(w.keys.signers["deployer"], bundle.Deployment{
			Bundle: ref.digest, Repository: ref.repo.Name(), Instance: instance, Audience: demoAudience,
			Serial: uint64(time.Now().UnixMicro()), Expires: time.Now().Add(time.Hour),
		})
		if err != nil {
			t.Fatal(err)
		}
		deployments = append(deployments, one)
	}
	if err := w.writeConfig(deployments); err != nil {
		t.Fatal(err)
	}
	w.console = newTranscript(func(s saying) { t.Log("guest: ", s.words) })
	var err error
	w.machine, err = startVM(t.Context(), w.e, bootOptions{Artifacts: w.artifacts.Dir, Config: w.config, OnLine: w.console.hear, Memory: crowdMachine})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.hear(t.Context(), "ready "); err != nil {
		t.Fatal(err)
	}
}

// deploy has the crowd started over the network, one after the other.
func (w *crowd) deploy(t *testing.T, ref bundleRef, n int) {
	t.Helper()
	begin := time.Now()
	defer func() { t.Logf("%d agents deployed in %s", n, time.Since(begin)) }()
	for i := range n {
		args := w.verifying("deploy", "--bundle", ref.String(), "--instance", fmt.Sprintf("stay-%d", i),
			"--serial", strconv.FormatInt(time.Now().UnixMicro(), 10), "--key", w.keys.path("deployer.pem"))
		var said bytes.Buffer
		e := &env{Stdin: strings.NewReader(""), Stdout: &said, Stderr: &said}
		if err := runDeploy(t.Context(), e, args[1:]); err != nil {
			t.Fatalf("stay-%d: %v: %s", i, err, &said)
		}
	}
}

// hostilesEnd waits until each of them has had its way.
func (w *crowd) hostilesEnd(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), crowdPatience)
	defer cancel()
	for instance := range hostiles {
		if _, err := w.console.wait(ctx, w.machine.Done(), "agent "+instance+" exited"); err != nil {
			t.Errorf("%s: %v; it wrote\n%s", instance, err, w.outputOf(t, instance))
		}
	}
}

// outputOf is what an agent wrote last.
func (w *crowd) outputOf(t *testing.T, instance string) string {
	t.Helper()
	var out bytes.Buffer
	args := w.verifying("agents", "--output", instance, "--caller-key", w.keys.path("deployer.pem"))
	if err := runAgents(t.Context(), &env{Stdout: &out, Stderr: &out}, args[1:]); err != nil {
		return err.Error()
	}
	return out.String()
}

// entries are the log's entries by agent, in their order.
func (w *crowd) entries(t *testing.T) map[string][]provenance.Entry {
	t.Helper()
	dir := filepath.Join(w.run, "crowd-log")
	if _, err := exportLog(t.Context(), w.e, w.url(), dir, caller{}); err != nil {
		t.Fatal(err)
	}
	ev, err := readEvidence(filepath.Join(dir, evidenceFile))
	if err != nil {
		t.Fatal(err)
	}
	auditor, err := readAuditorKey(w.keys.path("auditor.pem"))
	if err != nil {
		t.Fatal(err)
	}
	out := map[string][]provenance.Entry{}
	_, err = verifyLog(context.WithoutCancel(t.Context()), w.e, logOptions{
		From: dir, LogKey: ev.key, Origin: ev.origin, Auditor: auditor,
		Each: func(item provenance.Item) error {
			if item.Entry != nil {
				out[item.Entry.Agent] = append(out[item.Entry.Agent], *item.Entry)
			}
			return nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// checkCrowd demands that each of them was answered, and again after the last
// attack had ended, and that none has ended.
func checkCrowd(t *testing.T, entries map[string][]provenance.Entry, n int) {
	t.Helper()
	var last time.Time
	for instance := range hostiles {
		for _, e := range entries[instance] {
			if e.Kind == provenance.KindExit && e.Time.After(last) {
				last = e.Time
			}
		}
	}
	all := 0
	defer func() { t.Logf("%d agents had %d answers", n, all) }()
	for i := range n {
		instance := fmt.Sprintf("stay-%d", i)
		answers, since := 0, 0
		for _, e := range entries[instance] {
			switch {
			case e.Kind == provenance.KindExit:
				t.Errorf("%s ended: %s", instance, e.Result)
			case e.Kind == provenance.KindOutcome:
				answers++
				if e.Time.After(last) {
					since++
				}
			}
		}
		all += answers
		if answers < 2 || since < 1 {
			t.Errorf("%s had %d answers, %d of them after the last attack", instance, answers, since)
		}
	}
}

// checkHostiles demands that nothing got through, and that the log shows each.
func checkHostiles(t *testing.T, entries map[string][]provenance.Entry) {
	t.Helper()
	for instance, want := range hostiles {
		var ends, starts int
		for _, e := range entries[instance] {
			switch e.Kind {
			case provenance.KindStart:
				starts++
			case provenance.KindExit:
				ends++
				var exit struct {
					Code  int      `json:"code"`
					Lines []string `json:"last_lines"`
				}
				if err := json.Unmarshal(e.Result, &exit); err != nil {
					t.Fatalf("%s: %v: %s", instance, err, e.Result)
				}
				if exit.Code != want && (want != -1 || exit.Code == 0) {
					t.Errorf("%s ended with %d, not %d: %s", instance, exit.Code, want, e.Result)
				}
				if want == 0 && !strings.Contains(string(e.Result), "refused: ") {
					t.Errorf("%s: the log does not say what was refused: %s", instance, e.Result)
				}
			}
		}
		if starts != 1 || ends != 1 {
			t.Errorf("%s has %d starts and %d ends in the log", instance, starts, ends)
		}
	}
	refusals := 0
	for _, e := range entries["net-1"] {
		if e.Kind == provenance.KindRefusal {
			refusals++
		}
	}
	if refusals == 0 {
		t.Error("the log has no refusal of what net-1 asked the gateway for")
	}
}
