package attest

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"omega/internal/strictjson"
)

// simpleSigning is what cosign's older signatures cover (containers/image,
// docs/containers-signature.5.md). The annotations that the signer added are in
// optional; agentloader/bundle admits no agent without role and principal there.
type simpleSigning struct {
	Critical struct {
		Identity struct {
			Reference string `json:"docker-reference"`
		} `json:"identity"`
		Image struct {
			Digest string `json:"docker-manifest-digest"`
		} `json:"image"`
		Type string `json:"type"`
	} `json:"critical"`
	Optional map[string]json.RawMessage `json:"optional"`
}

// readSimpleSigning reads a payload of that form.
func readSimpleSigning(payload []byte) (vouched, error) {
	var p simpleSigning
	if err := strictjson.Decode(payload, &p, strictjson.Limits{MaxBytes: maxStatement}); err != nil {
		return vouched{}, fmt.Errorf("simple signing: %w", err)
	}
	if p.Critical.Type != "cosign container image signature" {
		return vouched{}, errors.New("simple signing: of another type")
	}
	var out vouched
	for name, to := range map[string]*string{"role": &out.role, "principal": &out.principal} {
		if err := json.Unmarshal(p.Optional[name], to); err != nil || *to == "" {
			return vouched{}, errors.New("simple signing: no role and principal")
		}
	}
	digits, ok := strings.CutPrefix(p.Critical.Image.Digest, "sha256:")
	if err := out.digest.UnmarshalText([]byte(digits)); err != nil || !ok {
		return vouched{}, errors.New("simple signing: subject")
	}
	return out, nil
}
