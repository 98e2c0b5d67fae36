// Package cell is the last of our own code before the program of a native sandbox:
// started as root in namespaces of its own, it mounts what the program may see, gives
// up every right with Landlock, capabilities and seccomp, and becomes the shim.
//
// It trusts its plan, which sandboxd made of what was verified. It starts nothing
// beside the shim, and returns only when something failed.
package cell

import (
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"

	"omega/agentloader/sandbox"
	"omega/init/internal/blockfile"
	"omega/init/internal/jail"
	"omega/init/internal/landlock"
	"omega/init/internal/netcfg"
	"omega/init/internal/seccomp"
)

// maxPlan bounds what is read of the plan; its parser refuses more.
const maxPlan = 8 << 20

// Enter reads a plan from in and becomes the program that it names.
func Enter(in io.Reader) error {
	runtime.LockOSThread() // Landlock holds for the thread that executes
	text, err := io.ReadAll(io.LimitReader(in, maxPlan))
	if err != nil {
		return fmt.Errorf("plan: %w", err)
	}
	p, err := sandbox.ParsePlan(text)
	if err != nil {
		return err
	}
	for _, step := range []func(*sandbox.Plan) error{mountRoot, mountOwn, mountFiles, moveIn, network, confine} {
		if err := step(p); err != nil {
			return err
		}
	}
	return fmt.Errorf("becoming the shim: %w", syscall.Exec(p.Command[0], p.Command, p.Env))
}

// mountRoot mounts the image. The kernel reads an EROFS image that our own code
// wrote of verified layers.
func mountRoot(p *sandbox.Plan) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("private mounts: %w", err)
	}
	image := os.NewFile(sandbox.NativeImageFD, "image")
	defer image.Close()
	loop, err := blockfile.Loop(image)
	if err != nil {
		return err
	}
	defer loop.Close() // the mount keeps it, and gives it up
	const flags = unix.MS_RDONLY | unix.MS_NOSUID | unix.MS_NODEV
	if err := unix.Mount(loop.Name(), p.Root, "erofs", flags, ""); err != nil {
		return fmt.Errorf("mounting the image: %w", err)
	}
	return nil
}

// devices are the nodes that every program expects.
var devices = []string{"/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom"}

// mountOwn mounts what is the sandbox's own: processes, scratch, a few devices.
func mountOwn(p *sandbox.Plan) error {
	const plain = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC
	for _, m := range []struct {
		fs, dir, data string
		flags         uintptr
	}{
		{"proc", "/proc", "hidepid=2", plain},
		{"tmpfs", "/tmp", fmt.Sprintf("mode=1777,size=%d", p.Scratch), plain},
		{"tmpfs", "/dev", "mode=755,size=64k", unix.MS_NOSUID | unix.MS_NOEXEC},
	} {
		if err := unix.Mount(m.fs, p.Root+m.dir, m.fs, m.flags, m.data); err != nil {
			return fmt.Errorf("mounting %s: %w", m.dir, err)
		}
	}
	for _, d := range append(append([]string{}, devices...), p.Devices...) {
		if err := bind(d, p.Root+d, 0); err != nil {
			return fmt.Errorf("device %s: %w", d, err)
		}
	}
	return nil
}

// mountFiles shows the model and the adapters, read-only.
func mountFiles(p *sandbox.Plan) error {
	made := map[string]bool{}
	for _, f := range p.Files {
		dir := p.Root + filepath.Dir(f.Path)
		if !made[dir] {
			made[dir] = true
			if err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "mode=755,size=64k"); err != nil {
				return fmt.Errorf("folder %s: %w", filepath.Dir(f.Path), err)
			}
		}
		if err := bind(f.Source, p.Root+f.Path, unix.MS_RDONLY|unix.MS_NODEV); err != nil {
			return fmt.Errorf("file %s: %w", f.Path, err)
		}
	}
	return nil
}

// bind shows a file or device at another place.
func bind(from, to string, more uintptr) error {
	if err := os.WriteFile(to, nil, 0o444); err != nil {
		return err
	}
	if err := unix.Mount(from, to, "", unix.MS_BIND, ""); err != nil {
		return err
	}
	return unix.Mount("", to, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_NOSUID|unix.MS_NOEXEC|more, "")
}

// moveIn makes the image the root and lets go of everything else (pivot_root(2)).
func moveIn(p *sandbox.Plan) error {
	if err := unix.Chdir(p.Root); err != nil {
		return fmt.Errorf("entering the root: %w", err)
	}
	if err := unix.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("changing root: %w", err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("leaving the old root: %w", err)
	}
	if err := unix.Chdir(p.Dir); err != nil {
		return fmt.Errorf("working directory: %w", err)
	}
	return nil
}

// network brings up the loopback, which is all the network that there is.
func network(p *sandbox.Plan) error {
	if _, err := netcfg.Up("lo"); err != nil {
		return err
	}
	if err := unix.Sethostname([]byte(p.Hostname)); err != nil {
		return fmt.Errorf("host name: %w", err)
	}
	null, err := os.OpenFile("/dev/null", os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer null.Close()
	return unix.Dup2(int(null.Fd()), 0)
}

// confine gives up all rights. What it installs stays through the exec.
func confine(p *sandbox.Plan) error {
	// Whatever else a parent had open ends here.
	if err := unix.CloseRange(sandbox.NativeEndFD, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC); err != nil {
		return fmt.Errorf("descriptors: %w", err)
	}
	tasks := uint64(p.Tasks)
	if err := syscall.Setrlimit(unix.RLIMIT_NPROC, &syscall.Rlimit{Cur: tasks, Max: tasks}); err != nil {
		return fmt.Errorf("tasks: %w", err)
	}
	rules := landlock.Rules{Read: []string{"/"}, Write: append([]string{"/tmp", "/dev/null"}, p.Devices...), Ports: p.Ports}
	if err := rules.Restrict(); err != nil {
		return err
	}
	list := seccomp.Native
	if len(p.Devices) > 0 {
		list = seccomp.NativeDevice
	}
	filter, err := seccomp.AllowOld(list, seccomp.NativeAbsent)
	if err != nil {
		return err
	}
	own := &jail.Jail{UID: p.UID, Filter: filter}
	if os.Geteuid() != 0 {
		return errors.New("not root: nothing could be given up")
	}
	return own.Enter()
}
