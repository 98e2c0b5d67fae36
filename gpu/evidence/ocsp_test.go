package evidence

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha512"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"math/big"
	"slices"
	"testing"
	"time"
)

// answer is an OCSP response of ours about a certificate.
type answer struct {
	about, issuer *party
	by            *party // nil: the issuer
	status        string
	this          time.Time
	next          time.Time
	serial        int64 // instead of the certificate's
}

func (a answer) der(t *testing.T) []byte {
	t.Helper()
	var spki struct {
		Algorithm pkix.AlgorithmIdentifier
		Key       asn1.BitString
	}
	if err := unmarshalAll(a.issuer.cert.RawSubjectPublicKeyInfo, &spki); err != nil {
		t.Fatal(err)
	}
	name, key := sha512.Sum384(a.issuer.cert.RawSubject), sha512.Sum384(spki.Key.Bytes)
	one := singleResponse{ID: certID{pkix.AlgorithmIdentifier{Algorithm: oidSHA384}, name[:], key[:], a.about.cert.SerialNumber}, ThisUpdate: a.this, NextUpdate: a.next}
	if a.serial != 0 {
		one.ID.Serial = big.NewInt(a.serial)
	}
	switch a.status {
	case statusGood:
		one.Good = true
	case statusUnknown:
		one.Unknown = true
	case statusHold:
		one.Revoked = revokedInfo{a.this, reasonHold}
	default:
		one.Revoked = revokedInfo{At: a.this}
	}
	responder, _ := asn1.Marshal(asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 2, IsCompound: true, Bytes: []byte{4, 1, 0}})
	data := responseData{Responder: asn1.RawValue{FullBytes: responder}, Produced: a.this, Responses: []singleResponse{one}}
	signed, err := asn1.Marshal(data)
	if err != nil {
		t.Fatal(err)
	}
	by, basic := a.issuer, basicResponse{Data: responseData{Raw: signed}, Algorithm: pkix.AlgorithmIdentifier{Algorithm: oidECDSA384}}
	if a.by != nil {
		by, basic.Certificates = a.by, []asn1.RawValue{{FullBytes: a.by.cert.Raw}}
	}
	digest := sha512.Sum384(signed)
	sig, err := ecdsa.SignASN1(rand.Reader, by.key, digest[:])
	if err != nil {
		t.Fatal(err)
	}
	basic.Signature = asn1.BitString{Bytes: sig, BitLength: 8 * len(sig)}
	outer := ocspResponse{}
	outer.Bytes.Type = oidOCSPBasic
	if outer.Bytes.Response, err = asn1.Marshal(basic); err != nil {
		t.Fatal(err)
	}
	der, err := asn1.Marshal(outer)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// good are current good responses for everything that has a status.
func (f *fake) good() []answer {
	var out []answer
	for _, chain := range [][]*party{f.device[1:], f.rim} {
		for i := 0; i+1 < len(chain); i++ {
			out = append(out, answer{about: chain[i], issuer: chain[i+1], status: statusGood,
				this: forgeTime.Add(-time.Hour), next: forgeTime.Add(time.Hour)})
		}
	}
	return out
}

func TestRevocationIsToldApart(t *testing.T) {
	f := newFake(t, nil)
	e := f.evidence(t)
	ca := f.device[2]
	responder := issue(t, "responder", ca, func(c *x509.Certificate) {
		leafOnly(c)
		c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageOCSPSigning}
	})
	plain := issue(t, "no responder", ca, leafOnly)
	late := issue(t, "late responder", ca, func(c *x509.Certificate) {
		leafOnly(c)
		c.ExtKeyUsage, c.NotAfter = []x509.ExtKeyUsage{x509.ExtKeyUsageOCSPSigning}, forgeTime.Add(-time.Minute)
	})
	tests := []struct {
		name     string
		edit     func(*answer) // of the answer about the device
		policy   Policy
		want     error // where OCSP is required
		optional error // where it is not
	}{
		{"good", func(*answer) {}, Policy{}, nil, nil},
		{"good, by a responder", func(a *answer) { a.by = responder }, Policy{}, nil, nil},
		{"revoked", func(a *answer) { a.status = statusRevoked }, Policy{}, ErrRevoked, ErrRevoked},
		{"revoked long ago", func(a *answer) {
			a.status, a.this, a.next = statusRevoked, forgeTime.AddDate(0, -2, 0), forgeTime.AddDate(0, -1, 0)
		}, Policy{}, ErrRevoked, ErrRevoked},
		{"on hold", func(a *answer) { a.status = statusHold }, Policy{}, ErrHold, ErrHold},
		{"on hold, allowed", func(a *answer) { a.status = statusHold }, Policy{AllowHold: true}, nil, nil},
		{"unknown", func(a *answer) { a.status = statusUnknown }, Policy{}, ErrCollateral, nil},
		{"stale", func(a *answer) { a.next = forgeTime.Add(-time.Second) }, Policy{}, ErrStale, nil},
		{"from the future", func(a *answer) { a.this = forgeTime.Add(time.Second) }, Policy{}, ErrStale, nil},
		{"older than the policy allows", func(*answer) {}, Policy{OCSPMaxAge: time.Minute}, ErrStale, nil},
		{"without an end", func(a *answer) { a.next = time.Time{} }, Policy{}, ErrStale, nil},
		{"about another certificate", func(a *answer) { a.serial = 1 }, Policy{}, ErrCollateral, nil},
		{"by a certificate that may not answer", func(a *answer) { a.by = plain }, Policy{}, ErrChain, ErrChain},
		{"by a stranger", func(a *answer) { a.by = f.rim[1] }, Policy{}, ErrChain, ErrChain},
		{"by an expired responder", func(a *answer) { a.by = late }, Policy{}, ErrExpired, ErrExpired},
		{"with the issuer's name on another key", func(a *answer) {
			a.issuer = &party{f.device[2].cert, f.rim[1].key}
		}, Policy{}, ErrSignature, ErrSignature},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			answers := f.good()
			tt.edit(&answers[0])
			p := f.params(t)
			for _, a := range answers {
				p.OCSP = append(p.OCSP, a.der(t))
			}
			for required, want := range map[bool]error{true: tt.want, false: tt.optional} {
				p.Policy = tt.policy
				p.Policy.RequireOCSP = required
				r, err := Appraise(e, p)
				if !errors.Is(err, want) || (want == nil) != (r.Verdict == VerdictVerified) {
					t.Errorf("required %t: %v, want %v", required, err, want)
				}
				if proven := find(r, "revocation").Status == Proven; want == nil && proven != (tt.want == nil) && tt.name != "on hold, allowed" {
					t.Errorf("required %t: revocation proven %t", required, proven)
				}
			}
		})
	}
}

func TestEveryFlippedByteOfAnOCSPResponseIsRefused(t *testing.T) {
	e, p := h100(t)
	p.Now = atGPUOCSP
	a := appraised(t, e, p)
	s := a.subjects()[0]
	for _, der := range responses(t) {
		o, err := ParseOCSP(der)
		if err != nil {
			t.Fatal(err)
		}
		if !o.about(s.cert, s.issuer) {
			continue
		}
		for i := range der {
			b := slices.Clone(der)
			b[i] ^= 1
			o, err := ParseOCSP(b)
			if err != nil || !o.about(s.cert, s.issuer) {
				continue
			}
			if err := a.judge(o, s); err == nil {
				t.Errorf("byte %d (%#x) flipped is accepted", i, der[i])
			}
		}
		return
	}
	t.Error("no response about the device")
}
