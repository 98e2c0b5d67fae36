package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"omega/init/internal/console"
)

func TestPhasesComeInTheOrderOfTheDesign(t *testing.T) {
	want, err := os.ReadFile("testdata/phases.golden")
	if err != nil {
		t.Fatal(err)
	}
	var got strings.Builder
	for _, p := range (&guest{}).phases() {
		got.WriteString(p.name + "\n")
	}
	if diff := cmp.Diff(string(want), got.String()); diff != "" {
		t.Errorf("boot order (-want +got):\n%s", diff)
	}
}

func TestOnlyDeploymentsMayTakeLong(t *testing.T) {
	for _, p := range (&guest{}).phases() {
		if p.timeout == 0 != (p.name == "agents") || p.timeout > slow {
			t.Errorf("phase %s may take %v", p.name, p.timeout)
		}
	}
}

func TestBootStopsAtTheFirstPhaseThatFails(t *testing.T) {
	var out bytes.Buffer
	c := console.New(func() time.Duration { return 7 * time.Millisecond })
	c.Attach(&out)
	ok := func(context.Context) error { return nil }
	err := boot(context.Background(), c, []phase{
		{"one", ok, quick},
		{"two", func(context.Context) error { return fail("fixed words", errors.New("host's words")) }, quick},
		{"three", ok, quick},
	})
	if got := reason(err); got != "phase two: fixed words" {
		t.Errorf("reason %q", got)
	}
	if got := out.String(); got != "omega: phase one 7\nomega: phase two 7\n" {
		t.Errorf("console %q", got)
	}
}

func TestAPhaseThatHangsIsCutOff(t *testing.T) {
	hang := phase{"hang", func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }, 10 * time.Millisecond}
	if err := hang.within(context.Background()); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}

func TestTheReasonIsFixedWordsOnly(t *testing.T) {
	foreign := errors.New("\x1b[2J from the host")
	tests := []struct {
		name string
		err  error
		want string
	}{
		{"a fault", fail("launch config malformed", foreign), "launch config malformed"},
		{"a fault in a phase", fail("phase config", fail("launch config malformed", foreign)), "phase config: launch config malformed"},
		{"a fault below other errors", fmt.Errorf("x: %w", fail("no DHCP lease", foreign)), "no DHCP lease"},
		{"no fault", foreign, "internal error"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := reason(tt.err); got != tt.want {
				t.Errorf("reason %q, want %q", got, tt.want)
			}
		})
	}
}
