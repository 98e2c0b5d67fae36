package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/signal"
	"runtime"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"omega/attest"
	"omega/init/internal/clock"
	"omega/init/internal/console"
	"omega/internal/wire"
)

// guest is PID 1's whole state. Each phase fills what the later ones use.
type guest struct {
	console *console.Console
	log     *slog.Logger
	root1   fs.FS // the guest's root, for looking at devices

	nursery *nursery
	clients map[string]*wire.Client // one for each child that runs

	image    imageInfo
	policy   *measuredPolicy
	bootID   attest.Bytes16
	hostData [32]byte
	origin   string
	logKey   attest.Bytes32
	config   launchConfig
	digest   [32]byte // of the launch config's text; zero without one
	off      sync.Once

	dev *dev // not a machine: `omega dev`
}

// pid1 boots the machine and never returns.
func pid1() {
	// Pdeathsig follows the thread that started a child.
	runtime.LockOSThread()
	// PID 1 has no default actions of its own, but the Go runtime gives it some.
	signal.Ignore(syscall.SIGHUP, syscall.SIGINT, syscall.SIGTERM, syscall.SIGQUIT)
	g := &guest{
		console: console.New(clock.Uptime),
		log:     newLog("pid1", true),
		root1:   os.DirFS("/"),
		clients: map[string]*wire.Client{},
	}
	g.console.Mark("pid1")
	if err := boot(context.Background(), g.console, g.phases()); err != nil {
		g.log.Error("boot", "error", console.Plain(err.Error()))
		g.powerOff(reason(err))
	}
	g.watchAgents(context.Background())
	select {}
}

// powerOff ends the machine, with the reason on the console. Whoever calls it
// second waits for the end.
func (g *guest) powerOff(reason string) {
	g.off.Do(func() {
		g.console.Say("poweroff: " + reason)
		if g.dev != nil {
			os.Exit(0) // the namespace goes, and everything in it
		}
		g.drainConsole()
		unix.Sync()
		if err := unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF); err != nil {
			g.console.Say("poweroff: the kernel refused")
		}
	})
	select {}
}

// drainConsole lets the last lines out and attaches a console if none was: the
// first phases may have failed.
func (g *guest) drainConsole() {
	f, err := os.OpenFile(consolePath, os.O_WRONLY|unix.O_NOCTTY, 0)
	if err != nil {
		return
	}
	g.console.AttachFirst(f)
	// TCSBRK with 1 is tcdrain (ioctl_tty(2)).
	_ = unix.IoctlSetInt(int(f.Fd()), unix.TCSBRK, 1)
}

// startReaper makes the death of a child that should live power the machine
// off. Orphans are reaped in silence.
func (g *guest) startReaper() {
	died := make(chan os.Signal, 1)
	signal.Notify(died, syscall.SIGCHLD)
	go func() {
		for range died {
			g.reapAll()
		}
	}()
}

func (g *guest) reapAll() {
	for {
		name, status, err := g.nursery.reap()
		if err != nil {
			return
		}
		if s := find(name); s != nil && !s.once {
			g.log.Error("child ended", "name", name, "exit", status.ExitStatus(), "signal", int(status.Signal()))
			g.powerOff("child " + name + " ended")
		}
	}
}

// start starts children of the table. Several at once come up side by side; each
// waits for its start message.
func (g *guest) start(names ...string) error {
	for _, name := range names {
		cl, err := g.nursery.start(find(name))
		if err != nil {
			return err
		}
		g.clients[name] = cl
	}
	return nil
}

// call asks a child; files are closed.
func (g *guest) call(ctx context.Context, name, op string, req, reply any, files ...*os.File) error {
	defer func() {
		for _, f := range files {
			f.Close()
		}
	}()
	cl := g.clients[name]
	if cl == nil {
		return fmt.Errorf("child %s is not running", name)
	}
	back, err := cl.Call(ctx, op, req, reply, files...)
	for _, f := range back {
		f.Close()
	}
	if err != nil {
		return fmt.Errorf("child %s: %w", name, err)
	}
	return nil
}

// errNoDevice reports that the host gave no device of a kind that is needed.
var errNoDevice = errors.New("no such device")
