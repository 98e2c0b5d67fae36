package agentloader

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"os"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"

	"omega/agentloader/bundle"
	"omega/agentloader/registry"
)

// weights are a model file of several blocks.
var weights = bytes.Repeat([]byte("weights "), 5000)

func TestModelsComeFromTheRegistryOrStayOnTheirDisk(t *testing.T) {
	w := newWorld(t)
	w.addModel(weights)
	raw := w.publish()
	pulled := 0
	w.spoil = func(_ http.ResponseWriter, r *http.Request) bool {
		if contains(bundle.DigestOf(weights).String())(r) && r.Method == http.MethodGet {
			pulled++
		}
		return false
	}
	l := w.loader(nil)
	a, err := l.Admit(t.Context(), raw)
	if err != nil {
		t.Fatal(err)
	}
	if len(a.Files) != 1 || a.Files[0].Kind != "model" || a.Files[0].Name != "small" || a.Files[0].Root != w.root {
		t.Fatalf("files %+v", a.Files)
	}
	if got, err := os.ReadFile(a.Files[0].Path); err != nil || !bytes.Equal(got, weights) {
		t.Errorf("the file is another one: %d bytes, %v", len(got), err)
	}
	if c := a.Components[len(a.Components)-1]; c.Kind != "model" || c.Principal != "mia" || c.Digest != w.manifest.Model.Digest {
		t.Errorf("component %+v", c)
	}
	var asked bundle.Digest
	on := w.loader(func(c *Config) {
		c.OnDisk = func(_ context.Context, root Digest, size int64) (bool, error) {
			asked = root
			return size == int64(len(weights)), nil
		}
	})
	if a, err = on.Admit(t.Context(), raw); err != nil || a.Files[0].Path != "" || asked != w.root {
		t.Errorf("on a disk: %+v, %v, asked for %s", a, err, asked)
	}
	if pulled != 1 {
		t.Errorf("the model was pulled %d times, want once", pulled)
	}
	broken := w.loader(func(c *Config) {
		c.OnDisk = func(context.Context, Digest, int64) (bool, error) { return false, errors.New("no answer") }
	})
	if _, err = broken.Admit(t.Context(), raw); err == nil {
		t.Error("admitted though nobody could say where the model is")
	}
}

func TestModelsWithoutTheirRootAreRefused(t *testing.T) {
	w := newWorld(t)
	w.addModel(weights)
	w.root = bundle.DigestOf([]byte("another root"))
	l := w.loader(nil)
	_, err := l.Admit(t.Context(), w.publish())
	refused(t, err, ErrRoot)
	if left, _ := os.ReadDir(l.cfg.Dir); len(left) != 1 { // the image, which is good
		t.Errorf("%d files left", len(left))
	}
	w = newWorld(t)
	w.addModel(weights)
	raw := w.publish()
	bad := bytes.Clone(weights)
	bad[4097] ^= 1
	w.answer(bundle.DigestOf(weights).String(), func(rw http.ResponseWriter, _ *http.Request) { rw.Write(bad) })
	_, err = w.loader(nil).Admit(t.Context(), raw)
	refused(t, err, registry.ErrDigest)
}

// small gives a loader a file system of that many bytes beside what is always left free.
func small(t *testing.T, c *Config, bytes int64) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("not root: no file system of its own")
	}
	if err := unix.Mount("tmpfs", c.Dir, "tmpfs", 0, "size="+itoa(spareRoom+bytes)); err != nil {
		t.Skipf("no file system of its own: %v", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(c.Dir, unix.MNT_DETACH) })
}

func TestAFullMemoryRefusesTheNewBundleAndKeepsTheOthers(t *testing.T) {
	w := newWorld(t)
	raw := w.publish()
	l := w.loader(func(c *Config) { small(t, c, 64<<10) })
	first, err := l.Admit(t.Context(), raw)
	if err != nil {
		t.Fatal(err)
	}
	w.addModel(bytes.Repeat([]byte("x"), 60<<10))
	w.deploy.Instance, w.deploy.Serial = "notes-2", 2
	second := w.loader(func(c *Config) { c.Dir = l.cfg.Dir })
	raw = w.publish()
	_, err = second.Admit(t.Context(), raw)
	refused(t, err, ErrFull)
	if _, err := os.Stat(first.ImagePath); err != nil {
		t.Errorf("the running agent lost its image: %v", err)
	}
	if left, _ := os.ReadDir(l.cfg.Dir); len(left) != 1 {
		t.Errorf("%d files, want the running agent's image alone", len(left))
	}
	// With more room the refused deployment is as good as new.
	if err := unix.Mount("tmpfs", l.cfg.Dir, "tmpfs", unix.MS_REMOUNT, "size="+itoa(spareRoom+1<<20)); err != nil {
		t.Fatal(err)
	}
	if _, err = second.Admit(t.Context(), raw); err != nil {
		t.Error(err)
	}
}

func TestWhatNobodyUsesMakesRoom(t *testing.T) {
	w := newWorld(t)
	w.addModel(bytes.Repeat([]byte("x"), 40<<10))
	raw := w.publish()
	l := w.loader(func(c *Config) { small(t, c, 64<<10) })
	a, err := l.Admit(t.Context(), raw)
	if err != nil {
		t.Fatal(err)
	}
	path := a.Files[0].Path
	l.Release(a)
	if _, err := os.Stat(path); err != nil {
		t.Errorf("what an ended agent used is gone though there is room: %v", err)
	}
	other := newWorld(t)
	other.addModel(bytes.Repeat([]byte("y"), 40<<10))
	other.keys, other.trust = w.keys, w.trust
	rawOther := other.publish()
	l.registry, err = registry.New(registry.Config{Mirror: other.server.URL})
	if err != nil {
		t.Fatal(err)
	}
	other.deploy.Serial = 2
	_ = rawOther
	b, err := l.Admit(t.Context(), other.deployment())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Errorf("what nobody uses took the room: %v", err)
	}
	l.Release(b)
	l.Release(b) // once is enough
	if len(l.store.refs) != 0 {
		t.Errorf("still held: %v", l.store.refs)
	}
}

func TestImagesAreSharedAndKeptWithinBounds(t *testing.T) {
	s, err := newStore(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	make := func(name string) {
		t.Helper()
		s.hold(name)
		if err := s.make(name, func(f *os.File) error { _, err := f.WriteString(name); return err }); err != nil {
			t.Fatal(err)
		}
	}
	there := func(name string) bool { _, err := os.Stat(s.path(name)); return err == nil }
	make("shared")
	make("shared")
	s.release("shared")
	for i := range maxIdle + 3 {
		make(itoa(int64(i)))
		s.release(itoa(int64(i)))
	}
	if !there("shared") {
		t.Error("an image in use was dropped")
	}
	if there("0") || there("2") || !there("3") || !there(itoa(maxIdle+2)) || len(s.idle) != maxIdle {
		t.Errorf("idle: %q", s.idle)
	}
	make("3") // used again
	s.sweep()
	if !there("3") || there("4") {
		t.Error("the sweep took what is used, or left what is not")
	}
	s.hold("never made")
	s.release("never made")
	if len(s.idle) != 0 {
		t.Errorf("idle: %q", s.idle)
	}
}

func itoa(n int64) string { return strconv.FormatInt(n, 10) }
