package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"omega/internal/skip"
)

// TestVMEvidenceOfTheDebugProfileIsRefused boots an image with a shell inside,
// and has a relying party look at it that takes its release for good.
func TestVMEvidenceOfTheDebugProfileIsRefused(t *testing.T) {
	ours := image(t)
	source, err := sourceRoot()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(source, "build", "debug")
	if !built(dir) {
		skip.NotBuilt(t, "debug")
	}
	e := &env{Stdin: strings.NewReader(""), Stdout: io.Discard, Stderr: os.Stderr}
	a, err := build(t.Context(), e, buildOptions{Profile: "debug", Out: dir})
	if err != nil {
		t.Fatal(err)
	}
	v, err := launch(t, bootOptions{Artifacts: dir, Config: config(t, plainConfig)})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := v.WaitLine(vmContext(t), "omega: serving "); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ name, manifest, words string }{
		{"against its own release", a.Manifest, "the image has a shell inside"},
		{"against the release that was asked for", ours + "/manifest.json", "measurement"},
	} {
		code, out, words := omega(t, "verify", fmt.Sprintf("https://127.0.0.1:%d", v.Port), "--manifest", tt.manifest, "--manifest-unsigned", "--allow-emulated", v.Root)
		if code != exitMismatch || !strings.Contains(words, tt.words) || strings.Contains(out, "EMULATED") {
			t.Errorf("%s: exit %d: %s", tt.name, code, words)
		}
	}
	if err := v.Stop(context.Background()); err != nil {
		t.Error(err)
	}
}
