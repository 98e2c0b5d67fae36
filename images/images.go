// Package images makes the guest image: it fetches what is pinned, builds the
// kernel and the guest's programs, writes the initramfs, and states the result
// in manifest.json. It neither signs nor boots anything, and it computes no
// launch digest: those come in as arguments, so that it knows nothing of
// attestation.
package images

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime/debug"

	"omega/internal/cache"
)

// Options say what to build, from what, and into which folder.
type Options struct {
	Source  string // the root of the source tree
	Profile string // name of a profile
	Policy  Policy
	Roots   []byte // trust roots in PEM; nil takes the pinned public ones
	Out     string // folder for the artifacts
	// PolicyCompiler is the module whose runtime is inside of the policy.
	PolicyCompiler *debug.Module
	Cache          *cache.Cache
	Report         Report
}

// Policy is the compiled policy that the image carries.
type Policy struct {
	JSON, Wasm []byte
}

// Artifacts are the files of one built image and what a manifest says of them.
type Artifacts struct {
	Dir       string
	Kernel    string
	Initrd    string
	Cmdline   string
	OVMF      string
	Manifest  string
	Config    string // the finished kernel configuration
	UKI       string // kernel, initrd and command line as one EFI program
	SPDX      string // what is inside, as SPDX
	CycloneDX string // the same, as CycloneDX
	Notices   string // the licences and notices of what is inside
	Profile   string
	Arguments string              // the kernel command line itself
	Digests   map[string][32]byte // SHA-256 of kernel, initrd, cmdline, ovmf, and what else a manifest names
	Sizes     map[string]int64
	Payload   int64  // bytes of the initramfs before compression
	Inputs    Inputs // what all of this was made from
	Revision  Revision
}

// At returns the artifacts that an earlier build left in dir. It does not look
// whether they are there.
func At(dir string) *Artifacts {
	file := func(name string) string { return filepath.Join(dir, name) }
	return &Artifacts{
		Dir: dir, Kernel: file("kernel"), Initrd: file("initrd"), Cmdline: file("cmdline"),
		OVMF: file("ovmf.fd"), Manifest: file("manifest.json"), Config: file("kernel.config"), UKI: file("omega.efi"),
		SPDX: file("sbom.spdx.json"), CycloneDX: file("sbom.cdx.json"), Notices: file("NOTICES.txt"),
		Digests: map[string][32]byte{}, Sizes: map[string]int64{},
	}
}

// Build makes every artifact but the manifest, which WriteManifest adds once
// the launch digests are known. What an earlier build made from the same
// inputs is taken from the cache.
func Build(ctx context.Context, o Options) (*Artifacts, error) {
	p, err := profileNamed(o.Profile)
	if err != nil {
		return nil, err
	}
	if err := checkTools(); err != nil {
		return nil, err
	}
	store, err := NewStore(o.Cache, o.Report)
	if err != nil {
		return nil, err
	}
	ovmf, err := store.File(ctx, "ovmf-amdsev", ovmfMember)
	if err != nil {
		return nil, err
	}
	initrd, err := buildInitrd(ctx, store, p, o)
	if err != nil {
		return nil, err
	}
	kernel, err := kernelWith(ctx, store, p, initrd.path)
	if err != nil {
		return nil, err
	}
	beside := initrd.path
	if p.kernel == singleVariant {
		// Empty files are what the launch digest has where nothing is beside
		// the kernel.
		beside, p.cmdline = os.DevNull, ""
	}
	a, err := place(o.Out, p, []artifact{
		{"kernel", "kernel", filepath.Join(kernel, kernelFile)},
		{"initrd", "initrd", beside},
		{"ovmf", "ovmf.fd", ovmf},
		{"kernel.config", "kernel.config", filepath.Join(kernel, configFile)},
	})
	if err != nil {
		return nil, err
	}
	a.Payload = initrd.size
	if a.Revision, err = SourceRevision(o.Source); err != nil {
		return nil, err
	}
	if a.Inputs, err = collectInputs(ctx, p, o, initrd.entries, kernel); err != nil {
		return nil, err
	}
	if err := a.addUKI(ctx, o.Cache, o.Report); err != nil {
		return nil, err
	}
	b, err := collectBill(ctx, store, p, o, initrd.entries, a)
	if err != nil {
		return nil, err
	}
	return a, a.addBill(b)
}

// addUKI assembles the other artifacts as one EFI program, and says what the
// disk that boots it will be: `omega convert` writes that one when it is asked to.
func (a *Artifacts) addUKI(ctx context.Context, c *cache.Cache, r Report) error {
	uki, err := UKI(ctx, c, r, a)
	if err != nil {
		return err
	}
	if err := a.put("uki", a.UKI, uki); err != nil {
		return err
	}
	d, err := NewDisk(uki, mebibyte)
	if err != nil {
		return err
	}
	h := sha256.New()
	if _, err := io.Copy(h, d.Reader()); err != nil {
		return fmt.Errorf("artifact disk: %w", err)
	}
	a.Digests["disk"], a.Sizes["disk"] = [32]byte(h.Sum(nil)), d.Size
	return nil
}

// put writes one artifact and notes what the manifest says of it.
func (a *Artifacts) put(subject, path string, b []byte) error {
	a.Digests[subject] = sha256.Sum256(b)
	a.Sizes[subject] = int64(len(b))
	if err := writeFile(path, b); err != nil {
		return fmt.Errorf("artifact %s: %w", subject, err)
	}
	return nil
}

// An artifact is copied to file; subject is its name in the manifest.
type artifact struct{ subject, file, from string }

// place copies the artifacts into dir, each one at once.
func place(dir string, p profile, list []artifact) (*Artifacts, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("output folder: %w", err)
	}
	a := At(dir)
	a.Profile, a.Arguments = p.name, p.cmdline
	// A manifest or a signature that does not fit the files beside it is worse than none.
	for _, path := range []string{a.Manifest, filepath.Join(dir, "manifest.dsse.json")} {
		if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, fmt.Errorf("output folder: %w", err)
		}
	}
	for _, f := range list {
		b, err := os.ReadFile(f.from)
		if err != nil {
			return nil, fmt.Errorf("artifact %s: %w", f.file, err)
		}
		if err := a.put(f.subject, filepath.Join(dir, f.file), b); err != nil {
			return nil, err
		}
	}
	return a, a.put("cmdline", a.Cmdline, []byte(p.cmdline))
}

// writeFile replaces the file at path at once, so that a reader sees the old
// bytes or the new ones.
func writeFile(path string, b []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	err = errors.Join(err, f.Chmod(0o644), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}
