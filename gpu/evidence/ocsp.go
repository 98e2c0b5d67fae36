package evidence

import (
	"bytes"
	"crypto/sha512"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
	"reflect"
	"slices"
	"time"
)

// maxOCSP bounds a response; real ones have 1 KB.
const maxOCSP = 64 << 10

// Statuses of a certificate.
const (
	statusGood    = "good"
	statusRevoked = "revoked"
	statusHold    = "hold"
	statusUnknown = "unknown"
)

var (
	oidOCSPBasic = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1, 1}
	oidECDSA384  = asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 3}
)

// reasonHold is certificateHold, RFC 5280 section 5.3.1.
const reasonHold = 6

// The ASN.1 of RFC 6960 section 4.2.1.
type (
	ocspResponse struct {
		Status asn1.Enumerated
		Bytes  struct {
			Type     asn1.ObjectIdentifier
			Response []byte
		} `asn1:"explicit,tag:0,optional"`
	}
	basicResponse struct {
		Data         responseData
		Algorithm    pkix.AlgorithmIdentifier
		Signature    asn1.BitString
		Certificates []asn1.RawValue `asn1:"explicit,tag:0,optional"`
	}
	responseData struct {
		Raw        asn1.RawContent
		Version    int `asn1:"explicit,tag:0,default:0,optional"`
		Responder  asn1.RawValue
		Produced   time.Time `asn1:"generalized"`
		Responses  []singleResponse
		Extensions []pkix.Extension `asn1:"explicit,tag:1,optional"`
	}
	singleResponse struct {
		ID         certID
		Good       asn1.Flag        `asn1:"tag:0,optional"`
		Revoked    revokedInfo      `asn1:"tag:1,optional"`
		Unknown    asn1.Flag        `asn1:"tag:2,optional"`
		ThisUpdate time.Time        `asn1:"generalized"`
		NextUpdate time.Time        `asn1:"generalized,explicit,tag:0,optional"`
		Extensions []pkix.Extension `asn1:"explicit,tag:1,optional"`
	}
	certID struct {
		Algorithm pkix.AlgorithmIdentifier
		NameHash  []byte
		KeyHash   []byte
		Serial    *big.Int
	}
	revokedInfo struct {
		At     time.Time       `asn1:"generalized"`
		Reason asn1.Enumerated `asn1:"explicit,tag:0,optional"`
	}
)

// OCSP is a response about one certificate, read but not verified.
type OCSP struct {
	status     string
	thisUpdate time.Time
	nextUpdate time.Time // zero: there is newer information at any time

	id        certID
	responder *x509.Certificate // nil: the issuer itself
	signed    []byte
	signature []byte
}

// ParseOCSP reads a successful basic response about one certificate, signed with
// ECDSA and SHA-384 by the issuer or by one certificate that comes with it.
func ParseOCSP(der []byte) (*OCSP, error) {
	o, err := parseOCSP(der)
	if err != nil {
		return nil, fmt.Errorf("OCSP response: %w: %w", ErrFormat, err)
	}
	return o, nil
}

func parseOCSP(der []byte) (*OCSP, error) {
	if len(der) > maxOCSP {
		return nil, fmt.Errorf("%d bytes, at most %d", len(der), maxOCSP)
	}
	var outer ocspResponse
	if err := unmarshalExact(der, &outer); err != nil {
		return nil, err
	}
	if outer.Status != 0 || !outer.Bytes.Type.Equal(oidOCSPBasic) {
		return nil, fmt.Errorf("status %d, type %v", outer.Status, outer.Bytes.Type)
	}
	var basic basicResponse
	if err := unmarshalExact(outer.Bytes.Response, &basic); err != nil {
		return nil, err
	}
	if !basic.Algorithm.Algorithm.Equal(oidECDSA384) || basic.Signature.BitLength%8 != 0 {
		return nil, fmt.Errorf("signature algorithm %v", basic.Algorithm.Algorithm)
	}
	if len(basic.Data.Responses) != 1 || len(basic.Certificates) > 1 || basic.Data.Version != 0 {
		return nil, fmt.Errorf("%d statuses, %d certificates, version %d", len(basic.Data.Responses), len(basic.Certificates), basic.Data.Version)
	}
	single := basic.Data.Responses[0]
	for _, e := range slices.Concat(single.Extensions, basic.Data.Extensions) {
		if e.Critical {
			return nil, fmt.Errorf("critical extension %v", e.Id)
		}
	}
	o := &OCSP{id: single.ID, thisUpdate: single.ThisUpdate, nextUpdate: single.NextUpdate,
		signed: basic.Data.Raw, signature: basic.Signature.Bytes}
	if !o.id.Algorithm.Algorithm.Equal(oidSHA384) {
		return nil, fmt.Errorf("certificate identifier by %v, want SHA-384", o.id.Algorithm.Algorithm)
	}
	var err error
	if len(basic.Certificates) == 1 {
		if o.responder, err = x509.ParseCertificate(basic.Certificates[0].FullBytes); err != nil {
			return nil, err
		}
	}
	o.status, err = single.status()
	return o, err
}

// status is the outcome of a response, of which there is exactly one.
func (s *singleResponse) status() (string, error) {
	revoked := !s.Revoked.At.IsZero()
	switch {
	case bool(s.Good) && !revoked && !bool(s.Unknown):
		return statusGood, nil
	case revoked && !bool(s.Good) && !bool(s.Unknown):
		if s.Revoked.Reason == reasonHold {
			return statusHold, nil
		}
		return statusRevoked, nil
	case bool(s.Unknown) && !revoked && !bool(s.Good):
		return statusUnknown, nil
	}
	return "", errors.New("not exactly one status")
}

// about reports whether the response is about cert, issued by issuer.
func (o *OCSP) about(cert, issuer *x509.Certificate) bool {
	if cert.SerialNumber.Cmp(o.id.Serial) != 0 {
		return false
	}
	var spki struct {
		Algorithm pkix.AlgorithmIdentifier
		Key       asn1.BitString
	}
	if unmarshalAll(issuer.RawSubjectPublicKeyInfo, &spki) != nil {
		return false
	}
	name, key := sha512.Sum384(issuer.RawSubject), sha512.Sum384(spki.Key.RightAlign())
	return bytes.Equal(name[:], o.id.NameHash) && bytes.Equal(key[:], o.id.KeyHash)
}

// verify checks that issuer, or a responder that issuer named for the purpose,
// signed the response. The responder's certificate must be valid at the time.
func (o *OCSP) verify(issuer *x509.Certificate, at time.Time) error {
	signer := issuer
	if r := o.responder; r != nil && !r.Equal(issuer) {
		if err := r.CheckSignatureFrom(issuer); err != nil || !slices.Contains(r.ExtKeyUsage, x509.ExtKeyUsageOCSPSigning) {
			return fmt.Errorf("OCSP response: %w: %q may not answer for %q", ErrChain, r.Subject.CommonName, issuer.Subject.CommonName)
		}
		if at.Before(r.NotBefore) || at.After(r.NotAfter) {
			return fmt.Errorf("OCSP response: %w: responder %q", ErrExpired, r.Subject.CommonName)
		}
		signer = r
	}
	if err := signer.CheckSignature(x509.ECDSAWithSHA384, o.signed, o.signature); err != nil {
		return fmt.Errorf("OCSP response: %w", ErrSignature)
	}
	return nil
}

// current checks the time of the response. Without a next update it is as old as
// maxAge allows; a zero maxAge allows what the response says.
func (o *OCSP) current(now time.Time, maxAge time.Duration) error {
	end := o.nextUpdate
	if maxAge > 0 && (end.IsZero() || end.After(o.thisUpdate.Add(maxAge))) {
		end = o.thisUpdate.Add(maxAge)
	}
	if now.Before(o.thisUpdate) || now.After(end) {
		return fmt.Errorf("%w: made at %s, asked for %s", ErrStale, o.thisUpdate.Format(time.RFC3339), now.UTC().Format(time.RFC3339))
	}
	return nil
}

// unmarshalAll reads DER and refuses bytes behind it.
func unmarshalAll(der []byte, v any) error {
	rest, err := asn1.Unmarshal(der, v)
	if err == nil && len(rest) != 0 {
		err = fmt.Errorf("%d bytes behind the end", len(rest))
	}
	return err
}

// unmarshalExact also refuses what encoding/asn1 overlooks, such as a wrong
// length around an explicit tag: the value must write the same bytes again.
func unmarshalExact(der []byte, v any) error {
	if err := unmarshalAll(der, v); err != nil {
		return err
	}
	again, err := asn1.Marshal(reflect.ValueOf(v).Elem().Interface())
	if err == nil && !bytes.Equal(again, der) {
		err = errors.New("not DER")
	}
	return err
}
