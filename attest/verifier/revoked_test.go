package verifier_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"omega/attest"
	"omega/attest/verifier"
)

func TestWhatIsRevokedIsRefusedAndAnOldListToo(t *testing.T) {
	now := time.Now()
	list := func(change func(*attest.Revocations)) *attest.Revocations {
		r := &attest.Revocations{Serial: 1, Issued: now.Add(-time.Hour), Expires: now.Add(time.Hour)}
		change(r)
		return r
	}
	required := `,"revocation":{"required":true,"keys":["` + b64(bob.spki) + `"]}`
	tests := []struct {
		name, policy string
		list         *attest.Revocations
		class        error
	}{
		{"no list", "", nil, nil},
		{"no list where one is demanded", required, nil, verifier.ErrCollateral},
		{"an empty list", required, list(func(*attest.Revocations) {}), nil},
		{"somebody else's component", "", list(func(r *attest.Revocations) { r.Components = []attest.Bytes32{{99}} }), nil},
		{"a model", "", list(func(r *attest.Revocations) { r.Components = []attest.Bytes32{{10, 1}} }), verifier.ErrMismatch},
		{"an agent bundle", "", list(func(r *attest.Revocations) { r.Components = []attest.Bytes32{{9}} }), verifier.ErrMismatch},
		{"a key", "", list(func(r *attest.Revocations) { r.Keys = []attest.Bytes32{keyID(t, mia)} }), verifier.ErrMismatch},
		{"an expired list", "", list(func(r *attest.Revocations) { r.Expires = now.Add(-time.Minute) }), verifier.ErrSignature},
		{"a list of the future", "", list(func(r *attest.Revocations) { r.Issued = now.Add(time.Minute) }), verifier.ErrSignature},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			w.p.Now, w.p.Revoked = now, tt.list
			w.p.Policy = policyOf(t, tt.policy)
			r, err := verifier.Appraise(w.e, w.p)
			if !errors.Is(err, tt.class) || (failed(r) == "revoked") != (tt.class != nil) {
				t.Errorf("%q failed: %v", failed(r), err)
			}
		})
	}
	w := remembered(t)
	w.p.Revoked = list(func(r *attest.Revocations) { r.Keys = []attest.Bytes32{keyID(t, mia)} })
	if r, err := verifier.Appraise(w.again(w.p.Known.Have()), w.p); !errors.Is(err, verifier.ErrMismatch) || !strings.Contains(err.Error(), "mia") {
		t.Errorf("a part that is known and now revoked: %q: %v", failed(r), err)
	}
}

func keyID(t *testing.T, k signingKey) attest.Bytes32 {
	t.Helper()
	var id attest.Bytes32
	if err := id.UnmarshalText([]byte(k.ID())); err != nil {
		t.Fatal(err)
	}
	return id
}

func TestAPolicyOfKeysThatMeanNothingIsRefused(t *testing.T) {
	key := `"` + b64(ann.spki) + `"`
	for _, good := range []string{`,"manifest_keys":[` + key + `]`, `,"max_age_seconds":60`, `,"gpu_report":{"min_driver":"580.1","cc":"required","gpus":8}`,
		`,"revocation":{"required":true,"keys":[` + key + `],"threshold":1}`, `,"report":{"version":"omega/snp-policy/v1","guest_policy":{"set":["single-socket"],"clear":["smt"]}}`} {
		policyOf(t, good)
	}
	for _, bad := range []string{
		`,"gpu":"maybe"`, `,"gpu_report":{"cc":"on"}`, `,"max_age_seconds":99999999`, `,"manifest_keys":["AAAA"]`,
		`,"revocation":{"required":true}`, `,"revocation":{"keys":["AAAA"]}`, `,"revocation":{"keys":[` + key + `],"threshold":2}`, `,"revocation":{"keys":[` + key + `],"threshold":-1}`,
		`,"principals":[{"name":"a","key_ids":["` + annsKey + `"],"threshold":2}]`,
		`,"report":{"version":"omega/snp-policy/v1","guest_policy":{"set":["sm"],"clear":[]}}`, `,"report":{"version":"omega/snp-policy/v1","platform_info":{"set":["ecc"],"clear":["ecc"]}}`,
	} {
		if _, err := verifier.ParsePolicy([]byte(`{"version":"omega/appraisal-policy/v1"` + bad + `}`)); err == nil {
			t.Errorf("%s is accepted", bad)
		}
	}
}
