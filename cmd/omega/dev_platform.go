package main

import (
	"bufio"
	"context"
	"crypto/sha512"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"omega/attest/psp"
	"omega/attest/snp"
	"omega/images"
	"omega/internal/cache"
	"omega/policy/compile"
)

// devDigest is what evidence of `omega dev` has in the place of a launch digest.
var devDigest = sha512.Sum384([]byte("omega dev: nothing was measured"))

// devFirmware is what evidence of `omega dev` names as what runs below.
const devFirmware = "none:omega-dev"

// devOptions say what runs.
type devOptions struct {
	Policy *compile.Output
	Roots  []byte // PEM; nil: the public ones
	Config []byte // the launch config's JSON
	Port   int    // on 127.0.0.1; 0: a free one
	OnLine func(string)
}

// A devPlatform is the guest's processes, running on this machine.
type devPlatform struct {
	Port int

	stop  *os.File // closing it ends the platform
	ended chan struct{}
	err   error // once ended
	clean func()
}

// startDev starts the guest's PID 1 in PID and mount namespaces of its own, with
// the payload as its root. It ends with this process, however that ends.
func startDev(ctx context.Context, e *env, o devOptions) (_ *devPlatform, err error) {
	if os.Geteuid() != 0 {
		return nil, errors.New("dev: this needs root, for namespaces and gVisor: sudo omega dev …")
	}
	c, err := cache.Open("")
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(c.Root(), "dev")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("dev: %w", err)
	}
	unlock, err := cache.Lock(ctx, filepath.Join(dir, "lock")) // one at a time uses the payload
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			unlock()
		}
	}()
	payload := filepath.Join(dir, "payload")
	if err := devPayload(ctx, e, c, payload, o); err != nil {
		return nil, err
	}
	files, stop, port, err := devFiles(ctx, e, c, o)
	if err != nil {
		return nil, err
	}
	defer closeFiles(files)
	p := &devPlatform{Port: port, stop: stop, ended: make(chan struct{}), clean: unlock}
	return p, p.start(payload, files, o.OnLine)
}

// devPayload writes the payload. Programs must be reachable by the children's
// own users, so that the folder is open to be passed through.
func devPayload(ctx context.Context, e *env, c *cache.Cache, dir string, o devOptions) error {
	source, err := sourceRoot()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("dev: %w", err)
	}
	return images.Tree(ctx, images.Options{
		Source: source, Out: dir, Cache: c, Roots: o.Roots, Report: e.imageSteps,
		Policy: images.Policy{JSON: o.Policy.JSON, Wasm: o.Policy.Wasm},
	})
}

// devFiles are the descriptors that PID 1 begins with, in the order in which it
// knows them: emulated PSP, listener, launch config, and a pipe whose end stops
// it. The pipe's other end is returned too.
func devFiles(ctx context.Context, e *env, c *cache.Cache, o devOptions) (files []*os.File, stop *os.File, port int, err error) {
	defer func() {
		if err != nil {
			closeFiles(files)
		}
	}()
	report, err := devPSP(ctx, e, c, o)
	if err != nil {
		return nil, nil, 0, err
	}
	files = append(files, report)
	l, err := net.Listen("tcp4", fmt.Sprintf("127.0.0.1:%d", o.Port))
	if err != nil {
		return files, nil, 0, fmt.Errorf("port %d cannot be used: %w (--port N takes another)", o.Port, err)
	}
	defer l.Close()
	port = l.Addr().(*net.TCPAddr).Port
	f, err := l.(*net.TCPListener).File()
	if err != nil {
		return files, nil, 0, fmt.Errorf("dev: %w", err)
	}
	files = append(files, f)
	if f, err = devConfigFile(o.Config); err != nil {
		return files, nil, 0, err
	}
	files = append(files, f)
	end, stop, err := os.Pipe()
	if err != nil {
		return files, nil, 0, fmt.Errorf("dev: %w", err)
	}
	return append(files, end), stop, port, nil
}

// devConfigFile is the launch config as on a config disk, in memory.
func devConfigFile(text []byte) (*os.File, error) {
	if len(text) > maxConfigText {
		return nil, fmt.Errorf("launch config: %d bytes are more than %d", len(text), maxConfigText)
	}
	fd, err := unix.MemfdCreate("launch-config", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("launch config: %w", err)
	}
	f := os.NewFile(uintptr(fd), "launch-config")
	if len(text) > 0 {
		_, err = f.Write(append(binary.BigEndian.AppendUint32([]byte("OMEGACFG"), uint32(len(text))), text...))
	}
	if err == nil {
		_, err = f.Seek(0, io.SeekStart)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("launch config: %w", err), f.Close())
	}
	return f, nil
}

// devPSP serves an emulated PSP on one end of a socket pair. What it calls the
// launch digest is a hash of words: nothing was measured.
func devPSP(ctx context.Context, e *env, c *cache.Cache, o devOptions) (*os.File, error) {
	root, err := psp.LoadOrCreateRoot(filepath.Join(c.Root(), "psp"))
	if err != nil {
		return nil, err
	}
	ends, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("emulated PSP: %w", err)
	}
	ours, theirs := os.NewFile(uintptr(ends[0]), "psp"), os.NewFile(uintptr(ends[1]), "psp")
	conn, err := net.FileConn(ours)
	_ = ours.Close()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("emulated PSP: %w", err), theirs.Close())
	}
	launch := psp.Launch{Digest: devDigest, GuestPolicy: uint64(snp.PolicyStrict), Firmware: devFirmware}
	go func() {
		defer conn.Close()
		if err := root.Serve(ctx, conn, launch); err != nil && ctx.Err() == nil && !errors.Is(err, net.ErrClosed) {
			e.sayf("emulated PSP: %v", err)
		}
	}()
	return theirs, nil
}

func closeFiles(files []*os.File) {
	for _, f := range files {
		_ = f.Close()
	}
}

// start runs PID 1 and reads its console.
func (p *devPlatform) start(payload string, files []*os.File, onLine func(string)) error {
	cmd := exec.Command(filepath.Join(payload, "init"), "dev")
	cmd.Dir, cmd.Env, cmd.ExtraFiles = payload, []string{}, files
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWPID | unix.CLONE_NEWNS | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS,
		Pdeathsig:  syscall.SIGKILL, Setsid: true, // the terminal's Ctrl-C is ours to pass on
	}
	r, w, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("dev: %w", err)
	}
	cmd.Stdout, cmd.Stderr = w, w
	started := make(chan error, 1)
	go func() {
		defer close(p.ended)
		defer p.clean()
		// The signal on death follows the thread that started the child.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		_ = w.Close()
		started <- err
		if err != nil {
			return
		}
		lines := bufio.NewScanner(r)
		for lines.Scan() {
			onLine(lines.Text())
		}
		_ = r.Close()
		p.err = cmd.Wait()
	}()
	if err := <-started; err != nil {
		return fmt.Errorf("dev: starting the platform: %w", err)
	}
	return nil
}

// Stop ends the platform and waits until nothing of it is left.
func (p *devPlatform) Stop() error {
	_ = p.stop.Close()
	select {
	case <-p.ended:
		return p.err
	case <-time.After(stopGrace):
		return errors.New("dev: the platform did not stop")
	}
}
