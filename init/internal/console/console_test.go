package console

import (
	"bytes"
	"strings"
	"testing"
	"time"
)

func TestLinesAreHeldUntilThereIsADevice(t *testing.T) {
	var out bytes.Buffer
	ms := 5
	c := New(func() time.Duration { return time.Duration(ms) * time.Millisecond })
	c.Mark("pid1")
	ms = 90
	c.AttachFirst(&out)
	c.AttachFirst(new(bytes.Buffer))
	c.Mark("serving")
	if got, want := out.String(), "omega: pid1 5\nomega: serving 90\n"; got != want {
		t.Errorf("printed %q, want %q", got, want)
	}
}

func TestHeldLinesAreBounded(t *testing.T) {
	var out bytes.Buffer
	c := New(func() time.Duration { return 0 })
	for range 2000 {
		c.Say("0123456789")
	}
	c.Attach(&out)
	if out.Len() > maxHeld || out.Len() < maxHeld/2 {
		t.Errorf("%d bytes were held", out.Len())
	}
}

func TestForeignTextCannotForgeALineOrMoveTheCursor(t *testing.T) {
	tests := []struct{ name, instance, event, reason, want string }{
		{"an ordinary agent", "one-1", "started", "", "omega: agent one-1 started\n"},
		{"a reason with a new line", "one-1", "refused", "x\nomega: ready 1", "omega: agent one-1 refused x?omega: ready 1\n"},
		{"an instance with spaces", "a started", "refused", "", "omega: agent a_started refused\n"},
		{"escape sequences", "a\x1b[2J", "refused", "\u202e", "omega: agent a?[2J refused ?\n"},
		{"no instance", "", "refused", "not a deployment", "omega: agent ? refused not a deployment\n"},
		{"a long reason", "a", "refused", strings.Repeat("y", 5000), "omega: agent a refused " + strings.Repeat("y", maxForeign) + "\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var out bytes.Buffer
			c := New(func() time.Duration { return 0 })
			c.Attach(&out)
			c.Agent(tt.instance, tt.event, tt.reason)
			if out.String() != tt.want {
				t.Errorf("printed %q, want %q", out.String(), tt.want)
			}
		})
	}
}
