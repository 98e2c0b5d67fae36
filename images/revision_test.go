package images

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// gitTree makes a repository of the files with git itself.
func gitTree(t *testing.T, format string) (dir, tree string) {
	t.Helper()
	dir = t.TempDir()
	for name, text := range map[string]string{
		".gitignore": "/build/\n/bin/\n*.test\n", "a.txt": "a\n", "a/b.txt": "b\n", "a-b": "sorts before the folder a\n",
		"bin/omega": "left out\n", "build/cpu/kernel": "left out\n", "a/x.test": "left out\n", "a/bin": "counts\n",
	} {
		writeAt(t, filepath.Join(dir, name), text)
	}
	run := filepath.Join(dir, "run.sh")
	writeAt(t, run, "#!/bin/sh\n")
	if err := errors.Join(os.Chmod(run, 0o755), os.Symlink("a/b.txt", filepath.Join(dir, "link")), os.Mkdir(filepath.Join(dir, "empty"), 0o755)); err != nil {
		t.Fatal(err)
	}
	git := func(args ...string) string {
		out, err := exec.Command("git", append([]string{"-C", dir, "-c", "core.autocrlf=false"}, args...)...).CombinedOutput()
		if err != nil {
			t.Fatalf("git %q: %v\n%s", args, err, out)
		}
		return strings.TrimSpace(string(out))
	}
	git("init", "-q", "--object-format="+format)
	git("add", ".")
	return dir, git("write-tree")
}

func writeAt(t *testing.T, path, text string) {
	t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644)); err != nil {
		t.Fatal(err)
	}
}

func TestTheRevisionIsTheTreeThatGitNames(t *testing.T) {
	dir, tree := gitTree(t, "sha1")
	got, err := SourceRevision(dir)
	if err != nil || got.GitTree != tree {
		t.Errorf("revision %+v, %v; git says %s", got, err, tree)
	}
	other, tree256 := gitTree(t, "sha256")
	same, err := SourceRevision(other)
	if err != nil || same.GitTreeSHA256 != tree256 {
		t.Errorf("revision %+v, %v; git says %s", same, err, tree256)
	}
	if diff := cmp.Diff(got, same); diff != "" {
		t.Errorf("two copies have two names: %s", diff)
	}
	if err := os.RemoveAll(filepath.Join(dir, ".git")); err != nil {
		t.Fatal(err)
	}
	if plain, err := SourceRevision(dir); err != nil || plain != got {
		t.Errorf("without git: %+v, %v", plain, err)
	}
}

func TestAnyChangeOfTheSourceChangesTheRevision(t *testing.T) {
	changes := map[string]func(dir string) error{
		"a changed file": func(dir string) error { return os.WriteFile(filepath.Join(dir, "a.txt"), []byte("x\n"), 0o644) },
		"a new file":     func(dir string) error { return os.WriteFile(filepath.Join(dir, "a", "new.go"), nil, 0o644) },
		"a removed file": func(dir string) error { return os.Remove(filepath.Join(dir, "a.txt")) },
		"a renamed file": func(dir string) error { return os.Rename(filepath.Join(dir, "a.txt"), filepath.Join(dir, "c.txt")) },
		"a mode":         func(dir string) error { return os.Chmod(filepath.Join(dir, "a.txt"), 0o755) },
	}
	for name, change := range changes {
		t.Run(name, func(t *testing.T) {
			dir, tree := gitTree(t, "sha1")
			if err := change(dir); err != nil {
				t.Fatal(err)
			}
			if got, err := SourceRevision(dir); err != nil || got.GitTree == tree {
				t.Errorf("revision %+v, %v", got, err)
			}
		})
	}
	dir, tree := gitTree(t, "sha1")
	writeAt(t, filepath.Join(dir, "build", "more"), "not a source")
	if err := os.Chmod(filepath.Join(dir, "a.txt"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := SourceRevision(dir); err != nil || got.GitTree != tree {
		t.Errorf("what was built, or an umask, changes the revision: %+v, %v", got, err)
	}
}

// What git leaves out and what the revision leaves out are the same list.
func TestTheRevisionLeavesOutWhatGitignoreNames(t *testing.T) {
	b, err := os.ReadFile(filepath.Join("..", ".gitignore"))
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for line := range strings.Lines(string(b)) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
			lines = append(lines, strings.TrimSuffix(line, "/"))
		}
	}
	if diff := cmp.Diff(lines, unversioned); diff != "" {
		t.Errorf(".gitignore and unversioned: %s", diff)
	}
}
