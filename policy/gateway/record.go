package gateway

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"omega/internal/strictjson"
	"omega/policy"
	"omega/policy/provenance"
)

const (
	// maxInput leaves room in an entry (provenance.MaxEntry) for the rest of it.
	maxInput = 40 << 10
	// recordTime bounds one append. An outcome is entered even when the agent
	// has gone, so it does not end with the request.
	recordTime = 30 * time.Second
)

// intent is a permitted call that has been entered.
type intent struct {
	link  *link
	index uint64
	input policy.Input
	use   policy.Use
	rule  string
	begun time.Time

	charged int64 // bytes that were counted while they flowed; guarded by the state
}

var errBudget = errors.New("the budget of bytes is used up")

// flowed charges bytes while they flow, so that what is long or open for long
// ends where its budget does.
func (i *intent) flowed(n int) error {
	i.link.state.mu.Lock()
	defer i.link.state.mu.Unlock()
	i.charged += int64(n)
	if !i.link.state.Charge(i.input, i.use, int64(n)) {
		return errBudget
	}
	return nil
}

// result is what an outcome says: enough to compare, nothing to read.
type result struct {
	Status string `json:"status"` // "ok", "error" or "refused"
	Bytes  int    `json:"bytes,omitempty"`
	SHA256 string `json:"sha256,omitempty"` // of what was given to the agent
	Error  string `json:"error,omitempty"`

	body   []byte        // what was given out, for the state alone
	labels []string      // that came with it, for the state alone
	usage  *policy.Usage // of a model
}

func delivered(body []byte) result {
	sum := sha256.Sum256(body)
	return result{Status: "ok", Bytes: len(body), SHA256: hex.EncodeToString(sum[:]), body: body}
}

func failed(status string, why string) result {
	return result{Status: status, Error: clip(why, 500)}
}

func (l *link) entry(kind, action, resource string) provenance.Entry {
	return provenance.Entry{
		Kind: kind, Time: l.g.cfg.Now(), Agent: l.agent.Instance, Identity: l.agent.Identity,
		Action: action, Resource: resource, PolicyDigest: l.g.cfg.PolicyDigest,
	}
}

func (l *link) record(ctx context.Context, e provenance.Entry) (uint64, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), recordTime)
	defer cancel()
	return l.g.cfg.Recorder.Record(ctx, e)
}

func (l *link) recordIntent(ctx context.Context, in policy.Input, text []byte, d policy.Decision) (uint64, error) {
	e := l.entry(provenance.KindIntent, in.Action, in.Resource)
	e.Input, e.Decision, e.Rule, e.Reasons = text, d.Word(), d.Rule, d.Reasons
	return l.record(ctx, e)
}

// recordRefusal enters what was refused before the policy had to decide.
func (l *link) recordRefusal(ctx context.Context, action, resource, reason string) error {
	e := l.entry(provenance.KindRefusal, action, resource)
	e.Decision, e.Reasons = provenance.Deny, []string{clip(reason, 500)}
	_, err := l.record(ctx, e)
	return err
}

// heard keeps that the agent is about to learn something of the other side,
// before the first byte of it goes out: labels only grow.
func (i *intent) heard(o policy.Outcome) {
	i.link.state.mu.Lock()
	defer i.link.state.mu.Unlock()
	o.Bytes = max(0, o.Bytes-i.charged)
	i.link.state.Finish(i.input, i.use, o)
}

// outcome keeps what an answer means for later calls and enters what came of
// an intent. An error text of the other side is an answer too; a refusal of the
// gateway's own is not.
func (i *intent) outcome(ctx context.Context, r result) error {
	_, err := i.finish(ctx, r)
	return err
}

// finish is outcome for who needs the entry's index.
func (i *intent) finish(ctx context.Context, r result) (uint64, error) {
	e, err := i.ended(ctx, r)
	if err != nil {
		return 0, err
	}
	index, err := i.link.record(ctx, e)
	if err != nil {
		return 0, fmt.Errorf("%w: %w", errOutcome, err)
	}
	return index, nil
}

// settle is outcome for an answer that need not wait for the log's next
// checkpoint: what may be done hangs on intents, and one without an outcome shows.
// The log has taken the entry when settle returns; if it then loses it, nothing
// that the instance asks for is permitted any more.
func (i *intent) settle(ctx context.Context, r result) error {
	l := i.link
	log, ok := l.g.cfg.Recorder.(Submitter)
	if !ok {
		return i.outcome(ctx, r)
	}
	e, err := i.ended(ctx, r)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), recordTime)
	wait, err := log.Submit(ctx, e)
	if err != nil {
		cancel()
		return fmt.Errorf("%w: %w", errOutcome, err)
	}
	l.calls.Go(func() {
		defer cancel()
		if _, err := wait(); err != nil {
			l.state.lost.Store(true)
			l.g.cfg.Log.Error("outcome not recorded", "agent", l.agent.Instance, "intent", i.index, "error", err)
		}
	})
	return nil
}

// ended keeps what an answer means and makes the entry of it.
func (i *intent) ended(ctx context.Context, r result) (provenance.Entry, error) {
	if r.Status != "refused" {
		i.heard(policy.Outcome{Usage: r.usage, Bytes: int64(r.Bytes), Result: r.body, Labels: slices.Concat(i.link.carried(i.input), r.labels)})
	}
	e := i.link.entry(provenance.KindOutcome, i.input.Action, i.input.Resource)
	raw, err := strictjson.Canonical(r)
	if err != nil {
		return provenance.Entry{}, err
	}
	i.link.g.observer.finished(ctx, i, time.Now(), r)
	e.Intent, e.Rule, e.Result = &i.index, i.rule, json.RawMessage(raw)
	return e, nil
}

// errLost refuses an instance of which the log has lost an outcome.
var errLost = errors.New("the log has lost the outcome of an earlier call")

// errOutcome reports a call that was carried out and whose outcome was not entered.
var errOutcome = errors.New("outcome")

// withheld tells an agent that the log did not take an entry. Whoever repeats a
// call that has been carried out does it twice.
func withheld(err error) string {
	if errors.Is(err, errOutcome) {
		return "the call may have been carried out, but the provenance log did not take its outcome, so the result is withheld"
	}
	return "the provenance log did not take the entry, so nothing was done"
}
