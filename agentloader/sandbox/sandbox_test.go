package sandbox

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestAgentInItsSandbox(t *testing.T) {
	s := setUp(t)
	tests := []struct {
		name  string
		words []string
		code  int
	}{
		{"has no network", []string{"network"}, 0},
		{"reaches the gateway many times at once", []string{"parallel", "parallel"}, 0},
		{"gets events one by one", []string{"events"}, 0},
		{"moves bulk both ways", []string{"bulk"}, 0},
		{"has no rights and does not see the link", []string{"who"}, 0},
		{"writes to its scratch only", []string{"write"}, 0},
		{"maps files of any size", []string{"mmap"}, 0},
		{"leaves no zombie", []string{"orphan"}, 0},
		{"has the gateway for its proxy", []string{"forward"}, 0},
		{"hands its exit code out", []string{"exit7"}, 7},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			exit := wait(t, s.start(t, "who-1", tt.words...))
			if exit.Code != tt.code {
				t.Errorf("exit code %d, want %d; last lines %q", exit.Code, tt.code, exit.LastLines)
			}
			for _, w := range tt.words {
				if tt.code == 0 && !strings.Contains(strings.Join(exit.LastLines, "\n"), w+": ok") {
					t.Errorf("no %q in %q", w+": ok", exit.LastLines)
				}
			}
		})
	}
	s.nothingLeft(t)
}

func (s *stage) nothingLeft(t *testing.T) {
	t.Helper()
	for _, d := range []string{s.runner.cfg.bundle(""), s.runner.cfg.state()} {
		left, err := os.ReadDir(d)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range left {
			if e.Name() != "null-netns" { // Close takes it
				t.Errorf("left behind: %s in %s", e.Name(), d)
			}
		}
	}
}

func TestStopEndsAgents(t *testing.T) {
	s := setUp(t)
	tests := []struct {
		name, word string
		grace      time.Duration
		code       int
	}{
		{"one that listens", "sleep", 20 * time.Second, 128 + int(syscall.SIGTERM)},
		{"one that does not", "stubborn", 300 * time.Millisecond, 128 + int(syscall.SIGKILL)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			box := s.start(t, "stop-1", tt.word)
			for deadline := time.Now().Add(time.Minute); len(box.lines.Lines()) == 0; time.Sleep(20 * time.Millisecond) {
				if time.Now().After(deadline) {
					t.Fatal("the agent said nothing")
				}
			}
			if err := box.Stop(t.Context(), tt.grace); err != nil {
				t.Fatal(err)
			}
			if exit := wait(t, box); exit.Code != tt.code {
				t.Errorf("exit code %d, want %d; last lines %q", exit.Code, tt.code, exit.LastLines)
			}
		})
	}
	s.nothingLeft(t)
}

func TestInstanceNamesAreNotShared(t *testing.T) {
	s := setUp(t)
	box := s.start(t, "same", "sleep")
	_, err := s.runner.Start(t.Context(), Spec{Instance: "same", Image: s.image, Command: []string{"/agent"}, Link: link(t)})
	if !errors.Is(err, ErrInstance) {
		t.Errorf("error %v, want ErrInstance", err)
	}
	if err := box.Stop(t.Context(), time.Minute); err != nil {
		t.Fatal(err)
	}
	if exit := wait(t, s.start(t, "same", "who")); exit.Code == 0 {
		t.Error("host name should have been wrong") // the name is free again and is the host name
	}
}

func TestASandboxIsNotTakenForOneWhoseNameBeginsLikeIts(t *testing.T) {
	s := setUp(t)
	other := s.start(t, "pre_fix", "sleep")
	box := s.start(t, "pre", "sleep")
	running(t, other)
	if b, err := os.ReadFile(fmt.Sprintf("/proc/%d/oom_score_adj", running(t, box))); err != nil || strings.TrimSpace(string(b)) != "500" {
		t.Errorf("when memory runs out the sandbox weighs %q, %v", b, err)
	}
	if err := box.Stop(t.Context(), 20*time.Second); err != nil {
		t.Fatal(err)
	}
	if exit := wait(t, box); exit.Code != 128+int(syscall.SIGTERM) {
		t.Errorf("exit code %d: the agent was not asked to end", exit.Code)
	}
	if err := box.deleteState(); err != nil {
		t.Errorf("clearing up again: %v", err)
	}
	select {
	case <-other.done:
		t.Error("the other agent has ended too")
	default:
	}
	if err := other.Stop(t.Context(), 20*time.Second); err != nil {
		t.Fatal(err)
	}
	s.nothingLeft(t)
}

// running waits until a sandbox runs and returns its process.
func running(t *testing.T, box *Sandbox) int {
	t.Helper()
	var state struct {
		Status  string `json:"status"`
		Sandbox struct {
			Pid int `json:"pid"`
		} `json:"sandbox"`
	}
	for deadline := time.Now().Add(time.Minute); state.Status != "running"; time.Sleep(50 * time.Millisecond) {
		b, err := os.ReadFile(filepath.Join(box.runner.cfg.state(), box.box+"_sandbox:"+box.box+".state"))
		if err == nil {
			err = json.Unmarshal(b, &state)
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s is not running: %v, %+v", box.spec.Instance, err, state)
		}
	}
	return state.Sandbox.Pid
}

func TestBadStartsSaySo(t *testing.T) {
	s := setUp(t)
	for name, spec := range map[string]Spec{
		"no link":           {Instance: "a", Image: s.image, Command: []string{"/agent"}},
		"no command":        {Instance: "a", Image: s.image, Link: link(t)},
		"climbing instance": {Instance: "../a", Image: s.image, Command: []string{"/agent"}, Link: link(t)},
	} {
		if _, err := s.runner.Start(t.Context(), spec); err == nil {
			t.Errorf("%s: started", name)
		}
	}
	box, err := s.runner.Start(t.Context(), Spec{Instance: "a", Image: "/nonexistent", Command: []string{"/agent"}, Link: link(t)})
	if err != nil {
		t.Fatal(err)
	}
	if exit := wait(t, box); exit.Code == 0 || len(exit.LastLines) == 0 {
		t.Errorf("missing image: %+v", exit)
	}
	box, err = s.runner.Start(t.Context(), Spec{Instance: "a", Image: s.image, Command: []string{"/missing"}, Link: link(t)})
	if err != nil {
		t.Fatal(err)
	}
	if exit := wait(t, box); exit.Code != 127 {
		t.Errorf("missing command: %+v", exit)
	}
	s.nothingLeft(t)
}

// An image needs no name: whoever holds it open can hand it over.
func TestImageMayBeAnOpenFile(t *testing.T) {
	s := setUp(t)
	f, err := os.Open(s.image)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := os.Remove(s.image); err != nil {
		t.Fatal(err)
	}
	s.image = fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), f.Fd())
	if exit := wait(t, s.start(t, "nameless", "mmap")); exit.Code != 0 {
		t.Errorf("exit %+v", exit)
	}
}

func TestOutputIsBounded(t *testing.T) {
	s := setUp(t)
	exit := wait(t, s.start(t, "chatty", "chatter"))
	if len(exit.LastLines) != maxLines {
		t.Fatalf("%d lines kept", len(exit.LastLines))
	}
	if last := exit.LastLines[maxLines-1]; last != "chatter: ok" {
		t.Errorf("last line %q", last)
	}
	for _, l := range exit.LastLines {
		if len(l) > maxLine || strings.ContainsRune(l, 0x1b) {
			t.Errorf("line %q", l)
		}
	}
}

func TestTheLastLinesAreTheSameHoweverTheyAreCut(t *testing.T) {
	var want []string
	for i := range 3*maxLines + 7 {
		want = append(want, fmt.Sprintf("line %d", i))
	}
	for _, end := range []string{"\n", ""} { // the last line may not have ended
		text := []byte(strings.Join(want, "\n") + end)
		for _, size := range []int{1, 7, 100, 64 * 9, len(text)} {
			l := newLastLines()
			for rest := text; len(rest) > 0; rest = rest[min(size, len(rest)):] {
				l.Write(rest[:min(size, len(rest))])
			}
			if got := l.Lines(); !slices.Equal(got, want[len(want)-maxLines:]) {
				t.Errorf("in pieces of %d, ended by %q: %q", size, end, got)
			}
		}
	}
}

func TestChatterCostsThePlatformLittle(t *testing.T) {
	l := newLastLines()
	chatter := []byte(strings.Repeat("x\x01\n", 10<<10))
	if n := testing.AllocsPerRun(10, func() { l.Write(chatter) }); n > 2*maxLines {
		t.Errorf("%v allocations for one piece of output", n)
	}
	if l.end(); len(l.lines) != maxLines {
		t.Errorf("%d lines", len(l.lines))
	}
}
