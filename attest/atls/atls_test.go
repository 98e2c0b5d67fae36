package atls

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"strings"
	"testing"
	"time"

	"omega/attest"
	"omega/attest/cmw"
	"omega/attest/verifier"
)

// state is a fresh connection to whoever holds the certificate.
func state(t *testing.T, c *tls.Certificate) tls.ConnectionState {
	t.Helper()
	leaf, err := x509.ParseCertificate(c.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	return tls.ConnectionState{Version: tls.VersionTLS13, PeerCertificates: []*x509.Certificate{leaf}}
}

func TestACertificateSpeaksForTheMachineThatHoldsItsKey(t *testing.T) {
	m := newMachine(t, 1)
	s := state(t, certificate(t, m.key, record(m.token(t, time.Now())), time.Now()))
	r, err := m.appraiser(t).Connection(s)
	if err != nil {
		t.Fatalf("%v: %+v", err, r)
	}
	if r.Verdict != attest.VerdictEmulated {
		t.Errorf("verdict %s", r.Verdict)
	}
	if size := len(s.PeerCertificates[0].Raw); size > 8<<10 {
		t.Errorf("the certificate has %d bytes", size)
	}
	if err := m.appraiser(t).VerifyConnection(s); err != nil {
		t.Error(err)
	}
}

func TestEveryOtherCertificateIsRefusedForItsOwnReason(t *testing.T) {
	m, other := newMachine(t, 1), newMachine(t, 2)
	stranger, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	good := m.token(t, now)
	plain := func() tls.ConnectionState { return state(t, certificate(t, m.key, record(good), now)) }
	debug := newMachine(t, 3)
	debug.boot.Profile = "debug"
	tests := []struct {
		name   string
		state  tls.ConnectionState
		change func(a *Appraiser)
		class  error
		words  string
	}{
		{"another machine", state(t, certificate(t, other.key, record(other.token(t, now)), now)), nil, attest.ErrMismatch, "measurement"},
		{"this machine's evidence around a stranger's key", state(t, certificate(t, stranger, record(good), now)), nil, attest.ErrMismatch, "another key"},
		{"no evidence", state(t, certificate(t, m.key, nil, now)), nil, attest.ErrMismatch, "carries no evidence"},
		{"evidence that is a day old", state(t, certificate(t, m.key, record(m.token(t, now.Add(-25*time.Hour))), now)), nil, attest.ErrSignature, "was not renewed"},
		{"evidence older than the appraiser likes", state(t, certificate(t, m.key, record(m.token(t, now.Add(-time.Hour))), now)), func(a *Appraiser) { a.MaxAge = time.Minute }, attest.ErrSignature, "more than 1m0s"},
		{"evidence from the future", state(t, certificate(t, m.key, record(m.token(t, now.Add(time.Hour))), now)), nil, attest.ErrSignature, "ahead of the clock"},
		{"an expired certificate", state(t, certificate(t, m.key, record(good), now.Add(-48*time.Hour))), nil, attest.ErrSignature, "expired"},
		{"an emulated machine that nobody named", plain(), func(a *Appraiser) { a.Params.EmulatedRoot = nil }, attest.ErrSignature, "emulated"},
		{"an old release", plain(), func(a *Appraiser) { a.Params.MinSVN = 2 }, attest.ErrMismatch, "svn"},
		{"a policy with demands on agents", plain(), func(a *Appraiser) {
			p := a.Params
			a.Params.Policy = &verifier.Policy{Report: p.Report, MustRun: []string{"researcher"}}
		}, attest.ErrMismatch, "names none"},
		{"a policy against agents", plain(), func(a *Appraiser) {
			p := a.Params
			a.Params.Policy = &verifier.Policy{Report: p.Report, MustNotRun: []string{"researcher"}}
		}, attest.ErrMismatch, "names none"},
		{"a policy that wants a bound launch config", plain(), func(a *Appraiser) {
			a.Params.Policy = &verifier.Policy{Report: a.Params.Report, RequireBoundConfig: true}
		}, attest.ErrMismatch, "launch_config"},
		{"another media type", state(t, certificate(t, m.key, &cmw.Record{Type: "application/eat+cwt", Value: good, Kind: cmw.Evidence}, now)), nil, attest.ErrMismatch, "eat+cwt"},
		{"not called evidence", state(t, certificate(t, m.key, &cmw.Record{Type: record(good).Type, Value: good, Kind: cmw.Endorsements}, now)), nil, attest.ErrMismatch, "want evidence"},
		{"garbage", state(t, certificate(t, m.key, record([]byte("garbage")), now)), nil, attest.ErrSignature, "eat"},
		{"TLS 1.2", func() tls.ConnectionState { s := plain(); s.Version = tls.VersionTLS12; return s }(), nil, attest.ErrSignature, "TLS 1.2"},
		{"a resumed connection", func() tls.ConnectionState { s := plain(); s.DidResume = true; return s }(), nil, attest.ErrSignature, "resumed"},
		{"two certificates", func() tls.ConnectionState {
			s := plain()
			s.PeerCertificates = append(s.PeerCertificates, s.PeerCertificates[0])
			return s
		}(), nil, attest.ErrSignature, "2 certificates"},
		{"no certificate", tls.ConnectionState{Version: tls.VersionTLS13}, nil, attest.ErrSignature, "0 certificates"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a := m.appraiser(t)
			if tt.change != nil {
				tt.change(a)
			}
			r, err := a.Connection(tt.state)
			if !errors.Is(err, tt.class) || !strings.Contains(err.Error(), tt.words) {
				t.Errorf("%v, want %v with %q", err, tt.class, tt.words)
			}
			if r.Verdict != attest.VerdictRefused {
				t.Errorf("verdict %s", r.Verdict)
			}
		})
	}
}

// TestEachFlippedByteOfTheEvidenceIsRefused: the report's signature, the binding
// or the encoding covers every byte of the token.
func TestEachFlippedByteOfTheEvidenceIsRefused(t *testing.T) {
	m := newMachine(t, 1)
	now := time.Now()
	token := m.token(t, now)
	a := m.appraiser(t)
	for i := 0; i < len(token); i += 7 {
		changed := append([]byte{}, token...)
		changed[i] ^= 0x10
		if _, err := a.Connection(state(t, certificate(t, m.key, record(changed), now))); err == nil {
			t.Fatalf("byte %d is not covered", i)
		}
	}
}
