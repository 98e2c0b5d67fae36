package main

import (
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestDemoKeysAreMadeOnceAndKeptFromOthers(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "keys")
	if _, err := openDemoKeys(dir); err != nil {
		t.Fatal(err)
	}
	first := filesIn(t, dir)
	if _, err := openDemoKeys(dir); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(first, filesIn(t, dir)); diff != "" {
		t.Errorf("the second run changed the keys: %s", diff)
	}
	for name := range first {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if filepath.Ext(name) == ".pem" && info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v", name, info.Mode().Perm())
		}
	}
}

func TestABrokenDemoKeyIsAnErrorAndNotReplaced(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "keys")
	if _, err := openDemoKeys(dir); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"author.pem", "auditor.pem", "authority.pem", "roots.pem"} {
		path := filepath.Join(dir, name)
		good, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, good[:len(good)/2], 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := openDemoKeys(dir); err == nil {
			t.Errorf("half of %s was accepted", name)
		}
		if err := os.WriteFile(path, good, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func TestTheAuthorityVouchesForItsOwnNamesOnly(t *testing.T) {
	keys, err := openDemoKeys(filepath.Join(t.TempDir(), "keys"))
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(keys.caCert)
	tests := []struct {
		host string
		good bool
	}{
		{"files.tools.omega.test", true},
		{"llm.omega.test", true},
		{"omega.example", false},
	}
	for _, tt := range tests {
		path, _, err := keys.issue(t.TempDir(), tt.host)
		if err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		block, _ := pem.Decode(text)
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := certificate.Verify(x509.VerifyOptions{Roots: roots, DNSName: tt.host}); (err == nil) != tt.good {
			t.Errorf("%s: %v", tt.host, err)
		}
	}
}

// filesIn reads every file of a folder.
func filesIn(t *testing.T, dir string) map[string]string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for _, entry := range entries {
		text, err := os.ReadFile(filepath.Join(dir, entry.Name()))
		if err != nil {
			t.Fatal(err)
		}
		files[entry.Name()] = string(text)
	}
	return files
}
