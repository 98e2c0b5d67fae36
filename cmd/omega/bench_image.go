package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"omega/images"
	"omega/internal/cache"
)

// Budgets of the image. Tests hold the sizes to them.
const (
	payloadBudget = 24 << 20 // kernel and initramfs
	kernelBudget  = 6 << 20
	elfBudget     = 3     // programs in the initramfs
	rebuildBudget = 15000 // ms for `make image` after a change to init
)

// guestPrograms are the packages of ours that the image has programs of.
var guestPrograms = []string{"./init", "./agentloader/shim"}

// benchImage measures what is measured at launch, every byte of which is
// trusted, and how long a developer waits for it.
func benchImage(ctx context.Context, e *env, o benchOptions) ([]benchRow, error) {
	dir, err := bootArtifacts(ctx, e, "", o.Profile)
	if err != nil {
		return nil, err
	}
	source, err := sourceRoot()
	if err != nil {
		return nil, err
	}
	rows, err := sizeRows(images.At(dir))
	if err != nil {
		return nil, err
	}
	lines, err := guestLines(ctx, source)
	if err != nil {
		return nil, err
	}
	rows = append(rows, benchRow{Name: "image/guest-code", Ours: float64(lines), Unit: "lines"})
	rebuild, err := timeRebuild(ctx, e, source, o)
	if err != nil {
		return nil, err
	}
	row := benchRow{Name: "image/rebuild-after-change-to-init", Ours: rebuild, Unit: "ms"}
	return append(rows, row.versus("budget", rebuildBudget)), nil
}

// sizeRows are the sizes of the artifacts and of what is in the initramfs.
func sizeRows(a *images.Artifacts) ([]benchRow, error) {
	kernel, err := fileSize(a.Kernel)
	if err != nil {
		return nil, err
	}
	initrd, err := os.ReadFile(a.Initrd)
	if err != nil {
		return nil, err
	}
	records, err := readPayload(initrd)
	if err != nil {
		return nil, err
	}
	programs, unpacked := 0, 0
	for _, r := range records {
		head := make([]byte, 4)
		if n, _ := r.ReadAt(head, 0); n == len(head) && string(head) == "\x7fELF" {
			programs++
		}
		unpacked += int(r.FileSize)
	}
	size := float64(len(initrd))
	return []benchRow{
		benchRow{Name: "image/payload", Ours: kernel + size, Unit: "bytes"}.versus("budget", payloadBudget),
		benchRow{Name: "image/kernel", Ours: kernel, Unit: "bytes"}.versus("budget", kernelBudget),
		{Name: "image/initramfs", Ours: size, Unit: "bytes"},
		{Name: "image/initramfs-unpacked", Ours: float64(unpacked), Unit: "bytes"},
		benchRow{Name: "image/programs", Ours: float64(programs), Unit: "ELF files"}.versus("budget", elfBudget),
	}, nil
}

func fileSize(path string) (float64, error) {
	info, err := os.Stat(path)
	if err != nil {
		return 0, err
	}
	return float64(info.Size()), nil
}

// guestLines counts the lines of our own Go code in the guest's programs, tests
// not among them.
func guestLines(ctx context.Context, source string) (int, error) {
	cmd := exec.CommandContext(ctx, "go", append([]string{
		"list", "-deps", "-f", `{{$dir := .Dir}}{{with .Module}}{{if .Main}}{{range $.GoFiles}}{{$dir}}/{{.}}{{"\n"}}{{end}}{{end}}{{end}}`,
	}, guestPrograms...)...)
	cmd.Dir, cmd.Env = source, append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-buildvcs=false")
	out, err := cmd.Output()
	if err != nil {
		return 0, fmt.Errorf("listing the guest's code: %w", err)
	}
	lines := 0
	for _, path := range strings.Fields(string(out)) {
		b, err := os.ReadFile(path)
		if err != nil {
			return 0, err
		}
		lines += bytes.Count(b, []byte("\n"))
	}
	if lines == 0 {
		return 0, errors.New("listing the guest's code: there is none")
	}
	return lines, nil
}

// timeRebuild is how many milliseconds `omega build` takes, with everything else
// in the cache, after one line of init was changed. It builds in a copy.
func timeRebuild(ctx context.Context, e *env, source string, o benchOptions) (float64, error) {
	bar := e.progress("building again after a change")
	defer bar.Done()
	tree, err := os.MkdirTemp("", "omega-bench-")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(tree)
	if err := copyTree(ctx, source, tree); err != nil {
		return 0, err
	}
	self, err := os.Executable()
	if err != nil {
		return 0, err
	}
	out := filepath.Join(tree, "build", "bench")
	build := func() error {
		cmd := exec.CommandContext(ctx, self, "build", "--profile", o.Profile, "--out", out)
		cmd.Dir = tree
		if said, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("building again: %w: %s", err, said)
		}
		return nil
	}
	if err := build(); err != nil { // warms what a developer has warm
		return 0, err
	}
	var times []float64
	for n := range o.Runs {
		bar.Set(int64(n), int64(o.Runs))
		before, err := os.ReadFile(images.At(out).Initrd)
		if err != nil {
			return 0, err
		}
		if err := changeInit(tree); err != nil {
			return 0, err
		}
		begin := time.Now()
		if err := build(); err != nil {
			return 0, err
		}
		times = append(times, float64(time.Since(begin).Milliseconds()))
		after, err := os.ReadFile(images.At(out).Initrd)
		if err != nil {
			return 0, err
		}
		if bytes.Equal(before, after) {
			return 0, errors.New("building again: the change did not get into the image")
		}
		if err := forgetInitrd(after); err != nil {
			return 0, err
		}
	}
	return median(times), nil
}

// copyTree copies what git would, and what it has not been told of yet.
func copyTree(ctx context.Context, from, to string) error {
	list := exec.CommandContext(ctx, "git", "-C", from, "ls-files", "-z", "--cached", "--others", "--exclude-standard")
	names, err := list.Output()
	if err != nil {
		return fmt.Errorf("listing the source tree: %w", err)
	}
	for _, name := range strings.Split(strings.Trim(string(names), "\x00"), "\x00") {
		b, err := os.ReadFile(filepath.Join(from, name))
		if errors.Is(err, os.ErrNotExist) {
			continue // removed, and git does not know it
		}
		if err != nil {
			return err
		}
		path := filepath.Join(to, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, b, 0o644)); err != nil {
			return err
		}
	}
	return nil
}

// changeInit changes one line of the guest's PID 1, to one that it never had.
func changeInit(tree string) error {
	const line = `it does nothing elsewhere`
	path := filepath.Join(tree, "init", "main.go")
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if !bytes.Contains(b, []byte(line)) {
		return fmt.Errorf("%s has no line to change", path)
	}
	return os.WriteFile(path, bytes.Replace(b, []byte(line), fmt.Appendf(nil, "%d, %s", time.Now().UnixNano(), line), 1), 0o644)
}

// forgetInitrd takes an initramfs out of the cache that nobody builds again.
func forgetInitrd(initrd []byte) error {
	c, err := cache.Open("")
	if err != nil {
		return err
	}
	names, err := filepath.Glob(filepath.Join(c.Root(), "initramfs", "*", "initrd"))
	if err != nil {
		return err
	}
	for _, name := range names {
		info, err := os.Stat(name)
		if err != nil || info.Size() != int64(len(initrd)) {
			continue
		}
		b, err := os.ReadFile(name)
		if err == nil && bytes.Equal(b, initrd) {
			return os.RemoveAll(filepath.Dir(name))
		}
	}
	return nil
}
