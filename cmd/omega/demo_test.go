package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"omega/attest"
	"omega/images"
	"omega/internal/strictjson"
	"omega/policy"
	"omega/policy/compile"
)

func TestTheTranscriptTellsWhatTheGuestSaid(t *testing.T) {
	tests := []struct {
		name   string
		lines  []string
		done   bool
		prefix string
		want   string
		err    string
	}{
		{"a line that was said", []string{"SeaBIOS", "omega: pid1 120", "omega: serving 4000"}, false, "serving ", "serving 4000", ""},
		{"the first of several", []string{"omega: phase a 1", "omega: phase b 2"}, false, "phase ", "phase a 1", ""},
		{"said before the machine ended", []string{"omega: ready 9"}, true, "ready ", "ready 9", ""},
		{"never said, and the machine ended", []string{"omega: pid1 1"}, true, "ready ", "", "the machine ended"},
		{"never said, and the guest gave a reason", []string{"omega: poweroff: phase keys"}, false, "ready ", "", "phase keys"},
		{"never said at all", []string{"omega: pid1 1"}, false, "ready ", "", "deadline"},
		{"words of others are not the guest's", []string{"x omega: ready 1", "ready 1"}, true, "ready ", "", "the machine ended"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			transcript, done := newTranscript(func(saying) {}), make(chan struct{})
			for _, line := range tt.lines {
				transcript.hear(line)
			}
			if tt.done {
				close(done)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
			defer cancel()
			got, err := transcript.wait(ctx, done, tt.prefix)
			if got.words != tt.want {
				t.Errorf("heard %q, want %q", got.words, tt.want)
			}
			if (tt.err == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), tt.err) {
				t.Errorf("error %v, want %q", err, tt.err)
			}
		})
	}
}

func TestTheTranscriptWaitsForWhatIsStillToCome(t *testing.T) {
	var told []string
	transcript := newTranscript(func(s saying) { told = append(told, s.words) })
	go func() {
		for _, line := range []string{"omega: pid1 1", "omega: serving 2", "omega: ready 3"} {
			time.Sleep(5 * time.Millisecond)
			transcript.hear(line)
		}
	}()
	line, err := transcript.wait(t.Context(), make(chan struct{}), "ready ")
	if err != nil {
		t.Fatal(err)
	}
	if ms, err := line.guestTime(); err != nil || ms != 3 {
		t.Errorf("guest time %d, %v", ms, err)
	}
	if _, err := transcript.wait(t.Context(), make(chan struct{}), "pid1 "); err != nil {
		t.Fatal(err)
	}
	transcript.hear("omega: poweroff: asked")
	transcript.tellAll()
	if diff := cmp.Diff([]string{"pid1 1", "serving 2", "ready 3", "poweroff: asked"}, told); diff != "" {
		t.Errorf("each line is told once: %s", diff)
	}
}

// demoWithRecord is a demo at which a provider has recorded something.
func demoWithRecord(t *testing.T, record string) *demo {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "files.jsonl"), []byte(record), 0o600); err != nil {
		t.Fatal(err)
	}
	return &demo{e: &env{Stderr: io.Discard}, world: &world{dir: dir}}
}

func TestTheDemoFailsUnlessExactlyThePermittedCallsArrived(t *testing.T) {
	want := []string{"/public/a", "/public/b"}
	tests := []struct {
		name, record string
		good         bool
	}{
		{"the permitted calls", "x /public/a\nx /public/b\n", true},
		{"one is missing", "x /public/a\n", false},
		{"in another order, by agents that run side by side", "x /public/b\nx /public/a\n", true},
		{"one of them twice, the other never", "x /public/a\nx /public/a\n", false},
		{"the forbidden one arrived too", "x /public/a\nx /private/s\nx /public/b\n", false},
		{"the forbidden one arrived in disguise", "x /public/a\nx /public/b/../../private/s\n", false},
		{"another one arrived too", "x /public/a\nx /public/b\nx /public/c\n", false},
		{"nothing arrived", "", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
			defer cancel()
			if err := demoWithRecord(t, tt.record).reached(ctx, "files", want, "/private/"); (err == nil) != tt.good {
				t.Errorf("error %v", err)
			}
		})
	}
}

// demoEvidence are the demo's admitted agents as evidence shows them.
func demoEvidence() (agents []attest.Agent) {
	for _, a := range demoAgents[:2] {
		out := attest.Agent{Instance: a.instance, Name: a.name}
		for _, kind := range []string{attest.KindPolicy, attest.KindSandbox} {
			out.Components = append(out.Components, attest.Component{Kind: kind, Name: kind, Role: "operator", Principal: "measured image"})
		}
		for _, p := range a.principals() {
			out.Components = append(out.Components, attest.Component{Kind: p.kind, Name: p.name, Role: p.role, Principal: p.principal, Signatures: make([]attest.Signature, 1)})
		}
		agents = append(agents, out)
	}
	return agents
}

func TestTheDemoDemandsTwoAgentsWithEveryPrincipal(t *testing.T) {
	if err := vouchedFor(demoEvidence()); err != nil {
		t.Fatal(err)
	}
	for i, agent := range demoEvidence() {
		for j, c := range agent.Components {
			agents := demoEvidence()
			agents[i].Components = slices.Delete(agents[i].Components, j, j+1)
			if err := vouchedFor(agents); err == nil || !strings.Contains(err.Error(), agent.Instance) {
				t.Errorf("%s without %s %s of %s: %v", agent.Instance, c.Kind, c.Name, c.Principal, err)
			}
			agents = demoEvidence()
			agents[i].Components[j].Signatures = nil
			if err := vouchedFor(agents); (err == nil) != c.Measured() {
				t.Errorf("%s with an unsigned %s %s: %v", agent.Instance, c.Kind, c.Name, err)
			}
		}
	}
	for name, agents := range map[string][]attest.Agent{
		"one":          demoEvidence()[:1],
		"three":        append(demoEvidence(), attest.Agent{Instance: "impostor", Name: "reporter"}),
		"twice one":    {demoEvidence()[0], demoEvidence()[0]},
		"the impostor": {demoEvidence()[0], {Instance: "impostor", Name: "reporter", Components: demoEvidence()[1].Components}},
	} {
		if err := vouchedFor(agents); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestTheDemoSeesEachChangeOfEvidenceRefused(t *testing.T) {
	p := newPlatform(t)
	newPeople(t).withAgents(t, p)
	_, port, err := net.SplitHostPort(p.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	var words bytes.Buffer
	d := &demo{e: &env{Stdout: io.Discard, Stderr: &words}, run: t.TempDir(), artifacts: &images.Artifacts{Manifest: p.manifest}, machine: &vm{Root: p.root}}
	if d.machine.Port, err = strconv.Atoi(port); err != nil {
		t.Fatal(err)
	}
	if err := d.refuse(t.Context()); err != nil {
		t.Fatalf("%v\n%s", err, &words)
	}
	for _, want := range []string{
		"as it came: emulated", "without the signature of author ann on the manifest of researcher-1: refused, exit code 2", "of model mia on", "of tool files-co on",
		"with two agents' models swapped: refused, exit code 4", "as the answer to another nonce: refused, exit code 4", "10 changes of it",
		"relayed by somebody with another key: refused, exit code 4",
	} {
		if !strings.Contains(words.String(), want) {
			t.Errorf("the story lacks %q:\n%s", want, &words)
		}
	}
	raw, err := p.evidence(t.Context(), [32]byte{1})
	if err != nil {
		t.Fatal(err)
	}
	for name, l := range map[string]lie{
		"a change that is believed":           {"x", func(*attest.Evidence) {}, attest.Bytes32{1}, exitSignature, ""},
		"a refusal for another reason":        {"x", swapModels, attest.Bytes32{1}, exitMismatch, "replay"},
		"a refusal with another code":         {"x", swapModels, attest.Bytes32{1}, exitSignature, "swapped"},
		"evidence that ought to be believed":  {"x", swapModels, attest.Bytes32{1}, exitOK, ""},
		"evidence for another nonce believed": {"x", func(*attest.Evidence) {}, attest.Bytes32{2}, exitOK, ""},
	} {
		if words, err := d.lie(t.Context(), l, raw); err == nil {
			t.Errorf("%s does not end the demo: %s", name, words)
		}
	}
}

func TestTheDemoPolicyCompilesAndKnowsItsPeople(t *testing.T) {
	dir := t.TempDir()
	source, err := sourceRoot()
	if err != nil {
		t.Fatal(err)
	}
	keys, err := openDemoKeys(filepath.Join(dir, "keys"))
	if err != nil {
		t.Fatal(err)
	}
	d := &demo{e: &env{Stderr: io.Discard}, source: source, keys: keys}
	path, err := d.writePolicy()
	if err != nil {
		t.Fatal(err)
	}
	out, err := compile.File(path)
	if err != nil {
		t.Fatal(err)
	}
	var document policy.Document
	if err := strictjson.Decode(out.JSON, &document, strictjson.Limits{}); err != nil {
		t.Fatal(err)
	}
	known := map[string]bool{}
	for _, p := range document.Principals {
		for _, k := range p.Keys {
			known[k.ID] = true
		}
	}
	for name, key := range keys.signers {
		public, err := key.Public()
		if err != nil {
			t.Fatal(err)
		}
		if known[public.ID] != (name != "stranger") {
			t.Errorf("the policy knows %s: %v", name, known[public.ID])
		}
	}
	for _, p := range demoProviders {
		if !strings.Contains(string(out.JSON), "https://"+p.host+"/") {
			t.Errorf("the policy does not name %s", p.host)
		}
	}
}

func TestWordsOfAVerbAreIndentedLineByLine(t *testing.T) {
	var out bytes.Buffer
	w := &indenter{w: &out, prefix: "  "}
	for _, part := range []string{"one\ntw", "o\n", "\nthree"} {
		if _, err := w.Write([]byte(part)); err != nil {
			t.Fatal(err)
		}
	}
	if want := "  one\n  two\n  \n  three"; out.String() != want {
		t.Errorf("%q, want %q", out.String(), want)
	}
}

func TestTheClosingTableTellsEachStepAndItsOutcome(t *testing.T) {
	report := demoReport{
		Steps:   []stepReport{{"build", 12.3, true}, {"boot", 4.5, false}},
		Sizes:   map[string]int64{"kernel": 6 << 20, "initrd": 18 << 20},
		Boot:    bootReport{Serving: bootTime{Guest: 3900, Wall: 5400}},
		Verdict: "emulated",
	}
	var text, data bytes.Buffer
	report.table(&text)
	for _, want := range []string{"1. build", "12.3 s", "ok", "2. boot", "FAILED", "24.00 MiB", "boot to serving", "5.40 s", "emulated"} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("the table lacks %q:\n%s", want, &text)
		}
	}
	if strings.Contains(text.String(), "boot to ready") {
		t.Errorf("the table tells a time that was never reached:\n%s", &text)
	}
	if err := report.json(&data); err != nil {
		t.Fatal(err)
	}
	var back demoReport
	if err := json.Unmarshal(data.Bytes(), &back); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(report, back); diff != "" {
		t.Error(diff)
	}
}

func TestAVerbInTheDemoEndsWithItsOwnExitCode(t *testing.T) {
	d := &demo{e: &env{Stderr: io.Discard}}
	tests := []struct {
		args []string
		want int
	}{
		{[]string{"log", "verify", filepath.Join(t.TempDir(), "nothing")}, exitUsage},
		{[]string{"verify", "--manifest", filepath.Join(t.TempDir(), "nothing"), "https://127.0.0.1:1"}, exitUsage},
		{[]string{"no such verb"}, exitUsage},
	}
	for _, tt := range tests {
		if _, err := d.verb(t.Context(), tt.args...); exitCode(err) != tt.want {
			t.Errorf("%v: exit code %d, want %d", tt.args, exitCode(err), tt.want)
		}
	}
	if got := exitCode(exit(exitSignature, errors.New("x"))); got != exitSignature {
		t.Errorf("exit code %d", got)
	}
}
