package policy_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"strings"
	"testing"
	"time"

	"omega/policy"
)

func newKey(t testing.TB) (*ecdsa.PrivateKey, policy.Key) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	id := sha256.Sum256(der)
	return key, policy.Key{ID: hex.EncodeToString(id[:]), PEM: string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))}
}

var approvalTime = time.Unix(1_800_000_000, 0)

func asked() (policy.Approval, policy.Question) {
	in := policy.Input{Agent: policy.InputAgent{Name: "a", Instance: "a-1"}, Action: policy.ActionCall, Resource: "bank/pay", Args: json.RawMessage(`{"to":"x","amount":5}`)}
	digest, _ := policy.ArgumentsDigest(in)
	q := policy.Question{Principal: "boss", Instance: "a-1", Boot: [16]byte{7}, Entry: 42, Digest: digest}
	return policy.Approval{Principal: "boss", Instance: "a-1", Boot: [16]byte{7}, Entry: 42, Digest: digest, Expires: approvalTime.Add(time.Hour)}, q
}

func TestApprovalsAnswerOneQuestionOnce(t *testing.T) {
	key, pub := newKey(t)
	doc := &policy.Document{Principals: []policy.Principal{{Name: "boss", Keys: []policy.Key{pub}, Threshold: 1, Roles: []string{policy.RoleApprover}}}}
	tests := []struct {
		name   string
		change func(*policy.Approval, *policy.Question)
		why    string // empty: it is taken
	}{
		{"as asked", func(*policy.Approval, *policy.Question) {}, ""},
		{"any approver will do", func(_ *policy.Approval, q *policy.Question) { q.Principal = "" }, ""},
		{"another boot", func(a *policy.Approval, _ *policy.Question) { a.Boot[0]++ }, "for another boot"},
		{"another instance", func(a *policy.Approval, _ *policy.Question) { a.Instance = "a-2" }, "for instance a-2"},
		{"another entry", func(a *policy.Approval, _ *policy.Question) { a.Entry++ }, "for entry 43"},
		{"other arguments", func(a *policy.Approval, _ *policy.Question) { a.Digest[31]++ }, "for other arguments"},
		{"rules as well", func(a *policy.Approval, _ *policy.Question) { a.Widen = []string{"pay"} }, "for other rules"},
		{"another approver is wanted", func(_ *policy.Approval, q *policy.Question) { q.Principal = "chief" }, "wanted by chief"},
		{"expired", func(a *policy.Approval, _ *policy.Question) { a.Expires = approvalTime }, "it ended at"},
		{"without an end", func(a *policy.Approval, _ *policy.Question) { a.Expires = approvalTime.Add(1000 * time.Hour) }, "more than 24h0m0s away"},
		{"no expiry", func(a *policy.Approval, _ *policy.Question) { a.Expires = time.Time{} }, "it ended at"},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			a, q := asked()
			tc.change(&a, &q)
			raw, err := policy.SignApproval(a, key)
			if err != nil {
				t.Fatal(err)
			}
			got, err := doc.VerifyApproval(raw)
			if err != nil {
				t.Fatal(err)
			}
			var used policy.Approvals
			err = used.Consume(got, q, approvalTime)
			if (err == nil) != (tc.why == "") || err != nil && (!errors.Is(err, policy.ErrApproval) || !strings.Contains(err.Error(), tc.why)) {
				t.Errorf("consuming it: %v, want %q", err, tc.why)
			}
			if err := used.Consume(got, q, approvalTime); err == nil || tc.why == "" && !strings.Contains(err.Error(), "was used") {
				t.Errorf("taken twice: %v", err)
			}
		})
	}
}

func TestOnlyApproversApprove(t *testing.T) {
	key, pub := newKey(t)
	other, otherPub := newKey(t)
	a, _ := asked()
	sign := func(k *ecdsa.PrivateKey) []byte {
		raw, err := policy.SignApproval(a, k)
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	both := func() []byte {
		raw, err := policy.SignApproval(a, key, other)
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	boss := policy.Principal{Name: "boss", Keys: []policy.Key{pub}, Threshold: 1, Roles: []string{policy.RoleApprover}}
	pair := policy.Principal{Name: "boss", Keys: []policy.Key{pub, otherPub}, Threshold: 2, Roles: []string{policy.RoleApprover}}
	deployer := boss
	deployer.Roles = []string{policy.RoleDeployer}
	for _, tc := range []struct {
		name string
		who  policy.Principal
		raw  []byte
		good bool
	}{
		{"its key", boss, sign(key), true},
		{"another key", boss, sign(other), false},
		{"another role", deployer, sign(key), false},
		{"one of two keys", pair, sign(key), false},
		{"both keys", pair, both(), true},
		{"nobody", policy.Principal{Name: "other"}, sign(key), false},
		{"nothing", boss, nil, false},
		{"trailing bytes", boss, append(sign(key), ' ', '{', '}'), false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			doc := &policy.Document{Principals: []policy.Principal{tc.who}}
			if _, err := doc.VerifyApproval(tc.raw); (err == nil) != tc.good {
				t.Errorf("%v", err)
			}
		})
	}
	doc := &policy.Document{Principals: []policy.Principal{boss}}
	raw := sign(key)
	var e struct {
		Payload    []byte           `json:"payload"`
		Type       string           `json:"payloadType"`
		Signatures []map[string]any `json:"signatures"`
	}
	if err := json.Unmarshal(raw, &e); err != nil {
		t.Fatal(err)
	}
	for i := range e.Payload {
		changed := bytes.Clone(e.Payload)
		changed[i] ^= 1
		text, _ := json.Marshal(map[string]any{"payload": changed, "payloadType": e.Type, "signatures": e.Signatures})
		if _, err := doc.VerifyApproval(text); err == nil {
			t.Fatalf("byte %d of the statement may change", i)
		}
	}
}

func TestArgumentsDigestNamesTheCallAndNotTheState(t *testing.T) {
	base := policy.Input{Agent: policy.InputAgent{Name: "a", Instance: "a-1"}, Action: "x", Resource: "r", Args: json.RawMessage(`{"a":1,"b":2}`)}
	want, err := policy.ArgumentsDigest(base)
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		change func(*policy.Input)
		same   bool
	}{
		"other order": {func(in *policy.Input) { in.Args = json.RawMessage(`{ "b":2, "a":1}`) }, true},
		"state":       {func(in *policy.Input) { in.State.Labels = []string{"x"}; in.Session = "s" }, true},
		"value":       {func(in *policy.Input) { in.Args = json.RawMessage(`{"a":1,"b":3}`) }, false},
		"resource":    {func(in *policy.Input) { in.Resource = "s" }, false},
		"shifted":     {func(in *policy.Input) { in.Action, in.Resource = "xr", "" }, false},
		"instance":    {func(in *policy.Input) { in.Agent.Instance = "a-2" }, false},
	} {
		in := base
		tc.change(&in)
		if got, err := policy.ArgumentsDigest(in); err != nil || (got == want) != tc.same {
			t.Errorf("%s: same %v (%v)", name, got == want, err)
		}
	}
}

func FuzzVerifyApproval(f *testing.F) {
	key, pub := newKey(f)
	a, _ := asked()
	raw, err := policy.SignApproval(a, key)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw)
	doc := &policy.Document{Principals: []policy.Principal{{Name: "boss", Keys: []policy.Key{pub}, Threshold: 1, Roles: []string{policy.RoleApprover}}}}
	f.Fuzz(func(t *testing.T, b []byte) {
		if got, err := doc.VerifyApproval(b); err == nil && got.Entry != a.Entry {
			t.Fatalf("%+v", got)
		}
	})
}

func FuzzDocumentOf(f *testing.F) {
	f.Add(policy.WithDocument([]byte("\x00asm\x01\x00\x00\x00"), []byte(`{"version":"omega/policy/v1","platform":"p","principals":[],"auditors":[],"servers":[],"models":[],"agents":[]}`)))
	f.Add([]byte("\x00asm\x01\x00\x00\x00\x00\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if d, err := policy.DocumentOf(b); err == nil && d.Validate() != nil {
			t.Fatal("an invalid document")
		}
	})
}
