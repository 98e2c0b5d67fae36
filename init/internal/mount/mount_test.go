package mount

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// flagNames are the flags that the golden table shows.
var flagNames = []struct {
	flag uintptr
	name string
}{{unix.MS_NOSUID, "nosuid"}, {unix.MS_NODEV, "nodev"}, {unix.MS_NOEXEC, "noexec"}}

func TestTheMountTableIsAsReviewed(t *testing.T) {
	var got strings.Builder
	for _, m := range Table {
		var flags []string
		for _, f := range flagNames {
			if m.flags()&f.flag != 0 {
				flags = append(flags, f.name)
			}
		}
		fmt.Fprintf(&got, "%s %s %s %s after=%v maybe=%v\n", m.Dir, m.FS, strings.Join(flags, ","), m.Data, m.After, m.Maybe)
	}
	want, err := os.ReadFile("testdata/table.golden")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got.String()); diff != "" {
		t.Errorf("mounts (-want +got):\n%s", diff)
	}
}

func TestNothingIsSetUIDAndOnlyImagesAreMappedAsPrograms(t *testing.T) {
	for _, m := range Table {
		if m.flags()&unix.MS_NOSUID == 0 {
			t.Errorf("%s is not nosuid", m.Dir)
		}
		if (m.flags()&unix.MS_NODEV == 0) != (m.Dir == "/dev") {
			t.Errorf("%s: devices %v", m.Dir, m.Dev)
		}
		// An agent's image on a noexec mount ends its first process with SIGSEGV.
		if (m.flags()&unix.MS_NOEXEC == 0) != (m.Dir == "/run/fetcher") {
			t.Errorf("%s: programs %v", m.Dir, m.Exec)
		}
	}
}

// inOwnMounts runs f on a thread with a mount namespace of its own.
func inOwnMounts(t *testing.T, f func() error) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("not root: no mount namespace")
	}
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with f
		if err := unix.Unshare(unix.CLONE_NEWNS | unix.CLONE_FS); err != nil {
			done <- err
			return
		}
		if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
			done <- err
			return
		}
		done <- f()
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// small makes a tmpfs with what Leave expects, the root of this thread.
func small(dir string) error {
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, ""); err != nil {
		return err
	}
	for _, d := range append([]string{"bin"}, moved...) {
		if err := os.Mkdir(filepath.Join(dir, d), 0o755); err != nil {
			return err
		}
	}
	for _, d := range moved {
		if err := unix.Mount("tmpfs", filepath.Join(dir, d), "tmpfs", 0, ""); err != nil {
			return err
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "bin/runsc"), []byte("x"), 0o755); err != nil {
		return err
	}
	return enter(dir)
}

func TestTheRootIsMovedAndSealed(t *testing.T) {
	dir := t.TempDir()
	inOwnMounts(t, func() error {
		if err := small(dir); err != nil {
			return err
		}
		if err := Leave(); err != nil {
			return err
		}
		if err := Seal(); err != nil {
			return err
		}
		if b, err := os.ReadFile("/bin/runsc"); err != nil || string(b) != "x" {
			t.Errorf("through the new root: %q, %v", b, err)
		}
		if _, err := os.Stat(newRoot); !os.IsNotExist(err) {
			t.Errorf("%s: %v", newRoot, err)
		}
		for _, path := range []string{"/new", "/bin/runsc"} {
			if err := os.WriteFile(path, nil, 0o755); !errors.Is(err, unix.EROFS) {
				t.Errorf("writing %s: %v", path, err)
			}
		}
		if err := os.WriteFile("/dev/new", nil, 0o600); err != nil {
			t.Errorf("the mounts did not follow: %v", err)
		}
		// What runsc does, and the kernel's own mount of the initramfs refuses.
		if err := os.Mkdir("/dev/old", 0o700); err != nil {
			return err
		}
		return unix.PivotRoot("/dev", "/dev/old")
	})
}
