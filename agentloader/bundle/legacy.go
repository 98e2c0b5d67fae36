package bundle

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"omega/internal/strictjson"
)

// cosign's older form of signatures: an image under the tag sha256-HEX.sig, whose layers are the signed
// payloads and whose annotations the signatures (cosign, specs/SIGNATURE_SPEC.md; the payload is that of
// containers/image, docs/containers-signature.5.md).
const (
	typeSimpleSigning = "application/vnd.dev.cosign.simplesigning.v1+json"
	noteSignature     = "dev.cosignproject.cosign/signature"
	kindSimpleSigning = "cosign container image signature"
)

// ErrNoRole reports a signature in cosign's older form that does not say as whom and in which role it was
// made. Nobody guesses.
var ErrNoRole = errors.New("signature names no role and principal; sign with -a role=… -a principal=…")

// A legacySource also has what lies under the tag of d's older signatures: nil if there is nothing.
type legacySource interface {
	Legacy(ctx context.Context, d Digest) ([]byte, error)
}

// LegacyTag is the tag under which cosign's older signatures of d lie.
func LegacyTag(d Digest) string { return "sha256-" + d.Hex() + ".sig" }

// legacySignature is one of them.
type legacySignature struct{ payload, sig []byte }

// simpleSigning is what was signed.
type simpleSigning struct {
	Critical struct {
		Identity struct {
			Reference string `json:"docker-reference"`
		} `json:"identity"`
		Image struct {
			Digest Digest `json:"docker-manifest-digest"`
		} `json:"image"`
		Type string `json:"type"`
	} `json:"critical"`
	Optional map[string]json.RawMessage `json:"optional"`
}

// readLegacy adds d's older signatures. What is broken is passed over, as among referrers.
func (s *signatures) readLegacy(ctx context.Context, from Source, d Digest) {
	l, ok := from.(legacySource)
	if !ok {
		return
	}
	raw, err := l.Legacy(ctx, d)
	if err != nil || raw == nil {
		s.skipped = errors.Join(s.skipped, err)
		return
	}
	m, err := ParseOCIManifest(raw)
	if err != nil {
		s.skipped = errors.Join(s.skipped, err)
		return
	}
	for _, layer := range m.Layers[:min(len(m.Layers), maxReferrers)] {
		sig, err := base64.StdEncoding.DecodeString(layer.Annotations[noteSignature])
		if layer.MediaType != typeSimpleSigning || err != nil || len(sig) == 0 {
			continue
		}
		payload, err := from.Blob(ctx, layer, MaxSignature)
		if err != nil {
			s.skipped = errors.Join(s.skipped, err)
			continue
		}
		s.legacy = append(s.legacy, legacySignature{payload, sig})
	}
}

// VerifyLegacy verifies a signature in cosign's older form: one of keys signed the payload, and it is about
// digest. The role and the principal are those that were signed as annotations.
func VerifyLegacy(payload, sig []byte, digest Digest, keys []Key) (Signed, error) {
	i := slices.IndexFunc(keys, func(k Key) bool { return k.verify(payload, sig) })
	if i < 0 {
		return Signed{}, ErrSignature
	}
	about, v, err := parseSimpleSigning(payload)
	if err != nil {
		return Signed{}, err
	}
	if about != digest {
		return Signed{}, fmt.Errorf("%w: %s, not %s", ErrSubject, about, digest)
	}
	return Signed{Vouch: v, KeyID: keys[i].ID, Key: keys[i].der, Payload: payload, Sig: sig}, nil
}

func parseSimpleSigning(payload []byte) (Digest, Vouch, error) {
	var p simpleSigning
	if err := strictjson.Decode(payload, &p, strictjson.Limits{MaxBytes: MaxSignature}); err != nil {
		return Digest{}, Vouch{}, fmt.Errorf("simple signing: %w", err)
	}
	if p.Critical.Type != kindSimpleSigning {
		return Digest{}, Vouch{}, fmt.Errorf("simple signing: type %.80q", p.Critical.Type)
	}
	var v Vouch
	for name, to := range map[string]*string{"role": &v.Role, "principal": &v.Principal} {
		if err := json.Unmarshal(p.Optional[name], to); err != nil || !ValidName(*to) {
			return Digest{}, Vouch{}, ErrNoRole
		}
	}
	return p.Critical.Image.Digest, v, nil
}
