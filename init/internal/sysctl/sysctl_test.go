package sysctl

import (
	"os"
	"path/filepath"
	"testing"
)

func TestSetWritesWhatIsThereAndPassesOverTheRest(t *testing.T) {
	root := t.TempDir()
	if err := os.Mkdir(filepath.Join(root, "fs"), 0o755); err != nil {
		t.Fatal(err)
	}
	there := filepath.Join(root, "fs", "suid_dumpable")
	if err := os.WriteFile(there, []byte("1"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Set(root, []Setting{{"fs/none", "1"}, {"fs/suid_dumpable", "0"}}); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(there); err != nil || string(b) != "0" {
		t.Errorf("set to %q, %v", b, err)
	}
	if _, err := os.Stat(filepath.Join(root, "fs", "none")); !os.IsNotExist(err) {
		t.Errorf("a file was made: %v", err)
	}
	if err := Set(root, []Setting{{"fs", "1"}}); err == nil {
		t.Error("a setting that cannot be written is no error")
	}
}

func TestNoSettingIsNamedTwice(t *testing.T) {
	seen := map[string]bool{}
	for _, s := range Table {
		if seen[s.Path] || s.Value == "" || filepath.IsAbs(s.Path) {
			t.Errorf("setting %q", s.Path)
		}
		seen[s.Path] = true
	}
}
