package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"

	"omega/attest/measure"
	"omega/attest/psp"
	"omega/attest/snp"
	"omega/cmd/omega/internal/qemu"
	"omega/images"
	"omega/internal/cache"
)

// What really runs below the kernel in a plain guest; emulated evidence tells
// it. Which SeaBIOS lies beside a QEMU that is not the pinned one is not known.
const (
	pinnedSeaBIOS = "seabios-1.16.3"
	otherSeaBIOS  = "seabios"
)

// preparedVM is a machine whose files are private copies of what was measured.
type preparedVM struct {
	dir     string // private folder
	binary  string
	machine qemu.Machine
	launch  psp.Launch
	root    *psp.Root
	rootPEM string
	accel   string
}

func (p *preparedVM) remove() { _ = os.RemoveAll(p.dir) }

// startAttempts is how often a machine is started whose QEMU aborts at once.
const startAttempts = 3

// startVM boots a guest and returns once it has printed its first line. The
// caller stops it. QEMU's TCG with more than one vCPU aborts now and then while
// the firmware runs (iotlb_to_section, QEMU issue 1921): that is tried again.
func startVM(ctx context.Context, e *env, o bootOptions) (*vm, error) {
	for attempt := 1; ; attempt++ {
		v, err := tryVM(ctx, e, o)
		if err == nil || attempt == startAttempts || !aborted(err) {
			return v, err
		}
		e.sayf("QEMU aborted before the guest began, which is a fault of QEMU's; starting it again")
	}
}

// aborted reports whether QEMU itself was what ended a machine.
func aborted(err error) bool {
	var exited *exec.ExitError
	if !errors.As(err, &exited) {
		return false
	}
	status, ok := exited.Sys().(syscall.WaitStatus)
	return ok && status.Signaled() && status.Signal() == syscall.SIGABRT
}

// tryVM is startVM once.
func tryVM(ctx context.Context, e *env, o bootOptions) (*vm, error) {
	p, err := prepareVM(ctx, e, o)
	if err != nil {
		return nil, err
	}
	port := p.machine.Port
	if o.Arrange != nil {
		o.Arrange(&p.machine)
	}
	stopPSP, err := p.servePSP(e)
	if err != nil {
		p.remove()
		return nil, err
	}
	cleanup := sync.OnceFunc(func() { stopPSP(); p.remove() })
	// Not ctx: a guest that we stop ourselves gets its time after Ctrl-C.
	proc, err := qemu.Start(context.WithoutCancel(ctx), p.binary, p.machine, p.dir, o.OnLine)
	if err != nil {
		cleanup()
		return nil, err
	}
	v := &vm{
		Process: proc, Port: port, Root: p.rootPEM, Accel: p.accel,
		digest: p.launch.Digest, dir: p.dir, cleanup: cleanup,
	}
	if err := v.firstLine(ctx); err != nil {
		_ = proc.Stop(context.Background(), 0)
		cleanup()
		return nil, err
	}
	return v, nil
}

// firstLine tells a guest that boots from one that never will.
func (v *vm) firstLine(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, firstLine)
	defer cancel()
	_, err := v.WaitLine(ctx, "omega: pid1 ")
	if errors.Is(err, qemu.ErrEnded) {
		<-v.Done()
		return errors.Join(fmt.Errorf("the guest's init did not start: %w", err), v.Err())
	}
	if err != nil {
		return fmt.Errorf("the guest's init did not start: %w", err)
	}
	return nil
}

// prepareVM makes everything that is needed before QEMU starts.
func prepareVM(ctx context.Context, e *env, o bootOptions) (_ *preparedVM, err error) {
	c, err := cache.Open("")
	if err != nil {
		return nil, err
	}
	dir, err := qemu.Private()
	if err != nil {
		return nil, fmt.Errorf("folder for the machine: %w", err)
	}
	p := &preparedVM{dir: dir}
	defer func() {
		if err != nil {
			p.remove()
		}
	}()
	var firmware []string
	if p.binary, firmware, err = images.QEMU(ctx, c, e.imageSteps); err != nil {
		return nil, err
	}
	p.machine = qemu.Machine{Firmware: firmware, Memory: o.Memory, CPUs: o.CPUs, LogDisk: o.LogDisk, LayoutDisk: o.Layout, Disks: o.Disks, Input: o.Input}
	if p.machine.Memory == 0 {
		p.machine.Memory = defaultMemory
	}
	if p.machine.CPUs == 0 {
		p.machine.CPUs = defaultVCPUs
	}
	if err := checkLogDisk(o.LogDisk); err != nil {
		return nil, err
	}
	for _, disk := range append([]string{o.Layout}, o.Disks...) {
		if err := checkDisk(disk); err != nil {
			return nil, err
		}
	}
	if p.machine.Port, err = freePort(o.Port); err != nil {
		return nil, err
	}
	a := images.At(o.Artifacts)
	in, err := p.copyArtifacts(a)
	if err != nil {
		return nil, err
	}
	if err := p.configDisk(o); err != nil {
		return nil, err
	}
	return p, p.choose(ctx, e, c, o, a, in)
}

// copyArtifacts reads each artifact once; what is measured is what is launched.
func (p *preparedVM) copyArtifacts(a *images.Artifacts) (measure.Input, error) {
	var in measure.Input
	kernel, err := p.copyFile(a.Kernel, "kernel")
	if err != nil {
		return in, err
	}
	initrd, err := p.copyFile(a.Initrd, "initrd")
	if err != nil {
		return in, err
	}
	ovmf, err := p.copyFile(a.OVMF, "ovmf.fd")
	if err != nil {
		return in, err
	}
	cmdline, err := os.ReadFile(a.Cmdline)
	if err != nil {
		return in, artifactError(err)
	}
	p.machine.Kernel, p.machine.Initrd = filepath.Join(p.dir, "kernel"), filepath.Join(p.dir, "initrd")
	p.machine.Cmdline = strings.TrimSuffix(string(cmdline), "\n")
	return measure.Input{
		OVMF: ovmf, Kernel: measure.Bytes(kernel), Initrd: measure.Bytes(initrd), Cmdline: measure.Cmdline(p.machine.Cmdline),
		VCPUs: p.machine.CPUs, CPU: defaultCPU, VMM: measure.QEMU, GuestFeatures: buildGuestFeatures,
	}, nil
}

func (p *preparedVM) copyFile(from, name string) ([]byte, error) {
	b, err := os.ReadFile(from)
	if err != nil {
		return nil, artifactError(err)
	}
	if err := os.WriteFile(filepath.Join(p.dir, name), b, 0o600); err != nil {
		return nil, fmt.Errorf("copy of %s: %w", name, err)
	}
	return b, nil
}

func artifactError(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("artifacts: %w (`omega build` makes them)", err)
	}
	return fmt.Errorf("artifacts: %w", err)
}

// choose decides between SNP and plain, and for plain between KVM and TCG.
func (p *preparedVM) choose(ctx context.Context, e *env, c *cache.Cache, o bootOptions, a *images.Artifacts, in measure.Input) error {
	if ok, err := p.snp(ctx, e, o, a, in); ok || err != nil {
		return err
	}
	return p.plain(ctx, e, c, o, in)
}

func (p *preparedVM) plain(ctx context.Context, e *env, c *cache.Cache, o bootOptions, in measure.Input) error {
	accel, why, err := qemu.Accelerator(ctx, o.Accel, p.binary, p.machine.Firmware, p.machine.Kernel)
	if err != nil {
		return err
	}
	if o.Accel == "" || o.Accel == "auto" {
		e.sayf("accelerator: %s (%s)", accel, why)
	}
	p.accel, p.machine.Accel = accel, accel
	if p.launch.Digest, err = measure.LaunchDigest(in); err != nil {
		return fmt.Errorf("launch digest: %w", err)
	}
	p.launch.Firmware, p.launch.GuestPolicy = pinnedSeaBIOS, uint64(snp.PolicyStrict)
	if len(p.machine.Firmware) == 0 {
		p.launch.Firmware = otherSeaBIOS
	}
	dir := filepath.Join(c.Root(), "psp")
	if p.root, err = psp.LoadOrCreateRoot(dir); err != nil {
		return err
	}
	p.rootPEM = filepath.Join(dir, psp.ARKFile)
	p.machine.PSPSocket = filepath.Join(p.dir, "psp")
	return nil
}

// servePSP begins to answer the guest's requests for reports. With SNP there is
// nothing to serve.
func (p *preparedVM) servePSP(e *env) (stop func(), err error) {
	if p.root == nil {
		return func() {}, nil
	}
	l, err := net.Listen("unix", p.machine.PSPSocket)
	if err != nil {
		return nil, fmt.Errorf("emulated PSP: %w", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		conn, err := l.Accept() // QEMU connects once
		if err != nil {
			return
		}
		defer conn.Close()
		if err := p.root.Serve(ctx, conn, p.launch); err != nil && ctx.Err() == nil && !errors.Is(err, net.ErrClosed) {
			e.sayf("emulated PSP: %v", err)
		}
	}()
	return func() { cancel(); _ = l.Close(); <-done }, nil
}
