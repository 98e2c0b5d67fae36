package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"omega/cmd/omega/internal/qemu"
)

const (
	// readyTimeout is how long one machine may take, under TCG on a busy host.
	readyTimeout = 5 * time.Minute
	// memoryBudget is what the idle platform may keep: processes and files.
	memoryBudget = 128 << 20
)

// bootTimes are what several boots took, in milliseconds: from the start of the
// kernel by the guest's own clock, or from the start of QEMU by ours.
type bootTimes struct {
	pid1, emptyPID1, serving, ready, stock []float64
	accel                                  string
}

// benchBoot boots the platform without agents and, turn by turn in the same run,
// what it is compared with: its kernel with an initramfs of the same size and a
// PID 1 that does nothing, and a stock Debian with systemd and containerd.
func benchBoot(ctx context.Context, e *env, o benchOptions) ([]benchRow, error) {
	dir, err := bootArtifacts(ctx, e, "", o.Profile)
	if err != nil {
		return nil, err
	}
	empty, err := os.MkdirTemp("", "omega-bench-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(empty)
	if err := emptyVariant(ctx, dir, empty); err != nil {
		return nil, err
	}
	debian, err := stockDebian(ctx, e)
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if err != nil {
		e.sayf("the stock Debian that the boot is compared with could not be made: %v", err)
	}
	times, err := bootInTurns(ctx, e, o.Runs, dir, empty, debian)
	if err != nil {
		return nil, err
	}
	memory, err := idleMemory(ctx, e, empty)
	if err != nil {
		return nil, err
	}
	return append(bootRows(times, debian), memory), nil
}

// bootRows makes rows of what was measured.
func bootRows(times *bootTimes, debian *stockSystem) []benchRow {
	pid1 := benchRow{
		Name: "boot/pid1/" + times.accel, Ours: median(times.pid1), Unit: "ms",
		Published: "microVM below 100 ms with KVM (microsandbox README)",
	}.versus("same kernel, an empty init in an initramfs of the same size", median(times.emptyPID1))
	serving := benchRow{
		Name: "boot/serving/" + times.accel, Ours: median(times.serving), Unit: "ms",
		Published: "CVM 8240 ms: QEMU 1170, OVMF 3990, Linux 3080 (arXiv 2504.21518, authors' data)",
	}
	if len(times.stock) > 0 {
		serving = serving.versus(debian.words+", to containerd started", median(times.stock))
	}
	return []benchRow{pid1, serving, {Name: "boot/ready/" + times.accel, Ours: median(times.ready), Unit: "ms"}}
}

// emptyVariant is the image in dir with the probe as its PID 1, in the folder to.
func emptyVariant(ctx context.Context, dir, to string) error {
	probe, err := buildProbe(ctx)
	if err != nil {
		return err
	}
	return variant(dir, to, map[string]func([]byte) ([]byte, error){
		"initrd": func(initrd []byte) ([]byte, error) { return withProbe(initrd, probe) },
	})
}

// bootInTurns boots each of the machines once a run, so that whatever else the
// host does meets all of them.
func bootInTurns(ctx context.Context, e *env, runs int, dir, empty string, debian *stockSystem) (*bootTimes, error) {
	times := &bootTimes{}
	bar := e.progress("booting")
	defer bar.Done()
	for n := range runs {
		bar.Set(int64(n), int64(runs))
		if err := times.platform(ctx, e, dir); err != nil {
			return nil, err
		}
		if err := times.empty(ctx, e, empty); err != nil {
			return nil, err
		}
		if debian == nil {
			continue
		}
		ms, err := debian.boot(ctx, times.accel)
		if err != nil {
			return nil, err
		}
		times.stock = append(times.stock, ms)
	}
	return times, nil
}

// platform boots the platform until it is ready.
func (b *bootTimes) platform(ctx context.Context, e *env, dir string) (err error) {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	var seen stamps
	v, err := startVM(ctx, e, bootOptions{Artifacts: dir, OnLine: seen.add})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, v.Stop(context.WithoutCancel(ctx))) }()
	if _, err := v.WaitLine(ctx, "omega: ready "); err != nil {
		return err
	}
	pid1, err := uptimeOf(ctx, v, "pid1")
	if err != nil {
		return err
	}
	b.accel = v.Accel
	b.pid1 = append(b.pid1, pid1)
	b.serving = append(b.serving, seen.since(v.Began, "omega: serving "))
	b.ready = append(b.ready, seen.since(v.Began, "omega: ready "))
	return nil
}

// empty boots the kernel with the PID 1 that only says that it is there.
func (b *bootTimes) empty(ctx context.Context, e *env, dir string) error {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	v, err := startVM(ctx, e, bootOptions{Artifacts: dir})
	if err != nil {
		return err
	}
	ms, err := uptimeOf(ctx, v, "pid1")
	if err != nil {
		return errors.Join(err, v.Stop(context.WithoutCancel(ctx)))
	}
	b.emptyPID1 = append(b.emptyPID1, ms)
	return v.Wait(ctx)
}

// uptimeOf reads the milliseconds at the end of the line "omega: MARK MS".
func uptimeOf(ctx context.Context, v *vm, mark string) (float64, error) {
	line, err := v.WaitLine(ctx, "omega: "+mark+" ")
	if err != nil {
		return 0, err
	}
	return uptimeIn(line, mark)
}

// uptimeIn reads the milliseconds at the end of "omega: MARK MS".
func uptimeIn(line, mark string) (float64, error) {
	text, ok := strings.CutPrefix(line, "omega: "+mark+" ")
	ms, err := strconv.ParseUint(strings.TrimSpace(text), 10, 32)
	if !ok || err != nil {
		return 0, fmt.Errorf("console line %q names no time", line)
	}
	return float64(ms), nil
}

// stamps are console lines with the time at which they came.
type stamps struct {
	mu    sync.Mutex // guards what follows
	lines []string
	times []time.Time
}

func (s *stamps) add(line string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lines, s.times = append(s.lines, line), append(s.times, time.Now())
}

// since is how many milliseconds after begin the first line with a prefix came;
// 0 if none came.
func (s *stamps) since(begin time.Time, prefix string) float64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, l := range s.lines {
		if strings.HasPrefix(l, prefix) {
			return float64(s.times[i].Sub(begin).Milliseconds())
		}
	}
	return 0
}

// readings is how often the idle platform's memory is read; the last one counts.
const readings = 4

// idleMemory boots the platform beside a watcher in its guest, and reads what
// its processes and its files in memory take.
func idleMemory(ctx context.Context, e *env, empty string) (_ benchRow, err error) {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	heard := make(chan string, 256)
	v, err := startVM(ctx, e, bootOptions{
		Artifacts: empty,
		Arrange:   func(m *qemu.Machine) { m.Cmdline += " -- meter" },
		OnLine: func(l string) {
			select {
			case heard <- l:
			default: // nobody reads any more
			}
		},
	})
	if err != nil {
		return benchRow{}, err
	}
	defer func() { err = errors.Join(err, v.Stop(context.WithoutCancel(ctx))) }()
	ready, left := false, readings
	for {
		select {
		case <-ctx.Done():
			return benchRow{}, fmt.Errorf("memory of the idle platform: %w", ctx.Err())
		case <-v.Done():
			return benchRow{}, fmt.Errorf("memory of the idle platform: the machine ended:\n%s", v.Last())
		case line := <-heard:
			ready = ready || strings.HasPrefix(line, "omega: ready ")
			kib, ok := memoryIn(line)
			if !ready || !ok {
				continue
			}
			if left--; left > 0 {
				continue
			}
			row := benchRow{Name: "boot/idle-memory", Ours: float64(kib << 10), Unit: "bytes"}
			return row.versus("budget", memoryBudget), nil
		}
	}
}

// memoryIn sums what the probe's meter says, in KiB.
func memoryIn(line string) (int64, bool) {
	var anonymous, mapped, files int64
	n, err := fmt.Sscanf(line, "probe: memory anonymous %d mapped %d files %d", &anonymous, &mapped, &files)
	return anonymous + mapped + files, err == nil && n == 3 && anonymous > 0
}
