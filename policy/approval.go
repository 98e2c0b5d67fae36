package policy

import (
	"crypto/ecdsa"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"time"

	"omega/internal/labelhash"
	"omega/internal/strictjson"
)

// ApprovalType is the predicate type of an approval's statement.
const ApprovalType = "https://omega.invalid/approval/v1"

// maxApproval bounds how long an approval may be good for: all wall-clock time
// is the host's claim, so the consuming and not the expiry is what ends one.
const maxApproval = 24 * time.Hour

// maxApprovalWait bounds the seconds that a call is held for its approval.
const maxApprovalWait = 600

// ErrApproval reports an approval that is not for this, not now, or not again.
var ErrApproval = errors.New("approval does not apply")

// ErrApprovalOver reports, beside ErrApproval, one whose time is over.
var ErrApprovalOver = errors.New("expired")

// Approval is a principal's answer to one question that stands in the log: a
// call that was denied for want of it, or rules that an instance lost.
type Approval struct {
	Principal string    // who answers
	Instance  string    // of the agent
	Boot      [16]byte  // the boot id
	Entry     uint64    // index of the denied intent, or of the narrowing
	Digest    [32]byte  // ArgumentsDigest or RulesDigest
	Widen     []string  // rules to give back; empty for a call
	Expires   time.Time // at most a day ahead
}

type approvalJSON struct {
	Principal string    `json:"principal"`
	Instance  string    `json:"instance"`
	Boot      string    `json:"boot"`
	Entry     uint64    `json:"entry"`
	Widen     []string  `json:"widen,omitempty"`
	Expires   time.Time `json:"expires"`
}

// ArgumentsDigest names a call as it was put before the approver: agent,
// action, resource and arguments in canonical form, without the state.
func ArgumentsDigest(in Input) ([32]byte, error) {
	args, err := strictjson.Canonical(in.Args)
	if err != nil {
		return [32]byte{}, fmt.Errorf("approval: %w", err)
	}
	return labelhash.Sum256("omega/approval/arguments/v1", []byte(in.Agent.Name), []byte(in.Agent.Instance),
		[]byte(in.Action), []byte(in.Resource), args), nil
}

// RulesDigest names rules that shall be given back to an instance.
func RulesDigest(instance string, rules []string) [32]byte {
	parts := [][]byte{[]byte(instance)}
	for _, r := range rules {
		parts = append(parts, []byte(r))
	}
	return labelhash.Sum256("omega/approval/rules/v1", parts...)
}

// SignApproval seals an approval with keys of its principal, as many as its
// threshold says.
func SignApproval(a Approval, keys ...*ecdsa.PrivateKey) ([]byte, error) {
	predicate, err := strictjson.Canonical(approvalJSON{
		Principal: a.Principal, Instance: a.Instance, Boot: hex.EncodeToString(a.Boot[:]), Entry: a.Entry,
		Widen: a.Widen, Expires: a.Expires.UTC().Truncate(time.Second),
	})
	if err != nil {
		return nil, fmt.Errorf("approval: %w", err)
	}
	payload, err := strictjson.Canonical(statement{
		Type: statementType, Subject: []subject{{Digest: map[string]string{"sha256": hex.EncodeToString(a.Digest[:])}}},
		PredicateType: ApprovalType, Predicate: predicate,
	})
	if err != nil {
		return nil, fmt.Errorf("approval: %w", err)
	}
	digest := pae(payload)
	e := envelope{PayloadType: payloadType, Payload: payload}
	for _, key := range keys {
		sig, err := ecdsa.SignASN1(rand.Reader, key, digest[:])
		if err != nil {
			return nil, fmt.Errorf("approval: %w", err)
		}
		e.Signatures = append(e.Signatures, envelopeSignature{Sig: sig})
	}
	return strictjson.Canonical(e)
}

// VerifyApproval reads an approval and checks that the principal that it names
// has the role approver and signed it. What it is good for is Consume's to say.
func (d *Document) VerifyApproval(raw []byte) (*Approval, error) {
	e, s, err := parseEnvelope(raw)
	if err != nil {
		return nil, fmt.Errorf("approval: %w", err)
	}
	if s.PredicateType != ApprovalType {
		return nil, fmt.Errorf("approval: predicate type %.80q", s.PredicateType)
	}
	var p approvalJSON
	if err := strictjson.Decode(s.Predicate, &p, strictjson.Limits{MaxBytes: maxEnvelope}); err != nil {
		return nil, fmt.Errorf("approval: %w", err)
	}
	a := &Approval{Principal: p.Principal, Instance: p.Instance, Entry: p.Entry, Widen: p.Widen, Expires: p.Expires}
	if err := fromHex(a.Boot[:], p.Boot); err != nil {
		return nil, fmt.Errorf("approval: boot: %w", err)
	}
	if err := fromHex(a.Digest[:], s.Subject[0].Digest["sha256"]); err != nil {
		return nil, fmt.Errorf("approval: subject: %w", err)
	}
	i := slices.IndexFunc(d.Principals, func(q Principal) bool { return q.Name == a.Principal })
	if i < 0 || !slices.Contains(d.Principals[i].Roles, RoleApprover) {
		return nil, fmt.Errorf("approval: %.80q is no approver: %w", a.Principal, ErrSignature)
	}
	if err := e.signedBy(d.Principals[i]); err != nil {
		return nil, fmt.Errorf("approval: %w", err)
	}
	return a, nil
}

// fromHex fills out from its one form in hex.
func fromHex(out []byte, s string) error {
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != len(out) || hex.EncodeToString(b) != s {
		return fmt.Errorf("want %d lowercase hex digits", 2*len(out))
	}
	copy(out, b)
	return nil
}

// A Question is what the log says was asked, and which an approval answers.
type Question struct {
	Principal string // whose approval is wanted; empty: any approver's
	Instance  string
	Boot      [16]byte
	Entry     uint64
	Digest    [32]byte
	Widen     []string
}

// Approvals remembers which answers were used in this boot. It is not safe for
// concurrent use.
type Approvals struct {
	used map[approvalKey]bool
}

type approvalKey struct {
	principal string
	entry     uint64
}

// maxApprovals bounds what is remembered; then no more are taken.
const maxApprovals = 1 << 16

// Check says why an approval cannot be taken for a question now. Each reason is
// its own: whoever signed it must be able to see what to sign instead.
func (s *Approvals) Check(a *Approval, q Question, now time.Time) error {
	switch {
	case a.Boot != q.Boot:
		return fmt.Errorf("%w: it is for another boot", ErrApproval)
	case a.Instance != q.Instance:
		return fmt.Errorf("%w: it is for instance %s, the question is of %s", ErrApproval, a.Instance, q.Instance)
	case a.Entry != q.Entry:
		return fmt.Errorf("%w: it is for entry %d, the question is entry %d", ErrApproval, a.Entry, q.Entry)
	case q.Principal != "" && a.Principal != q.Principal:
		return fmt.Errorf("%w: by %s, wanted by %s", ErrApproval, a.Principal, q.Principal)
	case !slices.Equal(a.Widen, q.Widen):
		return fmt.Errorf("%w: it is for other rules", ErrApproval)
	case a.Digest != q.Digest:
		return fmt.Errorf("%w: it is for other arguments", ErrApproval)
	case !now.Before(a.Expires):
		return fmt.Errorf("%w: %w: it ended at %s", ErrApproval, ErrApprovalOver, a.Expires.UTC().Format(time.RFC3339))
	case a.Expires.Sub(now) > maxApproval:
		return fmt.Errorf("%w: it ends at %s, which is more than %s away", ErrApproval, a.Expires.UTC().Format(time.RFC3339), maxApproval)
	case s.used[approvalKey{a.Principal, a.Entry}]:
		return fmt.Errorf("%w: it was used", ErrApproval)
	case len(s.used) >= maxApprovals:
		return fmt.Errorf("%w: this boot has taken too many", ErrApproval)
	}
	return nil
}

// Consume takes an approval for the question that it answers, once. The caller
// enters it into the log before the effect.
func (s *Approvals) Consume(a *Approval, q Question, now time.Time) error {
	if err := s.Check(a, q, now); err != nil {
		return err
	}
	if s.used == nil {
		s.used = map[approvalKey]bool{}
	}
	s.used[approvalKey{a.Principal, a.Entry}] = true
	return nil
}
