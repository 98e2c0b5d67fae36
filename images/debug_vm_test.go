package images

import (
	"bufio"
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"omega/internal/cache"
	"omega/internal/skip"
)

// debugInitrd is the initramfs of the debug profile, with the policy of the image
// in build/cpu. It is not compressed, which the kernel does not mind.
func debugInitrd(t *testing.T, s *Store) string {
	t.Helper()
	_, files := builtPayload(t)
	p, err := profileNamed("debug")
	if err != nil {
		t.Fatal(err)
	}
	var entries []entry
	for _, f := range p.payload {
		content := files[f.path]
		switch f.from.kind {
		case "identity", "uroot", "program":
			if content, err = s.content(t.Context(), p, f, t.TempDir(), Options{Source: ".."}); err != nil {
				t.Fatal(err)
			}
		}
		entries = append(entries, entry{f, content})
	}
	archive, err := writeArchive(entries)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "initrd")
	if err := os.WriteFile(path, archive, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// The guest of the debug profile has a shell on its console, with u-root's tools.
// Here it has nobody to ask for reports and powers off in the end; before that
// it answers.
func TestTheDebugProfileHasAShell(t *testing.T) {
	if os.Getenv("OMEGA_SKIP_VM") != "" {
		t.Skip("OMEGA_SKIP_VM is set")
	}
	c, err := cache.Open("")
	if err != nil {
		skip.Missing(t, "%v", err)
	}
	s, err := NewStore(c, nil)
	if err != nil {
		t.Fatal(err)
	}
	initrd := debugInitrd(t, s)
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	bin, dirs, err := QEMU(ctx, c, nil)
	if err != nil {
		skip.Missing(t, "%v", err)
	}
	line := append(dirs, "-nodefaults", "-no-user-config", "-machine", "q35,accel=tcg", "-cpu", "max,la57=off", "-m", "1024",
		"-display", "none", "-serial", "stdio", "-no-reboot", "-kernel", At(filepath.Join("..", "build", "cpu")).Kernel,
		"-initrd", initrd, "-append", cmdline)
	cmd := exec.CommandContext(ctx, bin, line...)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Wait() }() // it was killed, or its guest powered off
	defer cancel()
	var said strings.Builder
	for lines := bufio.NewScanner(out); lines.Scan(); {
		said.WriteString(lines.Text() + "\n")
		if strings.Contains(lines.Text(), "this image has a shell inside") {
			// What is typed comes back on the console; the sum does not.
			if _, err := io.WriteString(in, "\rcat /etc/omega/image.json; echo sum=$((40+2))\r"); err != nil {
				t.Fatal(err)
			}
		}
		if strings.Contains(lines.Text(), "sum=42") {
			break
		}
	}
	for _, want := range []string{`"profile":"debug"`, "sum=42"} {
		if !strings.Contains(said.String(), want) {
			t.Errorf("the console lacks %q:\n%s", want, said.String())
		}
	}
}
