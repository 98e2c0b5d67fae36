package policy

import (
	"encoding/json"
	"maps"
	"math"
	"slices"
)

const (
	// maxSessions bounds the sessions whose calls are counted apart. Calls of
	// further ones are denied where a permit counts by session.
	maxSessions = 4096
	// allCalls is the key of what counts for an agent's calls of every rule.
	allCalls = "*"
)

// State is what one instance of an agent did in this boot: counts, labels,
// budgets and the values of trusted sources. It makes decision inputs of calls
// and learns from what came of them. The gateway and `omega policy replay` use
// the same. It is not safe for concurrent use: whoever decides holds a lock
// from Input to Begin, so that two calls at once cannot both be the last.
type State struct {
	doc      *Document
	rule     AgentRule
	agent    InputAgent
	index    map[[2]string][]Permit // by action and resource
	counts   map[string]int         // by rule
	sessions map[string]map[string]int
	windows  map[string]*window // by rule
	budgets  map[string]float64 // by name, and by RULE:NAME
	labels   []string           // sorted; only grows
	narrowed []string           // sorted rules
	values   values
}

// NewState begins the state of an instance. For an agent that the document
// does not name it makes inputs that are denied.
func NewState(doc *Document, name, instance string) *State {
	rule, _ := doc.Agent(name)
	return &State{
		doc: doc, rule: rule, agent: InputAgent{Name: name, Instance: instance},
		index: rule.byCall(), counts: map[string]int{}, sessions: map[string]map[string]int{},
		windows: map[string]*window{}, budgets: map[string]float64{},
	}
}

// byCall finds the permits of a call, those that follow by themselves included.
func (a AgentRule) byCall() map[[2]string][]Permit {
	out := map[[2]string][]Permit{}
	for _, p := range a.Permits {
		for _, r := range p.Names() {
			out[[2]string{p.Action, r}] = append(out[[2]string{p.Action, r}], p)
		}
	}
	for _, p := range append(a.Implied(), Permit{ID: RuleInvoke, Action: ActionInvoke, Resource: a.Name}) {
		out[[2]string{p.Action, p.Resource}] = append(out[[2]string{p.Action, p.Resource}], p)
	}
	return out
}

// Call is what an agent asks for.
type Call struct {
	Session   string
	Action    string
	Resource  string
	Args      json.RawMessage
	Now       int64    // seconds since 1970; 0 is unknown, and then no time window holds
	Approvals []string // principals that approved exactly this call
}

// Input states a call for the decision.
func (s *State) Input(c Call) Input {
	if len(c.Args) == 0 {
		c.Args = json.RawMessage("{}")
	}
	args := parseArgs(c.Args)
	in := Input{
		Agent: s.agent, Action: c.Action, Resource: c.Resource, Args: c.Args, Session: c.Session,
		State: InputState{
			Counts: map[string]int{}, Labels: slices.Clone(s.labels), Now: c.Now, Approvals: slices.Clone(c.Approvals),
			Charges: charges(s.doc, c, args),
		},
	}
	s.values.left = maxSearch
	s.all(&in.State, c)
	for _, p := range s.index[[2]string{c.Action, c.Resource}] {
		s.permit(&in.State, p, c, args)
	}
	slices.Sort(in.State.Endorsed)
	in.State.Endorsed = slices.Compact(in.State.Endorsed)
	return in
}

// all adds what counts for every call of the agent.
func (s *State) all(to *InputState, c Call) {
	if s.rule.Limit > 0 {
		to.Counts[allCalls] = s.counts[allCalls]
	}
	if s.rule.Rate != nil {
		put(&to.Rates, allCalls, s.window(allCalls).count(c.Now, s.rule.Rate.Seconds))
	}
	for name := range s.rule.Budgets {
		put(&to.Budgets, name, s.budgets[name])
	}
}

// permit adds what one permit looks at.
func (s *State) permit(to *InputState, p Permit, c Call, args map[string]any) {
	if n := s.counts[p.ID]; n > 0 {
		to.Counts[p.ID] = n
	}
	if p.SessionLimit > 0 {
		put(&to.SessionCounts, p.ID, s.inSession(c.Session, p.ID))
	}
	if p.Rate != nil {
		put(&to.Rates, p.ID, s.window(p.ID).count(c.Now, p.Rate.Seconds))
	}
	for name := range p.Budgets {
		put(&to.Budgets, p.ID+":"+name, s.budgets[p.ID+":"+name])
	}
	for name, amount := range spends(p, args) {
		put(&to.Charges, p.ID+":"+name, amount)
	}
	for _, path := range p.Endorse {
		if s.values.endorse(args, path) {
			to.Endorsed = append(to.Endorsed, path)
		}
	}
	if slices.Contains(s.narrowed, p.ID) {
		to.Narrowed = append(to.Narrowed, p.ID)
	}
}

func put[T any](m *map[string]T, key string, value T) {
	if *m == nil {
		*m = map[string]T{}
	}
	(*m)[key] = value
}

func (s *State) window(rule string) *window {
	if s.windows[rule] == nil {
		s.windows[rule] = &window{}
	}
	return s.windows[rule]
}

func (s *State) countRate(rule string, rate *Rate, now int64) {
	if rate != nil {
		s.window(rule).add(now, rate.Calls)
	}
}

func (s *State) inSession(session, rule string) int {
	if s.sessions[session] == nil && len(s.sessions) >= maxSessions {
		return math.MaxInt32
	}
	return s.sessions[session][rule]
}

// A Use is a permitted call on its way.
type Use struct {
	rule     string
	labels   []string
	learns   bool // whether values of the result become trusted ones
	reserved map[string]float64
	// Narrowed are the rules that the instance lost by this call. They are for
	// the log.
	Narrowed []string
}

// Begin counts a permitted call and reserves its budgets, before its effect.
// Both stay when the call fails later: trying is using. A denial begins nothing.
func (s *State) Begin(in Input, d Decision) Use {
	u := Use{rule: d.Rule, labels: d.Labels, reserved: map[string]float64{}}
	if !d.Permit {
		return u
	}
	p := s.permitted(in, d.Rule)
	s.counts[d.Rule]++
	if !ofCallers(in.Action) {
		s.counts[allCalls]++
		s.countRate(allCalls, s.rule.Rate, in.State.Now)
	}
	if p.SessionLimit > 0 && (s.sessions[in.Session] != nil || len(s.sessions) < maxSessions) {
		if s.sessions[in.Session] == nil {
			s.sessions[in.Session] = map[string]int{}
		}
		s.sessions[in.Session][d.Rule]++
	}
	s.countRate(p.ID, p.Rate, in.State.Now)
	u.reserved = s.reserve(p, in.State.Charges)
	u.learns = s.learns(p, in)
	if !ofCallers(in.Action) && !Tainted(in.State.Labels) && len(in.Args) <= maxLearnt {
		// Nothing untrusted can have chosen them. What others ask for comes with
		// labels of its own, and Invoke and Finish see to it.
		s.values.learn(in.Args)
	}
	u.Narrowed = s.Narrow(p.Narrows...)
	return u
}

// permitted finds the permit that allowed a call.
func (s *State) permitted(in Input, rule string) Permit {
	for _, p := range s.index[[2]string{in.Action, in.Resource}] {
		if p.ID == rule {
			return p
		}
	}
	return Permit{ID: rule, Action: in.Action, Resource: in.Resource}
}

// learns says whether values of a call's result may endorse arguments later:
// those of a trusted source that no untrusted text could have chosen.
func (s *State) learns(p Permit, in Input) bool {
	r := s.doc.ResultOf(p, in.Resource)
	if r == nil || r.Integrity != Trusted || !endorsing(p.Action) {
		return false
	}
	return r.Endorses || !Tainted(in.State.Labels)
}

// endorsing lists the actions whose results are data and not somebody's words.
func endorsing(action string) bool {
	return slices.Contains([]string{ActionCall, ActionResourceRead, ActionPromptGet, ActionHTTP, ActionDataRead}, action)
}

// Outcome is what came of a permitted call.
type Outcome struct {
	Usage  *Usage   // tokens of a model; nil when it did not say, and then the reservation stays
	Bytes  int64    // of the answer
	Labels []string // that came with the answer, as those of a peer's message
	Result []byte   // the answer, JSON or text, whose values count if its source is trusted
}

// Usage is how many tokens a model says it used.
type Usage struct{ Input, Output int64 }

// Finish keeps what an answer means for later calls. It stands between the
// answer's arrival and its delivery; an error text of the other side is an
// answer too.
func (s *State) Finish(in Input, u Use, o Outcome) {
	if u.rule == "" {
		return
	}
	s.Merge(u.labels...)
	s.Merge(o.Labels...)
	s.settle(in, u, o)
	if u.learns && !Tainted(o.Labels) {
		s.values.learn(o.Result)
	}
}

// Invoke keeps what a caller's request means. Its values are trusted unless
// its labels or the policy say otherwise.
func (s *State) Invoke(args []byte, labels ...string) {
	s.Merge(labels...)
	input := s.rule.Input
	if input == nil {
		input = &Result{Integrity: Trusted}
	}
	s.Merge(LabelsOf(input, ActionInvoke)...)
	if input.Integrity == Trusted && !Tainted(labels) {
		s.values.learn(args)
	}
}

// Merge adds labels, as of a message from another agent.
func (s *State) Merge(labels ...string) { s.labels = merge(s.labels, labels) }

// Labels are what the instance has collected.
func (s *State) Labels() []string { return slices.Clone(s.labels) }

// Counts is how often each rule was used.
func (s *State) Counts() map[string]int { return maps.Clone(s.counts) }

// Narrow takes rules away from the instance and returns those that it had.
func (s *State) Narrow(rules ...string) []string {
	var lost []string
	for _, r := range rules {
		if i, found := slices.BinarySearch(s.narrowed, r); !found {
			s.narrowed = slices.Insert(s.narrowed, i, r)
			lost = append(lost, r)
		}
	}
	return lost
}

// Widen gives rules back that Narrow took. Only a consumed approval may lead here.
func (s *State) Widen(rules ...string) {
	s.narrowed = slices.DeleteFunc(s.narrowed, func(r string) bool { return slices.Contains(rules, r) })
}

// Narrowed are the rules that the instance lost.
func (s *State) Narrowed() []string { return slices.Clone(s.narrowed) }
