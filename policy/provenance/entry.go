package provenance

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"
	"unicode/utf8"

	"omega/internal/strictjson"
)

// The kinds of entries.
const (
	KindBoot        = "boot"        // what this boot is: keys, policy, launch config
	KindAdmission   = "admission"   // a bundle whose principals were all verified
	KindRefusal     = "refusal"     // what was not done and why: a deployment, a malformed call, a read of a corrupted block
	KindStart       = "start"       // a sandbox began to run
	KindExit        = "exit"        // a sandbox ended
	KindIntent      = "intent"      // a decision, before its effect
	KindOutcome     = "outcome"     // the effect of a permitted intent
	KindAttestation = "attestation" // evidence was made for a nonce
	KindApproval    = "approval"    // a person's answer was taken, before its effect
	KindNarrowing   = "narrowing"   // rules were taken away from an instance
	KindRemoval     = "removal"     // a signed order to stop an agent, before it is stopped
	KindReading     = "reading"     // an agent's last lines were handed to a caller
)

// kinds says for each kind whether its entry speaks of one agent's call.
var kinds = map[string]struct{ call bool }{
	KindBoot: {}, KindAdmission: {}, KindRefusal: {}, KindStart: {}, KindExit: {}, KindAttestation: {}, KindApproval: {}, KindNarrowing: {}, KindRemoval: {}, KindReading: {},
	KindIntent: {call: true}, KindOutcome: {call: true},
}

// The two decisions an intent can hold.
const (
	Permit = "permit"
	Deny   = "deny"
)

// MaxEntry bounds an entry's JSON. A leaf must fit the 16-bit length of a C2SP
// entry bundle; whoever has more to record records its digest.
const MaxEntry = 60 << 10

// maxText bounds each short text of an entry.
const maxText = 1 << 10

// Errors of an entry that is refused before it reaches the log.
var (
	ErrTooLarge = errors.New("entry is larger than the log takes")
	ErrInvalid  = errors.New("entry breaks the rules of the log")
)

// An Entry is one thing that happened, as the auditor will read it.
type Entry struct {
	Kind         string
	Time         time.Time
	Agent        string   // instance
	Identity     [32]byte // the agent's identity root
	Action       string
	Resource     string
	Input        json.RawMessage // the decision's full input
	Decision     string
	Rule         string
	Reasons      []string
	Intent       *uint64         // an outcome's intent, by index
	Result       json.RawMessage // digest, sizes, exit code
	PolicyDigest [32]byte
}

// entryJSON is the wire form of an Entry; Encode writes it by itself.
type entryJSON struct {
	Action       string          `json:"action,omitempty"`
	Agent        string          `json:"agent,omitempty"`
	Decision     string          `json:"decision,omitempty"`
	Identity     string          `json:"identity,omitempty"`
	Input        json.RawMessage `json:"input,omitempty"`
	Intent       *uint64         `json:"intent,omitempty"`
	Kind         string          `json:"kind"`
	PolicyDigest string          `json:"policy_digest,omitempty"`
	Reasons      []string        `json:"reasons,omitempty"`
	Resource     string          `json:"resource,omitempty"`
	Result       json.RawMessage `json:"result,omitempty"`
	Rule         string          `json:"rule,omitempty"`
	Time         time.Time       `json:"time"`
}

// MarshalJSON writes the wire form: lower_snake names, digests in hex, UTC.
func (e Entry) MarshalJSON() ([]byte, error) { return json.Marshal(e.wire()) }

func (e Entry) wire() entryJSON {
	return entryJSON{
		Kind: e.Kind, Time: e.Time.UTC(), Agent: e.Agent, Identity: hexOrEmpty(e.Identity),
		Action: e.Action, Resource: e.Resource, Input: e.Input,
		Decision: e.Decision, Rule: e.Rule, Reasons: e.Reasons,
		Intent: e.Intent, Result: e.Result, PolicyDigest: hexOrEmpty(e.PolicyDigest),
	}
}

// maxWire bounds the wire form: encoding/json writes one byte of an entry, such
// as <, as six.
const maxWire = 6 * MaxEntry

// UnmarshalJSON reads the wire form and refuses fields that it does not know.
// Encode holds what was read to MaxEntry.
func (e *Entry) UnmarshalJSON(b []byte) error {
	var w entryJSON
	if err := strictjson.Decode(b, &w, strictjson.Limits{MaxBytes: maxWire}); err != nil {
		return fmt.Errorf("entry: %w", err)
	}
	identity, err := digest(w.Identity)
	if err != nil {
		return fmt.Errorf("entry identity: %w", err)
	}
	policy, err := digest(w.PolicyDigest)
	if err != nil {
		return fmt.Errorf("entry policy digest: %w", err)
	}
	*e = Entry{
		Kind: w.Kind, Time: w.Time.UTC(), Agent: w.Agent, Identity: identity,
		Action: w.Action, Resource: w.Resource, Input: w.Input,
		Decision: w.Decision, Rule: w.Rule, Reasons: w.Reasons,
		Intent: w.Intent, Result: w.Result, PolicyDigest: policy,
	}
	return nil
}

// ParseEntry reads what Encode wrote, and nothing else: another spelling of the
// same entry is refused.
func ParseEntry(b []byte) (Entry, error) {
	var e Entry
	if err := e.UnmarshalJSON(b); err != nil {
		return Entry{}, err
	}
	again, err := e.Encode()
	if err != nil {
		return Entry{}, err
	}
	if !bytes.Equal(again, b) {
		return Entry{}, fmt.Errorf("%w: not in canonical form", ErrInvalid)
	}
	return e, nil
}

// Validate reports an entry that no honest writer makes.
func (e Entry) Validate() error {
	kind, ok := kinds[e.Kind]
	if !ok {
		return fmt.Errorf("%w: kind %q", ErrInvalid, e.Kind)
	}
	for _, s := range append([]string{e.Agent, e.Action, e.Resource, e.Rule}, e.Reasons...) {
		if len(s) > maxText || !utf8.ValidString(s) {
			return fmt.Errorf("%w: text of %d bytes is too long or not UTF-8", ErrInvalid, len(s))
		}
	}
	switch {
	case e.Time.IsZero():
		return fmt.Errorf("%w: no time", ErrInvalid)
	case e.Time.UTC().Year() < 1970 || e.Time.UTC().Year() > 9999:
		return fmt.Errorf("%w: time %s", ErrInvalid, e.Time)
	case kind.call && (e.Agent == "" || e.Action == ""):
		return fmt.Errorf("%w: %s without agent and action", ErrInvalid, e.Kind)
	case e.Kind == KindIntent && !slices.Contains([]string{Permit, Deny}, e.Decision):
		return fmt.Errorf("%w: intent with decision %q", ErrInvalid, e.Decision)
	case (e.Kind == KindOutcome) != (e.Intent != nil):
		return fmt.Errorf("%w: an outcome, and only an outcome, names its intent", ErrInvalid)
	}
	return nil
}

func hexOrEmpty(d [32]byte) string {
	if d == [32]byte{} {
		return ""
	}
	return hex.EncodeToString(d[:])
}

// digest reads what hexOrEmpty wrote.
func digest(s string) ([32]byte, error) {
	if s == "" {
		return [32]byte{}, nil
	}
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != 32 {
		return [32]byte{}, fmt.Errorf("%q is not 32 bytes in hex", s)
	}
	return [32]byte(b), nil
}
