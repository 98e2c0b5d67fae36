// Package eat writes evidence as an Entity Attestation Token (RFC 9711) in
// CBOR, and reads it back: the same claims as the JSON form, under the standard
// claim where there is one. The token is an unprotected claims set (RFC 9781):
// its integrity is the SNP report's, which binds every claim by REPORT_DATA, and
// whoever reads it appraises what Parse returns. It appraises nothing itself.
//
// docs/evidence-eat.md is the table of claims.
package eat

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"

	"omega/attest"
	"omega/attest/snp"
	"omega/internal/cbor"
	"omega/internal/labelhash"
)

// Media types (RFC 9782) and profiles of both tokens.
const (
	MediaType          = "application/eat-ucs+cbor"
	EvidenceProfile    = "https://omega.invalid/eat/evidence/v1"
	CertificateProfile = "https://omega.invalid/eat/certificate/v1"
)

// Media types with the profile: of evidence, and of the token in a TLS
// certificate.
const (
	EvidenceMediaType    = MediaType + `; eat_profile="` + EvidenceProfile + `"`
	CertificateMediaType = MediaType + `; eat_profile="` + CertificateProfile + `"`
)

// Standard claims by their CWT key (RFC 9711 section 10.2, RFC 8392 section 4).
const (
	claimNotBefore    int64 = 5
	claimNonce        int64 = 10
	claimUEID         int64 = 256
	claimOEMID        int64 = 258
	claimHWModel      int64 = 259
	claimDebug        int64 = 263
	claimProfile      int64 = 265
	claimSubmods      int64 = 266
	claimBootSeed     int64 = 268
	claimSWName       int64 = 270
	claimSWVersion    int64 = 271
	claimMeasurements int64 = 273
	// claimPrivate holds what no standard claim says; numbers below -65536 are
	// for private use (RFC 8392 section 9.1).
	claimPrivate int64 = -70000
)

// Values of standard claims.
const (
	tagUCCS           = 601  // RFC 9781 section 2
	enterpriseAMD     = 3704 // IANA private enterprise number, as in the OIDs of a VCEK
	contentOctets     = 42   // CoAP content format of application/octet-stream
	ueidRandom        = 1    // RFC 9711 table 1: type RAND, here a hash of an identifier
	debugEnabled      = 0    // RFC 9711 section 4.2.9
	debugOffSinceBoot = 2
	versionDecimal    = 4 // RFC 9393 table 3
)

// debugProfile is the image profile with a shell inside.
const debugProfile = "debug"

// seal writes a claims set under its tag.
func seal(claims cbor.Map, limit int) ([]byte, error) {
	b, err := cbor.Encode(cbor.Tag{Number: tagUCCS, Value: claims})
	if err != nil {
		return nil, fmt.Errorf("eat: %w", err)
	}
	if len(b) > limit {
		return nil, fmt.Errorf("eat: %d bytes, limit %d", len(b), limit)
	}
	return b, nil
}

// platformClaims are the standard claims about the machine and its image. Those
// that come from the report are there to be read without knowing its layout; the
// report remains what is verified.
func platformClaims(raw []byte, boot *attest.BootClaims, profile string) (cbor.Map, error) {
	report, err := snp.ParseReport(raw)
	if err != nil {
		return nil, fmt.Errorf("eat: %w", err)
	}
	debug := int64(debugOffSinceBoot)
	if report.GuestPolicy&snp.PolicyDebug != 0 || boot.Profile == debugProfile {
		debug = debugEnabled
	}
	claims := cbor.Map{
		{Key: claimProfile, Value: profile},
		{Key: claimDebug, Value: debug},
		{Key: claimBootSeed, Value: boot.BootID[:]},
		{Key: claimSWName, Value: "omega " + boot.Profile},
		{Key: claimSWVersion, Value: []any{strconv.FormatUint(uint64(boot.SVN), 10), int64(versionDecimal)}},
		{Key: claimMeasurements, Value: []any{[]any{int64(contentOctets), raw}}},
	}
	if report.FamilyID == snp.EmulatedFamilyID {
		return claims, nil // no hardware, so no maker, model or chip
	}
	claims = append(claims, cbor.Pair{Key: claimOEMID, Value: int64(enterpriseAMD)})
	if p, err := report.Product(); err == nil {
		claims = append(claims, cbor.Pair{Key: claimHWModel, Value: []byte(p)})
	}
	if report.ChipID != ([64]byte{}) { // zero where the host hides it
		id := labelhash.Sum256("omega/ueid/v1", report.ChipID[:])
		claims = append(claims, cbor.Pair{Key: claimUEID, Value: append([]byte{ueidRandom}, id[:]...)})
	}
	return claims, nil
}

// same refuses a token that is not the one that write makes.
func same(b []byte, write func() ([]byte, error)) error {
	again, err := write()
	if err != nil {
		return err
	}
	if !bytes.Equal(again, b) {
		return errors.New("eat: the claims contradict one another, or one is not known")
	}
	return nil
}

func open(b []byte, profile string, limit int) (cbor.Map, error) {
	v, err := cbor.Decode(b, limit)
	if err != nil {
		return nil, fmt.Errorf("eat: %w", err)
	}
	tag, ok := v.(cbor.Tag)
	if !ok || tag.Number != tagUCCS {
		return nil, fmt.Errorf("eat: want an unprotected claims set (CBOR tag %d)", tagUCCS)
	}
	claims, ok := tag.Value.(cbor.Map)
	if !ok {
		return nil, errors.New("eat: the claims set is not a map")
	}
	if got, _ := claims.Get(claimProfile); got != profile {
		return nil, fmt.Errorf("eat: profile %.80v, want %s", got, profile)
	}
	return claims, nil
}

func private(claims cbor.Map, dst any) error {
	v, ok := claims.Get(claimPrivate)
	if !ok {
		return fmt.Errorf("eat: no claim %d", claimPrivate)
	}
	if err := cbor.FromValue(v, dst); err != nil {
		return fmt.Errorf("eat: claim %d: %w", claimPrivate, err)
	}
	return nil
}

// reportOf is the report in the measurements claim.
func reportOf(claims cbor.Map) ([]byte, error) {
	v, _ := claims.Get(claimMeasurements)
	list, _ := v.([]any)
	if len(list) == 1 {
		if pair, _ := list[0].([]any); len(pair) == 2 && pair[0] == int64(contentOctets) {
			if report, ok := pair[1].([]byte); ok {
				return bytes.Clone(report), nil
			}
		}
	}
	return nil, fmt.Errorf("eat: claim %d is not one report", claimMeasurements)
}
