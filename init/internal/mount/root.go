package mount

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// newRoot is where the tmpfs stands until it is the root.
const newRoot = "/newroot"

// kept are the trees that the guest goes on using. The program itself stays
// behind: it is reached through /proc/self/exe.
var kept = []string{"bin", "etc"}

// moved are the mounts that follow into the new root.
var moved = []string{"dev", "proc", "sys"}

// ToTmpfs makes a tmpfs the root. The initramfs cannot be pivoted, a plain
// chroot may not create user namespaces, and both are what runsc does: hence
// the move. What was copied, and everything else, is deleted from the initramfs.
func ToTmpfs() error {
	if err := os.Mkdir(newRoot, 0o755); err != nil {
		return fmt.Errorf("new root: %w", err)
	}
	if err := unix.Mount("tmpfs", newRoot, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=0755,size=50%"); err != nil {
		return fmt.Errorf("new root: %w", err)
	}
	for _, dir := range kept {
		if err := copyTree(filepath.Join("/", dir), filepath.Join(newRoot, dir)); err != nil {
			return fmt.Errorf("copying /%s: %w", dir, err)
		}
	}
	for _, dir := range moved {
		to := filepath.Join(newRoot, dir)
		if err := os.Mkdir(to, 0o755); err != nil {
			return fmt.Errorf("new root: %w", err)
		}
		if err := unix.Mount("/"+dir, to, "", unix.MS_MOVE, ""); err != nil {
			return fmt.Errorf("moving /%s: %w", dir, err)
		}
	}
	if err := empty("/"); err != nil {
		return fmt.Errorf("emptying the initramfs: %w", err)
	}
	return enter(newRoot)
}

// enter makes dir the root of everything.
func enter(dir string) error {
	if err := unix.Chdir(dir); err != nil {
		return fmt.Errorf("entering the new root: %w", err)
	}
	if err := unix.Mount(".", "/", "", unix.MS_MOVE, ""); err != nil {
		return fmt.Errorf("moving the new root: %w", err)
	}
	if err := unix.Chroot("."); err != nil {
		return fmt.Errorf("changing root: %w", err)
	}
	return unix.Chdir("/")
}

// copyTree copies directories, files and symbolic links; other kinds are an
// error, because nothing that we use has them.
func copyTree(from, to string) error {
	return filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		target := filepath.Join(to, rel)
		switch {
		case d.IsDir():
			return os.MkdirAll(target, info.Mode().Perm())
		case info.Mode().IsRegular():
			return copyFile(path, target, info.Mode().Perm())
		case info.Mode()&fs.ModeSymlink != 0:
			name, err := os.Readlink(path)
			if err != nil {
				return err
			}
			return os.Symlink(name, target)
		}
		return fmt.Errorf("%s: file of type %s", path, info.Mode().Type())
	})
}

func copyFile(from, to string, mode fs.FileMode) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	if closeErr := out.Close(); err == nil {
		err = closeErr
	}
	return err
}

// empty deletes everything on the file system of dir, and nothing beyond it.
func empty(dir string) error {
	var own unix.Stat_t
	if err := unix.Lstat(dir, &own); err != nil {
		return err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return err
		}
		if st.Dev != own.Dev {
			continue
		}
		if e.IsDir() {
			if err := empty(path); err != nil {
				return err
			}
		}
		if err := os.Remove(path); err != nil && !os.IsExist(err) && !isBusy(err) {
			return err
		}
	}
	return nil
}

// isBusy reports a directory that another file system is mounted on.
func isBusy(err error) bool {
	errno, ok := err.(*os.PathError)
	return ok && errno.Err == unix.EBUSY
}
