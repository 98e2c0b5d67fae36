package gateway

import "fmt"

// A Refusal is why nothing came of a request from outside of the platform: a
// word for programs, and words for people.
type Refusal struct{ Code, Message string }

// Error gives the words.
func (r *Refusal) Error() string { return r.Message }

// The codes of refusals.
const (
	RefusedUnknown  = "no_such_agent"  // or none of the caller's
	RefusedDenied   = "denied"         // by the policy, before the agent heard of it
	RefusedWithheld = "withheld"       // the answer, by the policy
	RefusedFailed   = "agent_failed"   // the agent did not answer, or with an error
	RefusedBusy     = "busy"           // no room
	RefusedLong     = "too_long"       // the request
	RefusedLog      = "not_recorded"   // the log did not take an entry
	RefusedQuestion = "no_question"    // nobody asked what is approved, or not of this caller
	RefusedForm     = "malformed"      // of an approval
	RefusedSigner   = "signature"      // of an approval
	RefusedExpired  = "expired"        // approval
	RefusedOther    = "does_not_apply" // an approval of something else
)

func refused(code, format string, args ...any) *Refusal {
	return &Refusal{code, fmt.Sprintf(format, args...)}
}
