package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"time"

	"omega/cmd/omega/internal/qemu"
	"omega/images"
)

const bootUsage = "[--profile cpu|cloud|single|debug] [--from DIR] [--snp|--plain] [--config F] [--log-disk F] [--disk F …] [--layout F] [--port N] [--memory MIB] [--cpus N] [--accel auto|tcg|kvm] [--id-key F [--author-key F]] [--print]"

// bootOptions say what to boot and how. The zero value of a field means what
// the comment says.
type bootOptions struct {
	Artifacts string       // folder with kernel, initrd, cmdline, ovmf.fd
	Config    string       // file with the launch config's JSON; "": none
	LogDisk   string       // raw file for the provenance log; "": none
	Disks     []string     // raw files with agents' models, adapters and data
	Layout    string       // raw file with an OCI layout; "": none
	Port      int          // on 127.0.0.1; 0: a free one
	Plain     bool         // no SNP even where the host has it
	SNP       bool         // SNP or an error
	Memory    int          // MiB; 0: defaultMemory
	CPUs      int          // 0: defaultVCPUs
	Accel     string       // auto, tcg, kvm; "": auto
	HostData  *[32]byte    // nil: the digest of Config
	OnLine    func(string) // gets each console line, in order; nil: nobody
	Input     io.Reader    // what is typed on the console; nil: nothing
	// Arrange changes the machine last, behind the back of what was measured:
	// for tests that play a hostile host, and for benchmarks.
	Arrange func(*qemu.Machine)
	// IDKey and AuthorKey are files with the operator's keys that sign an SNP
	// launch; "": nobody signs it.
	IDKey, AuthorKey string
	show             bool // nothing is started: a host without SNP may show an SNP launch
}

const (
	defaultMemory = 2048
	defaultPort   = 8443
	// stopGrace is how long a guest may take to power off.
	stopGrace = 15 * time.Second
	// firstLine is how long a guest may take to its first own line, under TCG
	// on a busy machine. A broken initramfs never prints one.
	firstLine = 120 * time.Second
)

func runBoot(ctx context.Context, e *env, args []string) error {
	fs := e.flags("boot")
	o := bootOptions{OnLine: func(l string) { fmt.Fprintln(e.Stdout, l) }}
	profile := fs.String("profile", "cpu", "which image to boot; it is built if it is not there")
	from := fs.String("from", "", "folder with the artifacts (default build/PROFILE)")
	fs.BoolVar(&o.SNP, "snp", false, "boot an SEV-SNP guest, or say what is missing")
	fs.BoolVar(&o.Plain, "plain", false, "boot without SNP, with the emulated PSP")
	fs.StringVar(&o.Config, "config", "", "launch config (JSON)")
	fs.StringVar(&o.LogDisk, "log-disk", "", "raw file for the provenance log")
	fs.Func("disk", "raw file of `omega bundle disk`, with a model, an adapter or data; may be repeated", func(f string) error {
		o.Disks = append(o.Disks, f)
		return nil
	})
	fs.StringVar(&o.Layout, "layout", "", "raw file of `omega bundle layout`: bundles without a registry")
	fs.IntVar(&o.Port, "port", defaultPort, "port on 127.0.0.1 that leads to the guest")
	fs.IntVar(&o.Memory, "memory", defaultMemory, "memory in MiB")
	fs.IntVar(&o.CPUs, "cpus", defaultVCPUs, "virtual CPUs; the launch digest covers their number")
	fs.StringVar(&o.Accel, "accel", "auto", "auto, tcg or kvm")
	fs.StringVar(&o.IDKey, "id-key", "", "with SNP: the operator's key (ECDSA P-384, PEM) that signs the ID block")
	fs.StringVar(&o.AuthorKey, "author-key", "", "with SNP: a key (ECDSA P-384, PEM) that signs the ID key")
	printOnly := fs.Bool("print", false, "print QEMU's command line and do not start it")
	if err := fs.Parse(args); err != nil {
		return err
	}
	if fs.NArg() > 0 {
		return fmt.Errorf("boot: unexpected argument %q", fs.Arg(0))
	}
	if *profile == "debug" { // it has a shell
		o.Input = e.Stdin
	}
	dir, err := bootArtifacts(ctx, e, *from, *profile)
	if err != nil {
		return err
	}
	o.Artifacts = dir
	if o.show = *printOnly; o.show {
		return printBoot(ctx, e, o)
	}
	return bootUntilOff(ctx, e, o)
}

// bootArtifacts is the folder to boot from: the one named, or the profile's,
// built first.
func bootArtifacts(ctx context.Context, e *env, from, profile string) (string, error) {
	if from != "" {
		return from, nil
	}
	source, err := sourceRoot()
	if err != nil {
		return "", err
	}
	out := filepath.Join(source, "build", profile)
	if built(out) {
		return out, nil
	}
	a, err := build(ctx, e, buildOptions{Profile: profile})
	if err != nil {
		return "", err
	}
	return a.Dir, nil
}

// bootUntilOff shows the console until the machine is off or the user stops it.
func bootUntilOff(ctx context.Context, e *env, o bootOptions) error {
	v, err := startVM(ctx, e, o)
	if err != nil {
		return err
	}
	e.sayf("https://127.0.0.1:%d leads to the guest; Ctrl-C powers it off", v.Port)
	if v.Root != "" {
		e.sayf("not SNP: evidence comes from the emulated PSP of this machine, whose root is %s", v.Root)
	}
	select {
	case <-v.Done():
	case <-ctx.Done():
		e.sayf("powering off …")
	}
	// The user's Ctrl-C ended ctx; the guest still gets its time.
	err = v.Stop(context.WithoutCancel(ctx))
	if reason, ok := v.PoweredOff(); ok && reason != askedByHost {
		return errors.Join(fmt.Errorf("the guest powered off: %s", reason), err)
	}
	return err
}

// askedByHost is the guest's reason when we asked.
const askedByHost = "asked by the host"

// printBoot shows the command line as one could type it. What is made anew for
// each start (private copies, sockets, the config disk) is gone when it returns.
func printBoot(ctx context.Context, e *env, o bootOptions) error {
	p, err := prepareVM(ctx, e, o)
	if err != nil {
		return err
	}
	defer p.remove()
	a := images.At(o.Artifacts)
	p.machine.Kernel, p.machine.Initrd = a.Kernel, a.Initrd
	if p.machine.SNP != nil {
		p.machine.SNP.OVMF = a.OVMF
	}
	words := append([]string{p.binary}, p.machine.Args()...)
	for i, w := range words {
		if strings.ContainsAny(w, " \t'\"$&;|<>()") || w == "" {
			words[i] = "'" + strings.ReplaceAll(w, "'", `'\''`) + "'"
		}
	}
	fmt.Fprintln(e.Stdout, strings.Join(words, " "))
	return nil
}

// vm is a running guest.
type vm struct {
	*qemu.Process
	Port int
	Root string // of the emulated PSP that signs for it; "" with SNP
	// Accel is how the guest's CPUs run: tcg or kvm.
	Accel string

	digest  [48]byte // launch digest that the emulated PSP tells; zero with SNP
	dir     string   // private folder
	cleanup func()
}

// Stop powers the guest off and removes everything that was made for it. It may
// be called more than once.
func (v *vm) Stop(ctx context.Context) error {
	err := v.Process.Stop(ctx, stopGrace)
	v.cleanup()
	return err
}

// Wait waits until the machine is off by itself.
func (v *vm) Wait(ctx context.Context) error {
	select {
	case <-v.Done():
		v.cleanup()
		return v.Err()
	case <-ctx.Done():
		return ctx.Err()
	}
}
