package images

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"omega/internal/cache"
	"omega/internal/skip"
	"omega/kernel"
)

// needKernelSource returns the user's store, or skips where the pinned source
// or the tools of its build are missing.
func needKernelSource(t *testing.T) *Store {
	t.Helper()
	if err := checkTools(); err != nil {
		skip.Missing(t, "%v", err)
	}
	c, err := cache.Open("")
	if err != nil {
		skip.Missing(t, "%v", err)
	}
	s, err := NewStore(c, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.File(t.Context(), kernelSource, kernelTar); err != nil {
		skip.Missing(t, "the pinned kernel source cannot be had: %v", err)
	}
	return s
}

// Kconfig drops and adds options without a word. For each kernel, built or not,
// what it makes of the fragments is compared with them and with the promises.
func TestEveryKernelKeepsItsFragmentsAndPromises(t *testing.T) {
	if testing.Short() {
		t.Skip("runs Kconfig")
	}
	s, out := needKernelSource(t), t.TempDir()
	for _, v := range kernel.Variants {
		t.Run(v.Name, func(t *testing.T) {
			r, err := s.kernelRecipe(t.Context(), v.Name)
			if err != nil {
				t.Fatal(err)
			}
			config := r.Config
			if v.Name == singleVariant {
				if config, err = withCmdline(r.Source, cmdline); err != nil {
					t.Fatal(err)
				}
			}
			if err := finishedConfig(t.Context(), s, r, config, out); err != nil {
				t.Error(err)
			}
		})
	}
}

// An option that Kconfig does not know is kept off without any effort.
func TestPromisesAndFragmentsNameOptionsThatExist(t *testing.T) {
	s := needKernelSource(t)
	r, err := s.kernelRecipe(t.Context(), "cpu")
	if err != nil {
		t.Fatal(err)
	}
	src, err := s.kconfigSource(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("grep", "-rhoE", "--include=Kconfig*", `^[[:space:]]*(menu)?config [A-Za-z0-9_]+`, src).Output()
	if err != nil {
		t.Fatal(err)
	}
	known := map[string]bool{}
	for line := range strings.Lines(string(out)) {
		known[strings.Fields(line)[1]] = true
	}
	for _, p := range kernel.Promises {
		if !known[p.Option] {
			t.Errorf("the promise about %s is about nothing", p.Option)
		}
	}
	for _, v := range kernel.Variants {
		r, err := s.kernelRecipe(t.Context(), v.Name)
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range r.Options {
			if name, _, _ := strings.Cut(strings.TrimPrefix(o, "CONFIG_"), "="); !known[name] {
				t.Errorf("%s: the fragments name %s, which is no option", v.Name, name)
			}
		}
	}
}

// What Kconfig brings back must not get through: a promise is broken on
// purpose, in a way that Kconfig accepts.
func TestABuildStopsWhenKconfigBreaksAPromise(t *testing.T) {
	if testing.Short() {
		t.Skip("runs Kconfig")
	}
	s := needKernelSource(t)
	r, err := s.kernelRecipe(t.Context(), "cpu")
	if err != nil {
		t.Fatal(err)
	}
	config := regexp.MustCompile(`(?m)^# CONFIG_(DEBUG_FS|DMI) is not set$`).ReplaceAll(r.Config, []byte("CONFIG_$1=y"))
	err = finishedConfig(t.Context(), s, r, config, t.TempDir())
	expect(t, err, "DEBUG_FS is y and must be off")
	expect(t, err, "DMI is y and must be off")
}

// What `omega build` left is looked at as it is, where there is one.
func TestBuiltKernelsKeepTheirPromisesAndAreSmall(t *testing.T) {
	found := false
	for _, p := range profiles {
		a := At(filepath.Join("..", "build", p.name))
		config, err := os.ReadFile(a.Config)
		if err != nil {
			continue
		}
		info, err := os.Stat(a.Kernel)
		if err != nil {
			continue
		}
		found = true
		v, err := kernel.Named(p.kernel)
		if err != nil {
			t.Fatal(err)
		}
		src, err := kernel.Load(kernel.Files, v.Fragments)
		if err != nil {
			t.Fatal(err)
		}
		if err := kernel.Check(src.Config, config); err != nil {
			t.Errorf("%s: %v", p.name, err)
		}
		if err := kernel.Keep(v.Name, config); err != nil {
			t.Errorf("%s: %v", p.name, err)
		}
		if info.Size() > v.MaxSize {
			t.Errorf("%s: the kernel has %d bytes, more than %d", p.name, info.Size(), v.MaxSize)
		}
	}
	if !found {
		skip.Missing(t, "no image is built; `omega build` makes one")
	}
}

func TestSourcesThatNothingWasMadeFromAreRemoved(t *testing.T) {
	dir := t.TempDir()
	r := kernelRecipe{variant: "cpu"}
	b := r.buildIn(dir, Report(nil).begin(""))
	for _, name := range []string{"src/drivers/a.c", "src/drivers/a.h", "src/drivers/b.c", "src/drivers/Makefile", "src/drivers/Kconfig", "src/scripts/x.py", "src/arch/x86/e.c", "src/arch/arm/e.c", "out/drivers/.a.o.cmd"} {
		if err := WriteFile(filepath.Join(dir, name), nil); err != nil {
			t.Fatal(err)
		}
	}
	note := "source_drivers/a.o := " + b.src + "/drivers/a.c\ndeps_drivers/a.o := \\\n  $(wildcard include/config/A) \\\n  " + b.src + "/drivers/a.h \\\n"
	if err := WriteFile(filepath.Join(b.out, "drivers/.a.o.cmd"), []byte(note)); err != nil {
		t.Fatal(err)
	}
	if err := b.prune(); err != nil {
		t.Fatal(err)
	}
	for name, stays := range map[string]bool{
		"drivers/a.c": true, "drivers/a.h": true, "drivers/b.c": false, "drivers/Makefile": true, "drivers/Kconfig": true,
		"scripts/x.py": true, "arch/x86/e.c": true, "arch/arm/e.c": false,
	} {
		if _, err := os.Stat(filepath.Join(b.src, name)); (err == nil) != stays {
			t.Errorf("%s: %v, want it to stay: %v", name, err, stays)
		}
	}
}

func TestCommandLineInsideOfAKernelIsPlain(t *testing.T) {
	s := &kernel.Source{Config: []byte("CONFIG_A=y\n")}
	b, err := withCmdline(s, "console=ttyS0 quiet")
	if want := "CONFIG_A=y\nCONFIG_CMDLINE=\"console=ttyS0 quiet\"\n"; err != nil || !bytes.Equal(b, []byte(want)) {
		t.Errorf("%q, error %v", b, err)
	}
	for _, bad := range []string{"a\"b", "a\\b", "a\nb", "é"} {
		if _, err := withCmdline(s, bad); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}

func TestAKernelThatHasGrownTooLargeIsRefused(t *testing.T) {
	r := kernelRecipe{variant: "cloud"}
	b := r.buildIn(t.TempDir(), Report(nil).begin(""))
	v, err := kernel.Named(r.variant)
	if err != nil {
		t.Fatal(err)
	}
	if err := WriteFile(filepath.Join(b.out, ".config"), nil); err != nil {
		t.Fatal(err)
	}
	image := filepath.Join(b.out, "arch/x86/boot/bzImage")
	for size, want := range map[int64]string{v.MaxSize: "", v.MaxSize + 1: "more than"} {
		if err := errors.Join(WriteFile(image, nil), os.Truncate(image, size)); err != nil {
			t.Fatal(err)
		}
		expect(t, b.results(t.TempDir()), want)
	}
}

// Whoever boots a single file can hand over an initramfs and a command line,
// and nothing comes of it.
func TestASingleFileIgnoresWhatABootLoaderAdds(t *testing.T) {
	a := At(filepath.Join("..", "build", "single"))
	if _, err := os.Stat(a.Kernel); err != nil {
		skip.NotBuilt(t, "single")
	}
	archive, err := writeArchive([]entry{{file{"init", 0o755, program("./init")}, []byte("#!/bin/evil\n")}})
	if err != nil {
		t.Fatal(err)
	}
	evil := filepath.Join(t.TempDir(), "initrd")
	if err := os.WriteFile(evil, archive, 0o600); err != nil {
		t.Fatal(err)
	}
	console := bootKernel(t, a.Kernel, "-append", "console=ttyS0 rdinit=/bin/evil", "-initrd", evil, "-m", "1024")
	if !strings.Contains(console, "omega: phase keys") || strings.Contains(console, "evil") {
		t.Errorf("the console says:\n%s", console)
	}
}

// Of what clouds have, QEMU has NVMe; the other drivers register.
func TestTheCloudKernelFindsItsDevices(t *testing.T) {
	a := At(filepath.Join("..", "build", "cloud"))
	if _, err := os.Stat(a.Kernel); err != nil {
		skip.NotBuilt(t, "cloud")
	}
	disk := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(disk, make([]byte, mebibyte), 0o600); err != nil {
		t.Fatal(err)
	}
	console := bootKernel(t, a.Kernel, "-append", "console=ttyS0 panic=-1",
		"-drive", "if=none,id=disk,format=raw,file="+disk, "-device", "nvme,drive=disk,serial=test")
	for _, want := range []string{"nvme nvme0: pci function", "registering driver hv_storvsc", "registering driver hv_netvsc"} {
		if !strings.Contains(console, want) {
			t.Errorf("the console lacks %q", want)
		}
	}
	if t.Failed() {
		t.Log(console)
	}
}
