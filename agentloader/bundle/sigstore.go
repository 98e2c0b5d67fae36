package bundle

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"

	"omega/internal/strictjson"
)

// Vouch is the predicate of a principal's signature: who signs, and as what.
type Vouch struct {
	Role      string `json:"role"`
	Principal string `json:"principal"`
}

// Signed is what a verified signature says. It means no more than that the key said it: whether
// the key may speak for that principal in that role is the policy's to tell.
type Signed struct {
	Vouch
	KeyID string
	// Key is the key's SubjectPublicKeyInfo in DER, Payload the statement that it signed, and Sig the
	// signature: what others need to verify it again.
	Key, Payload, Sig []byte
}

// sigstoreBundle is a sigstore bundle v0.3 with a DSSE envelope (protobuf-specs, sigstore_bundle.proto,
// in its JSON form). Log entries and time stamps are passed over: trust comes from the policy's keys.
type sigstoreBundle struct {
	MediaType string       `json:"mediaType"`
	Material  verification `json:"verificationMaterial"`
	Envelope  *Envelope    `json:"dsseEnvelope"`
}

type verification struct {
	PublicKey  *keyHint          `json:"publicKey,omitempty"`
	Entries    []json.RawMessage `json:"tlogEntries,omitempty"`
	TimeStamps json.RawMessage   `json:"timestampVerificationData,omitempty"`
}

type keyHint struct {
	Hint string `json:"hint"`
}

// VerifyBundle verifies a sigstore bundle: one of keys signed a principal's statement about digest.
func VerifyBundle(raw []byte, digest Digest, keys []Key) (Signed, error) {
	env, err := parseSigstore(raw)
	if err != nil {
		return Signed{}, err
	}
	ids, err := signersOf(env, keys)
	if err != nil {
		return Signed{}, err
	}
	// There is one signature, so one key.
	s := Signed{KeyID: ids[0], Payload: env.Payload, Sig: env.Signatures[0].Sig}
	for _, k := range keys {
		if k.ID == s.KeyID {
			s.Key = k.der
		}
	}
	about, err := parseStatement(env.Payload, PredicatePrincipal, &s.Vouch)
	if err != nil {
		return Signed{}, err
	}
	if about != digest {
		return Signed{}, fmt.Errorf("%w: %s, not %s", ErrSubject, about, digest)
	}
	if !ValidName(s.Role) || !ValidName(s.Principal) {
		return Signed{}, fmt.Errorf("predicate: role %.80q, principal %.80q", s.Role, s.Principal)
	}
	return s, nil
}

func parseSigstore(raw []byte) (*Envelope, error) {
	var b sigstoreBundle
	if err := strictjson.Decode(raw, &b, strictjson.Limits{MaxBytes: MaxSignature}); err != nil {
		return nil, fmt.Errorf("sigstore bundle: %w", err)
	}
	if b.MediaType != TypeSigstore {
		return nil, fmt.Errorf("sigstore bundle: media type %.80q", b.MediaType)
	}
	if b.Material.PublicKey == nil || b.Envelope == nil {
		return nil, errors.New("sigstore bundle: not a signature by a plain key over an envelope")
	}
	// The spec wants exactly one signature (sigstore_bundle.proto, dsse_envelope).
	if len(b.Envelope.Signatures) != 1 {
		return nil, fmt.Errorf("sigstore bundle: %d signatures", len(b.Envelope.Signatures))
	}
	if err := b.Envelope.Check(TypePayload); err != nil {
		return nil, fmt.Errorf("sigstore bundle: %w", err)
	}
	return b.Envelope, nil
}

// SignPrincipal signs v about digest and returns the sigstore bundle.
func SignPrincipal(key *PrivateKey, digest Digest, v Vouch) ([]byte, error) {
	if !ValidName(v.Role) || !ValidName(v.Principal) {
		return nil, fmt.Errorf("role %.80q or principal %.80q is not a name", v.Role, v.Principal)
	}
	payload, err := newStatement(digest, PredicatePrincipal, v)
	if err != nil {
		return nil, err
	}
	env, id, err := seal(key, payload)
	if err != nil {
		return nil, err
	}
	d, err := ParseDigest("sha256:" + id)
	if err != nil {
		return nil, err
	}
	return strictjson.Canonical(sigstoreBundle{
		MediaType: TypeSigstore,
		// cosign's hint: base64 of the SHA-256 of the SubjectPublicKeyInfo.
		Material: verification{PublicKey: &keyHint{base64.StdEncoding.EncodeToString(d[:])}},
		Envelope: env,
	})
}

// SignatureManifest returns the OCI manifest that makes a sigstore bundle a referrer of subject,
// with the annotations that cosign looks for.
func SignatureManifest(sig []byte, subject OCIDescriptor) ([]byte, error) {
	return Artifact(TypeSigstore, TypeSigstore, sig, &subject, map[string]string{
		"dev.sigstore.bundle.content":       "dsse-envelope",
		"dev.sigstore.bundle.predicateType": PredicatePrincipal,
	})
}
