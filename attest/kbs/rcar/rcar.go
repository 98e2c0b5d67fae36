// Package rcar has the messages and the cryptography of the key broker service
// of Confidential Containers (Trustee, kbs/docs/kbs_attestation_protocol.md):
// Request, Challenge, Attestation, Response. Bytes in, values out: attest/kbs
// carries the messages, the guest's signer holds the key that opens them.
//
// It speaks one form of the protocol, version 0.4.0 for SNP with a P-256 key,
// and refuses what it did not offer. It does not look into the broker's token:
// that is for the broker and for who trusts its key.
package rcar

import (
	"crypto/sha512"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"omega/internal/strictjson"
)

const (
	// Version is the protocol's; a broker accepts exactly its own
	// (trustee 78962cd, kbs/src/attestation/backend.rs).
	Version = "0.4.0"
	// MaxMessage bounds each message of a broker but a resource.
	MaxMessage = 64 << 10
	// hashAlgorithm makes REPORT_DATA of runtime data. All but IBM's SE use it.
	hashAlgorithm = "sha384"
	maxToken      = 48 << 10
)

// Bounds of a nonce in bytes; brokers draw 32.
const minNonce, maxNonce = 16, 64

// Request is the first message: what wants to be attested.
func Request() []byte {
	return []byte(`{"version":"` + Version + `","tee":"snp","extra-params":{"supported-hash-algorithms":["` + hashAlgorithm + `"]}}`)
}

// ParseChallenge reads the broker's nonce. A broker that chose another hash is
// refused: REPORT_DATA of another length could be one of Omega's own.
func ParseChallenge(b []byte) (nonce string, err error) {
	var c struct {
		Nonce string          `json:"nonce"`
		Extra json.RawMessage `json:"extra-params"`
	}
	if err := strictjson.Decode(b, &c, strictjson.Limits{MaxBytes: MaxMessage}); err != nil {
		return "", fmt.Errorf("challenge: %w", err)
	}
	if err := CheckNonce(c.Nonce); err != nil {
		return "", fmt.Errorf("challenge: %w", err)
	}
	if err := checkExtra(c.Extra); err != nil {
		return "", fmt.Errorf("challenge: %w", err)
	}
	return c.Nonce, nil
}

// checkExtra accepts nothing, an empty string, or the hash that was offered.
func checkExtra(b json.RawMessage) error {
	if s := string(b); s == "" || s == `""` {
		return nil
	}
	var extra struct {
		Hash *string `json:"selected-hash-algorithm,omitempty"`
	}
	if err := strictjson.Decode(b, &extra, strictjson.Limits{}); err != nil {
		return fmt.Errorf("extra parameters: %w", err)
	}
	if extra.Hash != nil && *extra.Hash != hashAlgorithm {
		return fmt.Errorf("hash algorithm %.20q, offered was %s", *extra.Hash, hashAlgorithm)
	}
	return nil
}

// CheckNonce accepts base64 text of a random number and nothing that could be
// read as more when it stands in JSON.
func CheckNonce(nonce string) error {
	b, err := base64.StdEncoding.Strict().DecodeString(nonce)
	if err != nil || strings.ContainsAny(nonce, "\r\n") || len(b) < minNonce || len(b) > maxNonce {
		return fmt.Errorf("nonce is not base64 of %d to %d bytes", minNonce, maxNonce)
	}
	return nil
}

// JWK is a P-256 public key that a broker wraps keys to.
type JWK struct {
	Algorithm string `json:"alg"`
	Curve     string `json:"crv"`
	Type      string `json:"kty"`
	X         string `json:"x"`
	Y         string `json:"y"`
}

// RuntimeData is what REPORT_DATA binds: the broker's nonce and a key. It is
// made by who holds the key, never taken from elsewhere.
type RuntimeData struct {
	Nonce string
	Key   JWK
}

// ReportData is the REPORT_DATA of SNP evidence over the runtime data: SHA-384
// over its canonical JSON (RFC 8785), and zeros. The additional evidence, of
// other devices, is empty.
func (r *RuntimeData) ReportData() ([64]byte, error) {
	var out [64]byte
	if err := CheckNonce(r.Nonce); err != nil {
		return out, err
	}
	// The keys and values are ASCII, where strictjson's order is RFC 8785's.
	b, err := strictjson.Canonical(map[string]any{"additional-evidence": "", "nonce": r.Nonce, "tee-pubkey": r.Key})
	if err != nil {
		return out, fmt.Errorf("runtime data: %w", err)
	}
	sum := sha512.Sum384(b)
	copy(out[:], sum[:])
	return out, nil
}

// Attestation is the third message: the runtime data and the report over it.
func (r *RuntimeData) Attestation(report, certificates []byte) ([]byte, error) {
	evidence, err := snpEvidence(report, certificates)
	if err != nil {
		return nil, fmt.Errorf("attestation: %w", err)
	}
	return json.Marshal(map[string]any{
		"runtime-data": map[string]any{"nonce": r.Nonce, "tee-pubkey": r.Key},
		"tee-evidence": map[string]any{"primary_evidence": evidence, "additional_evidence": ""},
	})
}

// jwt is the form of a JSON Web Token (RFC 7519 section 3).
var jwt = regexp.MustCompile(`^[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+$`)

// CheckToken reads the answer to an attestation. It holds the broker's token,
// which this client has no use for: the session's cookie stands for it.
func CheckToken(b []byte) error {
	var t struct {
		Token string `json:"token"`
	}
	if err := strictjson.Decode(b, &t, strictjson.Limits{MaxBytes: MaxMessage}); err != nil {
		return fmt.Errorf("attestation token: %w", err)
	}
	if len(t.Token) > maxToken || !jwt.MatchString(t.Token) {
		return errors.New("attestation token: not a JSON Web Token")
	}
	return nil
}

// ParseRefusal reads why a broker refused: the last part of the error's type,
// and its words, fit to be shown.
func ParseRefusal(b []byte) string {
	var e struct {
		Type   string `json:"type"`
		Detail string `json:"detail"`
	}
	if err := strictjson.Decode(b, &e, strictjson.Limits{MaxBytes: MaxMessage}); err != nil {
		return "without a reason"
	}
	return fmt.Sprintf("%.60q: %.300q", e.Type[strings.LastIndexByte(e.Type, '/')+1:], e.Detail)
}

// resource is the form of a resource's name: repository, type, tag.
var resource = regexp.MustCompile(`^kbs:///([A-Za-z0-9_-][A-Za-z0-9._-]{0,63})/([A-Za-z0-9_-][A-Za-z0-9._-]{0,63})/([A-Za-z0-9_-][A-Za-z0-9._-]{0,63})$`)

// ResourcePath is the path of the resource kbs:///REPOSITORY/TYPE/TAG at a broker.
func ResourcePath(uri string) (string, error) {
	m := resource.FindStringSubmatch(uri)
	if m == nil {
		return "", fmt.Errorf("resource %.100q: want kbs:///REPOSITORY/TYPE/TAG", uri)
	}
	return "/kbs/v0/resource/" + strings.Join(m[1:], "/"), nil
}
