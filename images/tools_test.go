package images

import (
	"context"
	"errors"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestAProgramThatFailsIsQuoted(t *testing.T) {
	err := run(t.Context(), job{args: []string{"sh", "-c", "for i in $(seq 50); do echo line $i; done; echo the reason >&2; exit 3"}})
	expect(t, err, "the reason")
	expect(t, err, "exit status 3")
	if strings.Contains(err.Error(), "line 2\n") {
		t.Error("the error quotes more than the end of the output")
	}
}

func TestAFullDiskIsCalledThat(t *testing.T) {
	err := run(t.Context(), job{args: []string{"sh", "-c", "echo 'cp: error writing x: No space left on device'; exit 1"}})
	if !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("error %v", err)
	}
	expect(t, err, "no space left")
}

func TestAnInterruptEndsTheWholeProcessGroup(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	begin := time.Now()
	lines := make(chan string, 1)
	go func() { <-lines; cancel() }()
	err := run(ctx, job{args: []string{"sh", "-c", "sleep 60 & echo started; wait"}, line: func(s string) { lines <- s }})
	if !errors.Is(err, context.Canceled) || time.Since(begin) > 20*time.Second {
		t.Errorf("error %v after %s", err, time.Since(begin))
	}
}

func TestMissingToolsAreNamedWithTheirPackages(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	err := checkTools()
	for _, want := range []string{"apt-get install", "gcc", "flex", "bison"} {
		expect(t, err, want)
	}
}

func TestABuildThatWouldFillTheDiskDoesNotBegin(t *testing.T) {
	dir := t.TempDir()
	expect(t, needSpace(dir, 1), "")
	expect(t, needSpace(dir, 1<<62), "the build needs")
}
