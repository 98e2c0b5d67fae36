package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"omega/init/internal/cgroup"
	"omega/init/internal/clock"
	"omega/init/internal/entropy"
	"omega/init/internal/mount"
	"omega/init/internal/sysctl"
	"omega/internal/strictjson"
)

// Paths of the guest.
const (
	consolePath = "/dev/console"
	imageFile   = "/etc/omega/image.json"
	cgroupDir   = "/sys/fs/cgroup"
)

// imageInfo is what the measured image says of itself.
type imageInfo struct {
	Version   string    `json:"version"`
	Profile   string    `json:"profile"`
	SVN       uint32    `json:"svn"`
	BuildTime time.Time `json:"build_time"`
}

const (
	imageVersion = "omega/image/v1"
	debugProfile = "debug" // measures differently, and verifiers refuse it by default
)

func (g *guest) mount(context.Context) error { return mount.All(false) }

// root leaves the initramfs, mounts the rest and seals what was measured.
func (g *guest) root(context.Context) error {
	for _, step := range []func() error{mount.Leave, func() error { return mount.All(true) }, mount.Seal} {
		if err := step(); err != nil {
			return err
		}
	}
	if err := os.Chown(imageDir, uidFetcher, uidFetcher); err != nil {
		return fmt.Errorf("images: %w", err)
	}
	if err := sysctl.Set("/proc/sys", sysctl.Table); err != nil {
		return err
	}
	return cgroup.Tree{Dir: cgroupDir}.Prepare()
}

// openConsole makes the console stdout and stderr, and /dev/null stdin.
func (g *guest) openConsole(context.Context) error {
	out, err := os.OpenFile(consolePath, os.O_WRONLY|unix.O_NOCTTY, 0)
	if err != nil {
		return err
	}
	in, err := os.Open(os.DevNull)
	if err != nil {
		return err
	}
	for fd, f := range []*os.File{in, out, out} {
		if err := unix.Dup3(int(f.Fd()), fd, 0); err != nil && !errors.Is(err, unix.EINVAL) {
			return fmt.Errorf("standard descriptor %d: %w", fd, err)
		}
	}
	g.console.Attach(os.Stdout)
	go g.watchPower()
	return nil
}

// entropyPatience is how long the kernel may take to seed its generator.
const entropyPatience = 10 * time.Second

// entropy demands randomness of the CPU's own and makes the boot id with it.
func (g *guest) entropy(context.Context) error {
	if err := entropy.Require(entropyPatience); err != nil {
		return fail("no trustworthy randomness", err)
	}
	_, err := rand.Read(g.bootID[:])
	return err
}

// time reads when the image was built and moves the clock there, if the host's
// clock is behind.
func (g *guest) time(context.Context) error {
	if err := g.readImage(); err != nil {
		return err
	}
	if _, err := clock.Set(g.image.BuildTime); err != nil {
		return err
	}
	return g.debugShell()
}

// readImage reads what the image says of itself.
func (g *guest) readImage() error {
	b, err := readBounded(imageFile)
	if err != nil {
		return err
	}
	if err := strictjson.Decode(b, &g.image, strictjson.Limits{}); err != nil {
		return fmt.Errorf("%s: %w", imageFile, err)
	}
	if g.image.Version != imageVersion || g.image.Profile == "" {
		return fmt.Errorf("%s: version %q, profile %q", imageFile, g.image.Version, g.image.Profile)
	}
	return nil
}

func (g *guest) loadPolicy(context.Context) error {
	p, err := readPolicy("")
	if err != nil {
		return fail("policy unusable", err)
	}
	g.policy = p
	return nil
}
