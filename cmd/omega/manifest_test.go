package main

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"omega/agentloader/bundle"
	"omega/attest"
)

// releaseKeys writes a key pair and returns the names of both files.
func releaseKeys(t *testing.T, dir, name string, private any) (secret, public string) {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := parseSigningKey(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	if err != nil {
		t.Fatal(err)
	}
	pub, err := x509.MarshalPKIXPublicKey(signer.Public())
	if err != nil {
		t.Fatal(err)
	}
	secret, public = filepath.Join(dir, name+".key"), filepath.Join(dir, name+".pub")
	writeTestFile(t, secret, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	writeTestFile(t, public, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: pub}))
	return secret, public
}

func p256(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func TestASignedReleaseVerifiesWithEitherKindOfKey(t *testing.T) {
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for name, private := range map[string]any{"ecdsa": p256(t), "ed25519": ed} {
		t.Run(name, func(t *testing.T) {
			path := writeSample(t, diffSample())
			secret, public := releaseKeys(t, t.TempDir(), "release", private)
			if code, out, words := omega(t, "manifest", "sign", "--key", secret, path); code != exitOK || !strings.Contains(out, "manifest.dsse.json signed by ") {
				t.Fatalf("exit %d, %q, %q", code, out, words)
			}
			if code, out, words := omega(t, "manifest", "verify", "--key", public, "--at", "2026-12-01T00:00:00Z", path); code != exitOK || !strings.Contains(out, "SVN 1") {
				t.Errorf("exit %d, %q, %q", code, out, words)
			}
			var got verifiedManifest
			code, out, _ := omega(t, "manifest", "verify", "--json", "--key", public, "--at", "2026-12-01T00:00:00Z", path)
			if err := json.Unmarshal([]byte(out), &got); err != nil || code != exitOK || got.Machines != 4 || got.SVN != 1 {
				t.Errorf("exit %d, %v, %+v", code, err, got)
			}
		})
	}
}

func TestAReleaseThatIsNotWhatTheKeySignedIsRefused(t *testing.T) {
	key := p256(t)
	tests := []struct {
		name   string
		change func(t *testing.T, path, signature string) // after signing
		args   []string
		code   int
		words  string
	}{
		{"expired", nil, []string{"--at", "2027-01-02T03:04:06Z"}, exitSignature, "expired on 2027-01-02T03:04:05Z"},
		{"withdrawn", nil, []string{"--min-svn", "2"}, exitMismatch, "its SVN is 1 and at least 2 is wanted"},
		{"of the lowest SVN", nil, []string{"--min-svn", "1"}, exitOK, ""},
		{"another manifest", func(t *testing.T, path, _ string) {
			edit(t, path, func(b []byte) []byte { return []byte(strings.Replace(string(b), `"svn":1`, `"svn":9`, 1)) })
		}, nil, exitSignature, "over another manifest"},
		{"a manifest with a space more", func(t *testing.T, path, _ string) {
			edit(t, path, func(b []byte) []byte { return append(b, ' ') })
		}, nil, exitSignature, "over another manifest"},
		{"another payload type", func(t *testing.T, _, signature string) {
			reseal(t, signature, func(e *bundle.Envelope) { e.PayloadType = "application/json" })
		}, nil, exitSignature, "payload type"},
		{"no signature in the envelope", func(t *testing.T, _, signature string) {
			reseal(t, signature, func(e *bundle.Envelope) { e.Signatures = nil })
		}, nil, exitSignature, "0 signatures"},
		{"a flipped bit in the signature", func(t *testing.T, _, signature string) {
			reseal(t, signature, func(e *bundle.Envelope) { e.Signatures[0].Sig[10] ^= 1 })
		}, nil, exitSignature, "no signature by the manifest key"},
		{"a signature without the envelope's frame", func(t *testing.T, path, signature string) {
			raw, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			reseal(t, signature, func(e *bundle.Envelope) { e.Signatures[0].Sig = signBytes(t, key, raw) })
		}, nil, exitSignature, "no signature by the manifest key"},
		{"bytes behind the envelope", func(t *testing.T, _, signature string) {
			edit(t, signature, func(b []byte) []byte { return append(b, "{}"...) })
		}, nil, exitSignature, "envelope"},
		{"unsigned", func(t *testing.T, _, signature string) {
			if err := os.Remove(signature); err != nil {
				t.Fatal(err)
			}
		}, nil, exitCollateral, "signature of the manifest"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			path := writeSample(t, diffSample())
			secret, public := releaseKeys(t, t.TempDir(), "release", key)
			if code, _, words := omega(t, "manifest", "sign", "--key", secret, path); code != exitOK {
				t.Fatalf("exit %d, %q", code, words)
			}
			if tt.change != nil {
				tt.change(t, path, signaturePath(path))
			}
			args := append([]string{"manifest", "verify", "--key", public, path}, tt.args...)
			if len(tt.args) == 0 || tt.args[0] != "--at" {
				args = append(args, "--at", "2026-12-01T00:00:00Z")
			}
			code, out, words := omega(t, args...)
			if code != tt.code || !strings.Contains(words, tt.words) || (out != "") != (code == exitOK) {
				t.Errorf("exit %d, want %d; %q, %q", code, tt.code, out, words)
			}
		})
	}
}

func TestAReleaseOfAnotherKeyIsRefused(t *testing.T) {
	path := writeSample(t, diffSample())
	secret, public := releaseKeys(t, t.TempDir(), "release", p256(t))
	_, other := releaseKeys(t, t.TempDir(), "other", p256(t))
	if code, _, words := omega(t, "manifest", "sign", "--key", secret, path); code != exitOK {
		t.Fatalf("exit %d, %q", code, words)
	}
	if code, _, words := omega(t, "manifest", "verify", "--key", other, path); code != exitSignature || !strings.Contains(words, "no signature by the manifest key") {
		t.Errorf("another key: exit %d, %q", code, words)
	}
	if code, _, words := omega(t, "manifest", "verify", "--key", secret, path); code != exitSignature || !strings.Contains(words, "PUBLIC KEY") {
		t.Errorf("the private key: exit %d, %q", code, words)
	}
	two := t.TempDir() + "/two.pub"
	a, errA := os.ReadFile(public)
	b, errB := os.ReadFile(other)
	if errA != nil || errB != nil {
		t.Fatal(errA, errB)
	}
	writeTestFile(t, two, append(b, a...))
	if code, _, _ := omega(t, "manifest", "verify", "--key", two, path); code != exitSignature {
		t.Errorf("two keys in one file: exit %d", code)
	}
}

func TestOnlyAReleaseThatAnybodyWouldAcceptIsSigned(t *testing.T) {
	secret, _ := releaseKeys(t, t.TempDir(), "release", p256(t))
	old := diffSample()
	old.Predicate.Expires = time.Now().Add(-time.Hour)
	path := writeSample(t, old)
	if code, _, words := omega(t, "manifest", "sign", "--key", secret, path); code != exitSignature || !strings.Contains(words, "expired") {
		t.Errorf("expired: exit %d, %q", code, words)
	}
	writeTestFile(t, path, []byte(`{"a":1}`))
	if code, _, _ := omega(t, "manifest", "sign", "--key", secret, path); code != exitUsage {
		t.Errorf("no manifest: exit %d", code)
	}
	if _, err := os.Stat(signaturePath(path)); err == nil {
		t.Error("something was signed")
	}
}

// signBytes signs message itself, as no DSSE signer does.
func signBytes(t *testing.T, key *ecdsa.PrivateKey, message []byte) []byte {
	t.Helper()
	sum := sha256.Sum256(message)
	sig, err := ecdsa.SignASN1(rand.Reader, key, sum[:])
	if err != nil {
		t.Fatal(err)
	}
	return sig
}

func edit(t *testing.T, path string, change func([]byte) []byte) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	writeTestFile(t, path, change(b))
}

func reseal(t *testing.T, path string, change func(*bundle.Envelope)) {
	t.Helper()
	edit(t, path, func(b []byte) []byte {
		var e bundle.Envelope
		err := json.Unmarshal(b, &e)
		change(&e)
		out, marshalErr := json.Marshal(e)
		if err := errors.Join(err, marshalErr); err != nil {
			t.Fatal(err)
		}
		return out
	})
}

func FuzzManifestEnvelope(f *testing.F) {
	f.Add([]byte(`{"payloadType":"application/vnd.in-toto+json","payload":"e30=","signatures":[{"sig":"AA=="}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if env, err := parseManifestEnvelope(b); err == nil && len(env.Signatures) == 0 {
			t.Error("an envelope without a signature was accepted")
		}
	})
}

func TestVerifyingAPlatformRespectsExpiryAndSVNOfASignedRelease(t *testing.T) {
	secret, public := releaseKeys(t, t.TempDir(), "release", p256(t))
	tests := []struct {
		name    string
		expires time.Duration
		minSVN  string
		code    int
		words   string
	}{
		{"valid", time.Hour, "1", exitOK, "the reference values are signed by the key you gave"},
		{"expired since it was signed", 2 * time.Second, "1", exitSignature, "expired"},
		{"withdrawn", time.Hour, "2", exitMismatch, "svn"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := newPlatform(t)
			edit(t, p.manifest, func(b []byte) []byte {
				m, err := attest.ParseManifest(b)
				if err != nil {
					t.Fatal(err)
				}
				m.Predicate.Expires = time.Now().Add(tt.expires).UTC()
				out, err := json.Marshal(m)
				if err != nil {
					t.Fatal(err)
				}
				return out
			})
			if code, _, words := omega(t, "manifest", "sign", "--key", secret, p.manifest); code != exitOK {
				t.Fatalf("exit %d, %q", code, words)
			}
			if tt.expires < time.Minute {
				time.Sleep(tt.expires)
			}
			code, out, words := omega(t, "verify", p.URL, "--allow-emulated", p.root, "--manifest", p.manifest, "--manifest-key", public, "--min-svn", tt.minSVN)
			if code != tt.code || !strings.Contains(out+words, tt.words) {
				t.Errorf("exit %d, want %d; %s%s", code, tt.code, out, words)
			}
		})
	}
}
