package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"omega/attest"
	"omega/attest/snp"
	"omega/images"
	"omega/internal/cache"
	"omega/internal/skip"
)

// launchKey writes a new key of an operator.
func launchKey(t *testing.T, curve elliptic.Curve) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "key.pem")
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// snpObject finds QEMU's description of the confidential guest.
var snpObject = regexp.MustCompile(`sev-snp-guest,[^ ]*`)

func TestASignedLaunchIsTheOneThatTheManifestStates(t *testing.T) {
	dir := image(t)
	code, out, words := omega(t, "boot", "--from", dir, "--snp", "--print", "--port", "0",
		"--id-key", launchKey(t, elliptic.P384()), "--author-key", launchKey(t, elliptic.P384()))
	if code != exitOK {
		t.Fatalf("exit %d: %s", code, words)
	}
	object := snpObject.FindString(out)
	field := func(name string) []byte {
		_, rest, _ := strings.Cut(object, ","+name+"=")
		text, _, _ := strings.Cut(rest, ",")
		b, err := base64.StdEncoding.DecodeString(text)
		if err != nil || len(b) == 0 {
			t.Fatalf("%s in %q: %v", name, object, err)
		}
		return b
	}
	raw, err := os.ReadFile(images.At(dir).Manifest)
	if err != nil {
		t.Fatal(err)
	}
	m, err := attest.ParseManifest(raw)
	if err != nil {
		t.Fatal(err)
	}
	block := field("id-block")
	digest := [48]byte(block[:48])
	found := false
	for _, l := range m.Predicate.LaunchDigests {
		found = found || l.Digest == digest && l.CPU == defaultCPU && l.VCPUs == defaultVCPUs
	}
	if !found {
		t.Errorf("the ID block's digest %x is not the manifest's for %d vCPUs of %s", digest, defaultVCPUs, defaultCPU)
	}
	if uint32(block[0x54]) != m.Predicate.SVN || !bytes.HasPrefix(block[0x30:], []byte("omega\x00")) {
		t.Errorf("ID block %x", block)
	}
	if policy := uint64(snp.PolicyStrict); uint64(block[0x5a])<<16 != policy&0xff0000 || !strings.Contains(object, "author-key-enabled=on") {
		t.Errorf("policy in %x, %s", block[0x58:], object)
	}
	if auth := field("id-auth"); len(auth) != 4096 {
		t.Errorf("%d bytes of ID authentication information", len(auth))
	}
	qemuTakes(t, object)
}

// qemuTakes has the pinned QEMU read the object, which it does without SNP.
func qemuTakes(t *testing.T, object string) {
	t.Helper()
	c, err := cache.Open("")
	if err != nil {
		t.Fatal(err)
	}
	bin, _, err := images.QEMU(t.Context(), c, nil)
	if err != nil {
		skip.Missing(t, "%v", err)
	}
	read := func(object string) error {
		cmd := exec.CommandContext(t.Context(), bin, "-nodefaults", "-no-user-config", "-machine", "none", "-accel", "tcg", "-display", "none",
			"-qmp", "stdio", "-object", object)
		cmd.Stdin = strings.NewReader(`{"execute":"qmp_capabilities"}{"execute":"quit"}`)
		out, err := cmd.CombinedOutput()
		t.Logf("%s", out)
		return err
	}
	if err := read(object); err != nil {
		t.Errorf("QEMU does not take %s: %v", object, err)
	}
	if err := read(strings.Replace(object, "id-block=", "id-block=AAAA", 1)); err == nil {
		t.Error("QEMU takes an ID block of another size: this proves nothing")
	}
}

func TestWhatCannotSignALaunchIsNamed(t *testing.T) {
	dir := image(t)
	good, small := launchKey(t, elliptic.P384()), launchKey(t, elliptic.P256())
	tests := []struct {
		name string
		args []string
		want string
	}{
		{"a key on another curve", []string{"--id-key", small}, "P-384"},
		{"an author's key on another curve", []string{"--id-key", good, "--author-key", small}, "P-384"},
		{"an author's key alone", []string{"--author-key", good}, "--id-key"},
		{"no key", []string{"--id-key", filepath.Join(dir, "none.pem")}, "no such file"},
		{"no PEM", []string{"--id-key", images.At(dir).Cmdline}, "not PEM"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			args := append([]string{"boot", "--from", dir, "--snp", "--print", "--port", "0"}, tt.args...)
			if code, out, words := omega(t, args...); code != exitUsage || out != "" || !strings.Contains(words, tt.want) {
				t.Errorf("exit %d, words %q, want %q", code, words, tt.want)
			}
		})
	}
}
