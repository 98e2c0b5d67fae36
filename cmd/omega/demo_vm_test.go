package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"omega/attest"
)

// needVM skips a test that boots the image where that is not wanted, and makes
// a cached result depend on the sources: go test counts the files that a test
// looks at, and these become the image.
func needVM(t *testing.T) {
	t.Helper()
	if os.Getenv("OMEGA_SKIP_VM") != "" {
		t.Skip("OMEGA_SKIP_VM is set")
	}
	if testing.Short() {
		t.Skip("boots a virtual machine")
	}
	root, err := sourceRoot()
	if err != nil {
		t.Fatal(err)
	}
	err = filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if name, _ := filepath.Rel(root, path); entry.IsDir() && (name == ".git" || name == "bin" || name == "build") {
			return fs.SkipDir
		}
		_, err = os.Stat(path)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// A trigger is stderr of a demo: it calls then once, when the words appear.
type trigger struct {
	bytes.Buffer
	words string
	then  func()
}

// Write implements io.Writer.
func (w *trigger) Write(b []byte) (int, error) {
	n, err := w.Buffer.Write(b)
	if w.then != nil && strings.Contains(w.String(), w.words) {
		w.then()
		w.then = nil
	}
	return n, err
}

func TestTheWholeStoryOnARealMachine(t *testing.T) {
	needVM(t)
	var out, words bytes.Buffer
	e := &env{Stdin: strings.NewReader(""), Stdout: &out, Stderr: &words}
	if err := runDemo(t.Context(), e, []string{"--json"}); err != nil {
		t.Fatalf("%v\n%s", err, &words)
	}
	var report demoReport
	if err := json.Unmarshal(out.Bytes(), &report); err != nil {
		t.Fatalf("%v\n%s", err, &out)
	}
	if !report.OK || len(report.Steps) != len((&demo{}).steps()) {
		t.Errorf("report: %+v", report)
	}
	if report.Verdict != attest.VerdictEmulated && report.Verdict != attest.VerdictVerified {
		t.Errorf("verdict %q", report.Verdict)
	}
	if payload := report.Sizes["kernel"] + report.Sizes["initrd"]; payload == 0 || payload > 32<<20 {
		t.Errorf("payload of %d bytes", payload)
	}
	b := report.Boot
	if b.PID1.Guest <= 0 || b.Serving.Guest <= b.PID1.Guest || b.Ready.Guest <= b.Serving.Guest || b.Ready.Wall < b.Ready.Guest {
		t.Errorf("boot times: %+v", b)
	}
	// What the auditor sees: the refusals, and the permitted calls around them.
	for _, want := range []string{"/private/salaries.txt", "instead: read /public/staff-summary.txt",
		"agent impostor refused", "signed by operator as operator", "signed by notebook as tool", "signed by workshop as author", "signed by foundry as model",
		"this needs a caller with the right: deploy", "reporter: running", "statement was accepted before", "reporter wrote: done:", "reporter: stopped"} {
		if !strings.Contains(words.String(), want) {
			t.Errorf("the story lacks %q:\n%s", want, &words)
		}
	}
	noChildren(t)
}

func TestAnInterruptedDemoLeavesNothingRunning(t *testing.T) {
	needVM(t)
	for _, at := range []string{"launch config:", "evidence and log will be at"} {
		t.Run(at, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			words := &trigger{words: at, then: cancel}
			e := &env{Stdin: strings.NewReader(""), Stdout: &bytes.Buffer{}, Stderr: words}
			begin := time.Now()
			err := runDemo(ctx, e, nil)
			if err == nil || ctx.Err() == nil {
				t.Fatalf("the demo was not interrupted: %v\n%s", err, words)
			}
			t.Logf("ended after %s", time.Since(begin))
			noChildren(t)
		})
	}
}

// noChildren fails if this process has a living child.
func noChildren(t *testing.T) {
	t.Helper()
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range stats {
		text, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended
		}
		// proc_pid_stat(5): after the name in parentheses come state and parent.
		rest := string(text[bytes.LastIndexByte(text, ')')+1:])
		var state string
		var parent int
		if _, err := fmt.Sscan(rest, &state, &parent); err != nil {
			t.Fatal(err)
		}
		if parent == os.Getpid() {
			t.Errorf("left running: %s", text)
		}
	}
}
