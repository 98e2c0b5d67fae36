package signer

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"

	"omega/attest"
	"omega/policy/provenance"
)

// deviceFunc makes a report out of REPORT_DATA alone.
type deviceFunc func(ctx context.Context, data [64]byte) ([]byte, []byte, error)

func (f deviceFunc) Report(ctx context.Context, data [64]byte) ([]byte, []byte, error) {
	return f(ctx, data)
}

func echo(_ context.Context, data [64]byte) ([]byte, []byte, error) { return data[:], nil, nil }

func newSigner(t *testing.T, d Device) *Signer {
	t.Helper()
	s, err := New(d, rand.Reader, [16]byte{1})
	if err != nil {
		t.Fatal(err)
	}
	s.pace = 0
	return s
}

func checkpoint(s *Signer, size int, root byte) []byte {
	hash := make([]byte, 32)
	hash[0] = root
	return fmt.Appendf(nil, "%s\n%d\n%s\n", s.Origin(), size, base64.StdEncoding.EncodeToString(hash))
}

func complete(t *testing.T, s *Signer) {
	t.Helper()
	if err := s.SetClaims(attest.BootClaims{Version: attest.BootVersion, BootID: [16]byte{1}}, nil); err != nil {
		t.Fatal(err)
	}
	if err := s.SetFrontKeys([32]byte{2}, [32]byte{3}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.SignCheckpoint(checkpoint(s, 1, 1)); err != nil {
		t.Fatal(err)
	}
}

func TestEvidenceBindsClaimsAndSessionIntoReportData(t *testing.T) {
	s := newSigner(t, deviceFunc(echo))
	complete(t, s)
	admit(t, s, "a")
	nonce := [32]byte{9}
	e, err := s.Evidence(t.Context(), nonce, everything)
	if err != nil {
		t.Fatal(err)
	}
	want := attest.ReportData(e.Boot.Digest(), e.Session.Digest())
	if [64]byte(e.Report) != want {
		t.Error("REPORT_DATA is not that of the claims and the session")
	}
	if e.Nonce.Nonce != nonce || !e.Nonce.Holds(&e.Session) || !e.Complete() || e.Session.AgentCount != 1 || e.Agents[0].Instance != "a" {
		t.Errorf("session = %+v, want the nonce and the agents", e.Session)
	}
	if e.Boot.TLSKey != [32]byte{2} || e.Boot.AttestationKey == ([32]byte{}) {
		t.Errorf("boot claims = %+v, want the keys of signer and front", e.Boot)
	}
}

func TestEvidenceIsRefusedUntilTheClaimsAreComplete(t *testing.T) {
	s := newSigner(t, deviceFunc(echo))
	if _, err := s.Evidence(t.Context(), [32]byte{}, everything); err == nil {
		t.Error("evidence without claims was served")
	}
	if err := s.SetFrontKeys([32]byte{2}, [32]byte{3}); err == nil {
		t.Error("front keys were taken before the claims")
	}
	complete(t, s)
	if _, err := s.Evidence(t.Context(), [32]byte{}, everything); err != nil {
		t.Errorf("complete claims: %v", err)
	}
}

func TestClaimsAreTheOnesThatEvidenceNames(t *testing.T) {
	s := newSigner(t, deviceFunc(echo))
	if _, err := s.Claims(); err == nil {
		t.Error("incomplete claims were given out")
	}
	complete(t, s)
	c, err := s.Claims()
	if err != nil {
		t.Fatal(err)
	}
	e, err := s.Evidence(t.Context(), [32]byte{1}, everything)
	if err != nil {
		t.Fatal(err)
	}
	if c != e.Boot || c.LogKey != s.Keys().Log {
		t.Errorf("claims = %+v, evidence has %+v", c, e.Boot)
	}
}

func TestClaimsAndFrontKeysAreSetOnce(t *testing.T) {
	s := newSigner(t, deviceFunc(echo))
	complete(t, s)
	if err := s.SetClaims(attest.BootClaims{}, nil); err == nil {
		t.Error("boot claims were replaced")
	}
	if err := s.SetFrontKeys([32]byte{7}, [32]byte{8}); err == nil {
		t.Error("front keys were replaced")
	}
}

func TestCheckpointsAreSignedOnlyForAGrowingLogOfThisBoot(t *testing.T) {
	s := newSigner(t, deviceFunc(echo))
	other := newSigner(t, deviceFunc(echo))
	other.origin = "omega/other"
	if _, err := s.SignCheckpoint(checkpoint(s, 5, 1)); err != nil {
		t.Fatal(err)
	}
	good := string(checkpoint(s, 6, 1))
	tests := []struct {
		name, text, want string
	}{
		{"smaller tree", string(checkpoint(s, 4, 1)), "less than"},
		{"same size, another root", string(checkpoint(s, 5, 2)), "another root"},
		{"another origin", string(checkpoint(other, 6, 1)), "origin"},
		{"an extension line", good + "x\n", "want 3"},
		{"no final newline", strings.TrimSuffix(good, "\n"), "want 3"},
		{"a size with a leading zero", strings.Replace(good, "\n6\n", "\n06\n", 1), "another spelling"},
		{"a negative size", strings.Replace(good, "\n6\n", "\n-6\n", 1), "size"},
		{"a short root", s.Origin() + "\n6\nAAAA\n", "root"},
		{"arbitrary text", "transfer all the money", "want 3"},
		{"too long", strings.Repeat("x", 300), "more than"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := s.SignCheckpoint([]byte(tt.text)); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error = %v, want one with %q", err, tt.want)
			}
		})
	}
}

func TestForeignVerifierOpensTheSignedNote(t *testing.T) {
	s := newSigner(t, deviceFunc(echo))
	signed, err := s.SignCheckpoint(checkpoint(s, 1, 1))
	if err != nil {
		t.Fatal(err)
	}
	vkey, err := note.NewEd25519VerifierKey(s.Origin(), s.logKey.Public().(ed25519.PublicKey))
	if err != nil {
		t.Fatal(err)
	}
	verifier, err := note.NewVerifier(vkey)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := note.Open(signed, note.VerifierList(verifier)); err != nil {
		t.Errorf("x/mod's note package refuses the note: %v", err)
	}
}

func FuzzSignCheckpoint(f *testing.F) {
	s, err := New(deviceFunc(echo), rand.Reader, [16]byte{1})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(checkpoint(s, 1, 1))
	f.Fuzz(func(t *testing.T, b []byte) {
		s.head = head{}
		signed, err := s.SignCheckpoint(b)
		if err != nil {
			return
		}
		if c, err := provenance.OpenCheckpoint(signed, s.Origin(), s.logKey.Public().(ed25519.PublicKey)); err != nil || string(c.Text()) != string(b) {
			t.Errorf("%q was signed; it reads as %+v, %v", b, c, err)
		}
	})
}
