package main

import (
	"fmt"
	"os/exec"
	"testing"
)

func TestOnlyAnAbortOfQEMUItselfIsTriedAgain(t *testing.T) {
	tests := []struct {
		script string
		want   bool
	}{
		{"kill -ABRT $$", true},
		{"kill -KILL $$", false},
		{"exit 134", false}, // what a shell would say of an abort
		{"exit 1", false},
	}
	for _, tt := range tests {
		err := exec.CommandContext(t.Context(), "sh", "-c", tt.script).Run()
		if got := aborted(fmt.Errorf("QEMU: %w", err)); got != tt.want {
			t.Errorf("%s: %v, want %v", tt.script, got, tt.want)
		}
	}
	if aborted(nil) || aborted(fmt.Errorf("signal: aborted")) {
		t.Error("an error that is no process's end counts as an abort")
	}
}
