package main

import (
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"omega/attest"
)

// writeToken is a file with a token.
func writeToken(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "token")
	writeTestFile(t, path, []byte(text+"\n"))
	return path
}

func TestAPlatformGetsTheTokenOnceItIsVerified(t *testing.T) {
	p := newPlatform(t)
	newPeople(t).withAgents(t, p)
	p.token = "aaa.bbb.ccc"
	file := writeToken(t, p.token)
	t.Setenv("OMEGA_TEST_TOKEN", p.token)
	good := []string{"--allow-emulated", p.root, "--manifest", p.manifest, "--manifest-unsigned"}
	have := filepath.Join(t.TempDir(), "have.json")
	for _, tt := range []struct {
		name  string
		args  []string
		code  int
		asked []string // with which tokens, in order
		shown bool
	}{
		{"nobody", good, exitOK, []string{""}, false},
		{"a file", append(good, "--token", file), exitOK, []string{"", "Bearer aaa.bbb.ccc"}, true},
		{"a variable", append(good, "--token", "env:OMEGA_TEST_TOKEN"), exitOK, []string{"", "Bearer aaa.bbb.ccc"}, true},
		{"remembering", append(good, "--token", file, "--have", have), exitOK, []string{"", "Bearer aaa.bbb.ccc"}, true},
		{"a platform that is remembered", append(good, "--token", file, "--have", have), exitOK, []string{"Bearer aaa.bbb.ccc"}, true},
		{"a platform that is refused", append([]string{"--token", file}, good[2:]...), exitSignature, []string{""}, false},
		{"another token", append(good, "--token", writeToken(t, "ddd")), exitMismatch, []string{"", "Bearer ddd"}, false},
		{"no token in the file", append(good, "--token", writeToken(t, "")), exitUsage, nil, false},
		{"a token with a line in it", append(good, "--token", writeToken(t, "a\nHost: b")), exitUsage, nil, false},
		{"no file", append(good, "--token", file+"x"), exitUsage, nil, false},
		{"no variable", append(good, "--token", "env:OMEGA_TEST_NONE"), exitUsage, nil, false},
	} {
		p.authorized = nil
		code, out, words := omega(t, append([]string{"verify", p.URL}, tt.args...)...)
		if code != tt.code || !slices.Equal(p.authorized, tt.asked) || strings.Contains(out, "agent writer-1") != tt.shown {
			t.Errorf("%s: exit %d, asked with %q: %s", tt.name, code, p.authorized, words)
		}
		if strings.Contains(words+out, "aaa.bbb") || strings.Contains(words, "Host") {
			t.Errorf("%s: the token is repeated", tt.name)
		}
	}
}

func TestAPlatformThatWasStartedAnewIsVerifiedBeforeItGetsTheToken(t *testing.T) {
	p, other := newPlatform(t), newPlatform(t)
	p.token, other.token = "aaa", "aaa"
	key, _ := writeCallerKey(t, elliptic.P256())
	certs, err := callerCertificate(key)
	if err != nil {
		t.Fatal(err)
	}
	other.TLS.Certificates = certs // test servers have one key otherwise
	leaf, err := x509.ParseCertificate(certs[0].Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	other.tlsKey = sha256.Sum256(leaf.RawSubjectPublicKeyInfo)
	have := filepath.Join(t.TempDir(), "have.json")
	args := []string{"--allow-emulated", p.root, "--manifest", p.manifest, "--manifest-unsigned", "--token", writeToken(t, "aaa"), "--have", have}
	if code, _, words := omega(t, append([]string{"verify", p.URL}, args...)...); code != exitOK {
		t.Fatal(words)
	}
	b, err := os.ReadFile(have)
	if err != nil {
		t.Fatal(err)
	}
	writeTestFile(t, have, []byte(strings.ReplaceAll(string(b), p.URL, other.URL)))
	if code, _, words := omega(t, append([]string{"verify", other.URL}, args...)...); code != exitOK || !slices.Equal(other.authorized, []string{"", "Bearer aaa"}) {
		t.Errorf("exit %d, asked with %q: %s", code, other.authorized, words)
	}
	other.authorized, other.lie = nil, func(e *attest.Evidence) { e.Boot.TLSKey[0]++ }
	writeTestFile(t, have, []byte(strings.ReplaceAll(string(b), p.URL, other.URL)))
	if code, _, words := omega(t, append([]string{"verify", other.URL}, args...)...); code != exitMismatch || !slices.Equal(other.authorized, []string{""}) {
		t.Errorf("somebody in between: exit %d, asked with %q: %s", code, other.authorized, words)
	}
}

func TestTheLogOfAPlatformIsJudgedByWhatWasVerified(t *testing.T) {
	p := newPlatform(t)
	p.token, p.log = "aaa", newTestLog(t, testEntries()...)
	good := []string{"--allow-emulated", p.root, "--manifest", p.manifest, "--manifest-unsigned", "--token", writeToken(t, "aaa")}
	if code, _, words := omega(t, append([]string{"log", "verify", p.URL}, good...)...); code != exitOK || p.authorized[0] != "" || p.authorized[1] != "Bearer aaa" {
		t.Errorf("exit %d, asked with %q: %s", code, p.authorized, words)
	}
	out := filepath.Join(t.TempDir(), "log")
	if code, _, words := omega(t, append([]string{"log", "export", p.URL, "--out", out}, good...)...); code != exitOK {
		t.Errorf("export: exit %d: %s", code, words)
	}
	p.authorized = nil
	if code, _, words := omega(t, append([]string{"log", "verify", p.URL}, good[:len(good)-2]...)...); code != exitCollateral || !strings.Contains(words, "--token") {
		t.Errorf("no token: exit %d: %s", code, words)
	}
	p.authorized = nil
	if code, _, _ := omega(t, append([]string{"log", "verify", p.URL, "--log-key", p.log.logKey()}, good[2:]...)...); code != exitSignature || slices.Contains(p.authorized, "Bearer aaa") {
		t.Errorf("a platform that is refused: exit %d, asked with %q", code, p.authorized)
	}
	p.lie = func(e *attest.Evidence) { e.Boot.LogKey[0]++ }
	if code, _, _ := omega(t, append([]string{"log", "verify", p.URL}, good...)...); code != exitMismatch {
		t.Errorf("evidence of another log: exit %d", code)
	}
}
