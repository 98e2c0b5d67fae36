package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"omega/attest"
	"omega/init/internal/console"
	"omega/init/internal/launch"
	"omega/init/internal/mount"
	"omega/internal/wire"
)

// `omega dev` runs the guest's processes on a machine that people work at. The
// program is started with devArgument as PID 1 of new PID and mount namespaces,
// in the folder that has the payload, with the descriptors below. What a machine
// has and a process has not is left out: devices, modules, network set-up, power.
// All else is the guest's, line for line.
//
// No guest runs this way: the measured image says profile "dev" in no image that
// is booted, and without that nothing is started.
const (
	devArgument = "dev"
	devProfile  = "dev"
)

// Descriptors that `omega dev` hands over.
const (
	devPSP    = 3 // stream socket of the emulated PSP
	devListen = 4 // listening socket of the front
	devConfig = 5 // the launch config's frame, as on a config disk
	devStop   = 6 // the end of this pipe, or a byte, stops everything
)

// dev is what a guest has that is none.
type dev struct {
	psp, listener *os.File
	config        []byte
}

// runDev is pid1 for `omega dev`. It returns the exit code only if it could not
// begin.
func runDev() int {
	runtime.LockOSThread()
	signal.Ignore(syscall.SIGHUP, syscall.SIGINT, syscall.SIGTERM, syscall.SIGQUIT)
	begin := time.Now()
	g := &guest{
		console: console.New(func() time.Duration { return time.Since(begin) }),
		log:     newLog("pid1", true),
		root1:   os.DirFS("/"),
		clients: map[string]*wire.Client{},
		dev:     &dev{psp: os.NewFile(devPSP, "psp"), listener: os.NewFile(devListen, "listener")},
	}
	if os.Getpid() != 1 {
		g.log.Error("`omega dev` starts this in namespaces of its own")
		return 1
	}
	for fd := devPSP; fd <= devStop; fd++ {
		unix.CloseOnExec(fd)
	}
	g.console.Attach(os.Stdout)
	go g.watchStop(os.NewFile(devStop, "stop"))
	if err := boot(context.Background(), g.console, g.devPhases()); err != nil {
		g.log.Error("boot", "error", console.Plain(err.Error()))
		g.powerOff(reason(err))
	}
	g.watchAgents(context.Background())
	select {}
}

// devPhases is phases without what belongs to a machine.
func (g *guest) devPhases() []phase {
	return []phase{
		{"root", g.devRoot, quick},
		{"entropy", g.entropy, quick},
		{"image", g.devImage, quick},
		{"policy", g.loadPolicy, quick},
		{"keys", g.keys, slow},
		{"log", g.startLog, slow},
		{"config", g.loadConfig, quick},
		{"gpu", func(ctx context.Context) error { return g.claim(ctx, attest.GPUAbsent) }, quick},
		{"front", g.startFront, quick},
		{"gateway", g.startGateway, quick},
		{"agents", g.startAgents, 0},
		{"ready", g.ready, quick},
	}
}

// devRoot makes the working directory, which holds the payload, the root of this
// mount namespace.
func (g *guest) devRoot(context.Context) error {
	b, err := io.ReadAll(io.LimitReader(os.NewFile(devConfig, "config"), launch.MaxConfig+4096))
	if err != nil {
		return fmt.Errorf("launch config: %w", err)
	}
	g.dev.config = b
	if err := mount.Dev(); err != nil {
		return err
	}
	if err := os.Chown(imageDir, uidFetcher, uidFetcher); err != nil {
		return fmt.Errorf("images: %w", err)
	}
	return nil
}

// devImage refuses a payload that is an image's.
func (g *guest) devImage(ctx context.Context) error {
	if err := g.readImage(); err != nil {
		return err
	}
	if g.image.Profile != devProfile {
		return errors.New("this payload is an image's, and not for `omega dev`")
	}
	return nil
}

// watchStop ends everything with the process that started it, or before.
func (g *guest) watchStop(f *os.File) {
	_, _ = f.Read(make([]byte, 1))
	g.powerOff("asked by the host")
}

// sandboxGroup is the cgroup of the sandboxes. A machine that people work at has
// cgroups of its own: agents have no limits there.
func (g *guest) sandboxGroup() string {
	if g.dev != nil {
		return ""
	}
	return sandboxCgroup
}

// verbose says whether the children may say more than warnings.
func (g *guest) verbose() bool { return g.image.Profile == debugProfile || g.dev != nil }

// text is the launch config that came with the process; nil without one.
func (d *dev) text() ([]byte, error) {
	if len(d.config) == 0 {
		return nil, nil
	}
	text, err := launch.ReadFrame(bytes.NewReader(d.config))
	if err != nil {
		return nil, fail("launch config malformed", err)
	}
	return text, nil
}
