package mount

import (
	"fmt"
	"os"
	"path/filepath"
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

func TestCopyTreeKeepsWhatWeUseAndRefusesTheRest(t *testing.T) {
	from, to := t.TempDir(), filepath.Join(t.TempDir(), "to")
	if err := os.MkdirAll(filepath.Join(from, "a/b"), 0o750); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(from, "a/b/run"), []byte("#!"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("b/run", filepath.Join(from, "a/link")); err != nil {
		t.Fatal(err)
	}
	if err := copyTree(from, to); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(filepath.Join(to, "a/link")); err != nil || string(b) != "#!" {
		t.Errorf("through the link: %q, %v", b, err)
	}
	if info, err := os.Stat(filepath.Join(to, "a/b/run")); err != nil || info.Mode() != 0o755 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if err := unix.Mkfifo(filepath.Join(from, "pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := copyTree(from, filepath.Join(t.TempDir(), "again")); err == nil {
		t.Error("a pipe was copied")
	}
}

func TestEmptyDeletesOneFileSystemOnly(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("not root: cannot mount")
	}
	dir := t.TempDir()
	for _, d := range []string{"old/deep", "kept"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "old/deep/file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	kept := filepath.Join(dir, "kept")
	if err := unix.Mount("tmpfs", kept, "tmpfs", 0, ""); err != nil {
		t.Skipf("cannot mount: %v", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(kept, unix.MNT_DETACH) })
	if err := os.WriteFile(filepath.Join(kept, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := empty(dir); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(kept, "file")); err != nil {
		t.Errorf("the other file system: %v", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "old")); !os.IsNotExist(err) {
		t.Errorf("old is still there: %v", err)
	}
}
