package gateway

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"omega/internal/strictjson"
	"omega/policy"
	"omega/policy/provenance"
)

// Bounds of questions that wait for a person.
const (
	maxQuestions      = 512 // of all agents, about calls; and as many about lost rules
	maxQuestionsAgent = 16  // of one instance, likewise
	maxWaiting        = 8   // calls of one instance that are held until they are answered
	// maxAnswers bounds the approvals of one instance whose call has not been
	// made again.
	maxAnswers = 64
	// questionTime is how long a call can be approved after it was denied, and
	// widenTime how long rules can be given back after they were lost.
	questionTime = time.Hour
	widenTime    = 24 * time.Hour
)

// approvals are the questions that agents' calls and losses put to people, and
// which answers were used.
type approvals struct {
	taking sync.Mutex // one answer at a time, from its check to its effect

	mu   sync.Mutex          // guards what follows
	open map[uint64]*pending // by entry
	used policy.Approvals
}

// pending is one question.
type pending struct {
	policy.Question
	link     *link
	action   string
	resource string
	args     json.RawMessage
	asked    time.Time
	until    time.Time
	done     chan struct{}
	waiting  int // calls that are held, guarded by approvals
}

// answered is a call with the principal that approved it.
type answered struct {
	digest    [32]byte
	principal string
}

// approvedCall is what is left to say of an approval that was taken.
type approvedCall struct{ until time.Time }

// approvals are the principals that approved exactly this call. Whoever asks
// holds the state.
func (s *state) approvals(agent Agent, call policy.Call) []string {
	if len(s.answers) == 0 {
		return nil
	}
	in := policy.Input{Agent: policy.InputAgent{Name: agent.Name, Instance: agent.Instance}, Action: call.Action, Resource: call.Resource, Args: call.Args}
	if len(in.Args) == 0 {
		in.Args = json.RawMessage("{}")
	}
	digest, err := policy.ArgumentsDigest(in)
	if err != nil {
		return nil
	}
	var out []string
	for a, left := range s.answers {
		switch {
		case call.Now >= left.until.Unix():
			delete(s.answers, a)
		case a.digest == digest:
			out = append(out, a.principal)
		}
	}
	slices.Sort(out)
	return out
}

// spend takes away the approval that a permitted call needed. Whoever does holds
// the state since the call was stated, so that no two calls spend one.
func (s *state) spend(rule policy.AgentRule, in policy.Input, d policy.Decision) {
	if !d.Permit || len(in.State.Approvals) == 0 {
		return
	}
	for _, p := range rule.Permits {
		if p.ID != d.Rule || p.Approval == "" {
			continue
		}
		if digest, err := policy.ArgumentsDigest(in); err == nil {
			delete(s.answers, answered{digest, p.Approval})
		}
	}
}

// hasRoom says whether one more approved call can be remembered.
func (s *state) hasRoom(now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for key, left := range s.answers {
		if !now.Before(left.until) {
			delete(s.answers, key)
		}
	}
	return len(s.answers) < maxAnswers
}

// approved puts a call that only lacks an approval before people, and waits as
// long as the policy says. It reports whether one came; otherwise the decision
// says how to go on.
func (l *link) approved(ctx context.Context, i *intent, d *policy.Decision) bool {
	p, why := l.ask(i, d.Approval)
	if p == nil {
		d.Reasons = append(slices.Clone(d.Reasons), why)
		return false
	}
	d.Reasons = append(slices.Clone(d.Reasons), fmt.Sprintf(
		"%s was asked (question %d, open until %s); once it is approved, make exactly the same call again",
		d.Approval, p.Entry, p.until.UTC().Format(time.RFC3339)))
	return l.g.approvals.wait(ctx, p, l.patience(i, d.Approval))
}

// patience is the longest wait of the permits that this approval is for.
func (l *link) patience(i *intent, principal string) time.Duration {
	seconds := 0
	for _, p := range l.rule.Permits {
		if p.Action == i.input.Action && p.Approval == principal && slices.Contains(p.Names(), i.input.Resource) {
			seconds = max(seconds, p.ApprovalWait)
		}
	}
	return time.Duration(seconds) * time.Second
}

// ask opens the question of a denied call, or finds it open.
func (l *link) ask(i *intent, principal string) (*pending, string) {
	digest, err := policy.ArgumentsDigest(i.input)
	if err != nil {
		return nil, "the call has no form that could be approved"
	}
	now := l.g.cfg.Now()
	a := &l.g.approvals
	a.mu.Lock()
	defer a.mu.Unlock()
	a.expire(now)
	for _, p := range a.open {
		if p.Instance == l.agent.Instance && p.Widen == nil && p.Digest == digest && p.Principal == principal {
			return p, ""
		}
	}
	if a.full(l.agent.Instance, false) {
		return nil, "too many questions are open to ask for another approval"
	}
	return a.put(&pending{
		Question: policy.Question{Principal: principal, Instance: l.agent.Instance, Boot: l.g.cfg.Boot, Entry: i.index, Digest: digest},
		link:     l, action: i.input.Action, resource: i.input.Resource, args: i.input.Args, asked: now, until: now.Add(questionTime),
	}), ""
}

// full says whether no more questions fit: of an instance, or of all. Those about
// rules and those about calls do not take each other's places. The lock is held.
func (a *approvals) full(instance string, widen bool) bool {
	all, own := 0, 0
	for _, p := range a.open {
		if (p.Widen != nil) != widen {
			continue
		}
		if all++; p.Instance == instance {
			own++
		}
	}
	return all >= maxQuestions || own >= maxQuestionsAgent
}

// forget drops the questions of instances that begin anew: an answer would be
// for a sandbox that is no more.
func (a *approvals) forget(instances []string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	maps.DeleteFunc(a.open, func(_ uint64, p *pending) bool { return slices.Contains(instances, p.Instance) })
}

// put opens a question. The lock is held.
func (a *approvals) put(p *pending) *pending {
	if a.open == nil {
		a.open = map[uint64]*pending{}
	}
	p.done = make(chan struct{})
	a.open[p.Entry] = p
	return p
}

// expire forgets questions whose time is over. The lock is held.
func (a *approvals) expire(now time.Time) {
	for entry, p := range a.open {
		if !now.Before(p.until) {
			delete(a.open, entry)
		}
	}
}

// wait holds a call until its question is answered, if it may be held.
func (a *approvals) wait(ctx context.Context, p *pending, patience time.Duration) bool {
	if patience <= 0 || !a.hold(p) {
		return false
	}
	defer a.let(p)
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-p.done:
		return true
	case <-timer.C:
	case <-ctx.Done():
	}
	return false
}

// hold takes a place for a call that waits, if the instance has one left.
func (a *approvals) hold(p *pending) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	held := 0
	for _, other := range a.open {
		if other.Instance == p.Instance {
			held += other.waiting
		}
	}
	if held >= maxWaiting {
		return false
	}
	p.waiting++
	return true
}

func (a *approvals) let(p *pending) {
	a.mu.Lock()
	defer a.mu.Unlock()
	p.waiting--
}

// narrowed enters that an instance lost rules by a call, before the call's
// effect, and asks whether it shall have them back.
func (l *link) narrowed(ctx context.Context, i *intent) error {
	rules := i.use.Narrowed
	if len(rules) == 0 {
		return nil
	}
	e := l.entry(provenance.KindNarrowing, i.input.Action, i.input.Resource)
	e.Rule = i.rule
	var err error
	if e.Result, err = strictjson.Canonical(map[string]any{"rules": rules, "intent": i.index}); err != nil {
		return fmt.Errorf("narrowing: %w", err)
	}
	index, err := l.record(ctx, e)
	if err != nil {
		return fmt.Errorf("narrowing: %w", err)
	}
	a := &l.g.approvals
	now := l.g.cfg.Now()
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.expire(now); a.full(l.agent.Instance, true) {
		return nil // nobody is asked, and the rules stay lost
	}
	a.put(&pending{
		Question: policy.Question{Instance: l.agent.Instance, Boot: l.g.cfg.Boot, Entry: index,
			Digest: policy.RulesDigest(l.agent.Instance, rules), Widen: rules},
		link: l, action: i.input.Action, resource: i.input.Resource, asked: now, until: now.Add(widenTime),
	})
	return nil
}
