package main

import (
	"bytes"
	"context"
	"encoding/json"
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
	rebuild, lines, err := timeRebuild(ctx, e, source, o)
	if err != nil {
		return nil, err
	}
	return append(rows,
		benchRow{Name: "image/guest-code", Ours: float64(lines), Unit: "lines"},
		benchRow{Name: "image/rebuild-after-change-to-init", Ours: rebuild, Unit: "ms"}.versus("budget", rebuildBudget)), nil
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

// timeRebuild is how many milliseconds `omega build` takes, with everything else
// in the cache, after one line of init was changed, and how many lines of our own
// code it counts in the guest. It builds in a copy of the tree.
func timeRebuild(ctx context.Context, e *env, source string, o benchOptions) (ms float64, lines int, err error) {
	bar := e.progress("building again after a change")
	defer bar.Done()
	tree, err := os.MkdirTemp("", "omega-bench-")
	if err != nil {
		return 0, 0, err
	}
	defer os.RemoveAll(tree)
	if err := copyTree(ctx, source, tree); err != nil {
		return 0, 0, err
	}
	first, err := buildIn(ctx, tree, o.Profile) // warms what a developer has warm
	if err != nil {
		return 0, 0, err
	}
	before := first.initrd
	var times []float64
	for n := range o.Runs {
		bar.Set(int64(n), int64(o.Runs))
		if err := changeInit(tree); err != nil {
			return 0, 0, err
		}
		begin := time.Now()
		built, err := buildIn(ctx, tree, o.Profile)
		if err != nil {
			return 0, 0, err
		}
		times = append(times, float64(time.Since(begin).Milliseconds()))
		if bytes.Equal(before, built.initrd) {
			return 0, 0, errors.New("building again: the change did not get into the image")
		}
		before = built.initrd
		if err := forgetInitrd(built.initrd); err != nil {
			return 0, 0, err
		}
	}
	return median(times), first.GuestCode.Lines, nil
}

// A benchBuild is what one build printed, and its initramfs.
type benchBuild struct {
	buildResult
	initrd []byte
}

// buildIn runs this program's build in a source tree.
func buildIn(ctx context.Context, tree, profile string) (*benchBuild, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	out := filepath.Join(tree, "build", "bench")
	cmd := exec.CommandContext(ctx, self, "build", "--json", "--profile", profile, "--out", out)
	var words bytes.Buffer
	cmd.Dir, cmd.Stderr = tree, &words
	text, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("building again: %w: %s", err, words.Bytes())
	}
	b := new(benchBuild)
	if err := json.Unmarshal(text, &b.buildResult); err != nil {
		return nil, fmt.Errorf("building again: %w", err)
	}
	b.initrd, err = os.ReadFile(images.At(out).Initrd)
	return b, err
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
