package policy_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"omega/policy"
)

// stateDocument is a policy for the state alone; nothing here is decided.
func stateDocument() *policy.Document {
	trusted := &policy.Result{Integrity: policy.Trusted}
	return &policy.Document{
		Servers: []policy.Server{
			{Name: "web"},
			{Name: "book", Result: &policy.Result{Integrity: policy.Trusted, Endorses: true}},
			{Name: "notes", Result: trusted},
			{Name: "vault", Result: &policy.Result{Integrity: policy.Trusted, Readers: []string{"me", "boss"}}},
		},
		Models: []policy.Model{{Name: "m", MaxTokens: 100, Price: &policy.Price{Input: 1e6, Output: 2e6}, Result: trusted}},
		Agents: []policy.AgentRule{{
			Name: "a", Limit: 9, Budgets: map[string]float64{"tokens": 1000, "cost": 50, "bytes": 1e6, "spend": 100},
			Permits: []policy.Permit{
				{ID: "think", Action: policy.ActionChat, Resource: "m"},
				{ID: "web", Action: policy.ActionCall, Resources: []string{"web/get", "web/post"}, SessionLimit: 2, Rate: &policy.Rate{Calls: 2, Seconds: 60}},
				{ID: "book", Action: policy.ActionCall, Resource: "book/find"},
				{ID: "note", Action: policy.ActionCall, Resource: "notes/read", Narrows: []string{"web"}},
				{ID: "vault", Action: policy.ActionCall, Resource: "vault/read"},
				{ID: "pay", Action: policy.ActionCall, Resource: "web/pay", Consequential: true, Endorse: []string{"to", "amount", "who.name"},
					Budgets: map[string]float64{"spend": 60},
					Args:    map[string]policy.Constraint{"to": {Type: "string"}, "amount": {Type: "number", Budget: "spend"}}},
			},
		}},
	}
}

// step states a call, permits it by a rule, and finishes it.
func step(s *policy.State, c policy.Call, rule string, labels []string, o policy.Outcome) policy.Input {
	in := s.Input(c)
	u := s.Begin(in, policy.Decision{Permit: true, Rule: rule, Labels: labels})
	s.Finish(in, u, o)
	return in
}

func toolCall(resource, args string) policy.Call {
	return policy.Call{Session: "s", Action: policy.ActionCall, Resource: resource, Args: json.RawMessage(args), Now: 1000}
}

func TestStateTellsOnlyWhatTheRulesOfACallLookAt(t *testing.T) {
	s := policy.NewState(stateDocument(), "a", "a-1")
	step(s, toolCall("web/get", `{}`), "web", nil, policy.Outcome{Bytes: 10})
	step(s, toolCall("book/find", `{}`), "book", nil, policy.Outcome{})
	got := s.Input(toolCall("web/post", `{"x":1}`))
	want := policy.Input{
		Agent: policy.InputAgent{Name: "a", Instance: "a-1"}, Action: policy.ActionCall, Resource: "web/post",
		Args: json.RawMessage(`{"x":1}`), Session: "s",
		State: policy.InputState{
			Counts: map[string]int{"*": 2, "web": 1}, SessionCounts: map[string]int{"web": 1}, Rates: map[string]int{"web": 1},
			Budgets: map[string]float64{"tokens": 0, "cost": 0, "bytes": 14, "spend": 0},
			Charges: map[string]float64{"bytes": 7}, Now: 1000,
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if got := s.Input(policy.Call{Session: "other", Action: policy.ActionCall, Resource: "web/get", Now: 1061}); got.State.SessionCounts["web"] != 0 || got.State.Rates["web"] != 0 {
		t.Errorf("another session a minute later: %+v", got.State)
	}
}

func TestRequestsOfCallersAreCountedApart(t *testing.T) {
	s := policy.NewState(stateDocument(), "a", "a-1")
	c := policy.Call{Action: policy.ActionInvoke, Resource: "a", Args: json.RawMessage(`{"input":"x"}`)}
	for want := range 3 { // two of them with one number would be a lie in the log
		if in := step(s, c, policy.RuleInvoke, nil, policy.Outcome{}); in.State.Counts[policy.RuleInvoke] != want || in.State.Counts["*"] != 0 {
			t.Errorf("request %d is stated with %v", want, in.State.Counts)
		}
	}
}

func TestDenialsAndUnknownRulesBeginNothing(t *testing.T) {
	s := policy.NewState(stateDocument(), "a", "a-1")
	in := s.Input(toolCall("web/get", `{}`))
	u := s.Begin(in, policy.Deny("no"))
	s.Finish(in, u, policy.Outcome{Labels: []string{"untrusted:x"}, Bytes: 5})
	if len(s.Counts()) != 0 || len(s.Labels()) != 0 {
		t.Errorf("counts %v, labels %v", s.Counts(), s.Labels())
	}
	if got := policy.NewState(stateDocument(), "stranger", "x").Input(toolCall("web/get", `{}`)); len(got.State.Budgets) != 0 || got.Agent.Name != "stranger" {
		t.Errorf("%+v", got)
	}
}

func TestTokensAreReservedAndThenSettled(t *testing.T) {
	s := policy.NewState(stateDocument(), "a", "a-1")
	chat := policy.Call{Action: policy.ActionChat, Resource: "m", Args: json.RawMessage(`{"max_tokens":10,"request_bytes":100}`)}
	in := s.Input(chat)
	if diff := cmp.Diff(map[string]float64{"tokens": 10, "cost": 20, "bytes": 100}, in.State.Charges); diff != "" {
		t.Error(diff)
	}
	u := s.Begin(in, policy.Decision{Permit: true, Rule: "think"})
	if got := s.Input(chat).State.Budgets["tokens"]; got != 10 {
		t.Errorf("%v tokens reserved", got)
	}
	s.Finish(in, u, policy.Outcome{Usage: &policy.Usage{Input: 3, Output: 4}, Bytes: 50})
	want := map[string]float64{"tokens": 7, "cost": 11, "bytes": 150, "spend": 0}
	if diff := cmp.Diff(want, s.Input(chat).State.Budgets); diff != "" {
		t.Error(diff)
	}
	step(s, chat, "think", nil, policy.Outcome{}) // the model does not say what it used
	if got := s.Input(chat).State.Budgets["tokens"]; got != 17 {
		t.Errorf("%v tokens after an answer without usage, want the reservation to stay", got)
	}
	step(s, chat, "think", nil, policy.Outcome{Usage: &policy.Usage{Input: -1e9, Output: -1e9}})
	if got := s.Input(chat).State.Budgets["tokens"]; got != 17 {
		t.Errorf("%v tokens after a usage below zero", got)
	}
}

func TestAmountsAreChargedToTheirBudgets(t *testing.T) {
	for args, want := range map[string]any{
		`{"to":"x","amount":25.5}`: 25.5, `{"to":"x","amount":0}`: 0.0, `{"to":"x","amount":[1,2]}`: 3.0,
		`{"to":"x","amount":"25"}`: nil, `{"to":"x","amount":-1}`: nil, `{"to":"x"}`: nil, `{"to":"x","amount":[1,-2]}`: nil, `{"amount":null}`: nil,
	} {
		s := policy.NewState(stateDocument(), "a", "a-1")
		in := s.Input(toolCall("web/pay", args))
		got, ok := in.State.Charges["pay:spend"]
		if ok != (want != nil) || ok && got != want {
			t.Errorf("%s charges %v (%v), want %v", args, got, ok, want)
		}
		s.Begin(in, policy.Decision{Permit: true, Rule: "pay"})
		used := s.Input(toolCall("web/pay", args)).State.Budgets
		if used["spend"] != got || used["pay:spend"] != got {
			t.Errorf("%s leaves %v", args, used)
		}
	}
}

func TestLabelsOnlyGrow(t *testing.T) {
	s := policy.NewState(stateDocument(), "a", "a-1")
	step(s, toolCall("web/get", `{}`), "web", []string{"untrusted:web/get"}, policy.Outcome{Labels: []string{"readers:me"}})
	step(s, toolCall("vault/read", `{}`), "vault", []string{"readers:boss,me"}, policy.Outcome{})
	s.Merge("untrusted:peer", "untrusted:web/get")
	want := []string{"readers:boss,me", "readers:me", "untrusted:peer", "untrusted:web/get"}
	if diff := cmp.Diff(want, s.Labels()); diff != "" {
		t.Error(diff)
	}
	in := s.Input(toolCall("web/get", `{}`))
	s.Merge("readers:a")
	if !slices.Equal(in.State.Labels, want) {
		t.Errorf("a decision's input changed to %v", in.State.Labels)
	}
	for i := range 400 {
		s.Merge(fmt.Sprintf("untrusted:%d", i))
	}
	if got := s.Labels(); !slices.Contains(got, "readers:") || !policy.Tainted(got) || len(got) > 300 {
		t.Errorf("%d labels after too many, with nobody: %v", len(got), slices.Contains(got, "readers:"))
	}
}

func TestWhatEndorses(t *testing.T) {
	type did func(*policy.State)
	invoke := func(text string) did {
		return func(s *policy.State) { b, _ := json.Marshal(map[string]string{"input": text}); s.Invoke(b) }
	}
	result := func(resource, rule, text string, labels ...string) did {
		return func(s *policy.State) {
			step(s, toolCall(resource, `{}`), rule, nil, policy.Outcome{Result: []byte(text), Labels: labels})
		}
	}
	taint := func(s *policy.State) { s.Merge("untrusted:web/get") }
	tests := []struct {
		name string
		did  []did
		args string
		want bool
	}{
		{"the caller's word", []did{invoke("Pay to jo@x.org, please")}, `{"to":"jo@x.org"}`, true},
		{"after taint as well", []did{taint, invoke("Pay to jo@x.org")}, `{"to":"jo@x.org"}`, true},
		{"the end of a sentence", []did{invoke("Write to jo@x.org.")}, `{"to":"jo@x.org"}`, true},
		{"in quotes", []did{invoke(`Open "my report.txt" now`)}, `{"to":"my report.txt"}`, true},
		{"some words of it", []did{invoke("Buy a classical guitar today")}, `{"to":"classical guitar"}`, true},
		{"a list", []did{invoke("to jo@x.org, al@y.org; and bo@z.org")}, `{"to":["jo@x.org","al@y.org"]}`, true},
		{"a text with commas", []did{invoke("jo@x.org and al@y.org")}, `{"to":"al@y.org, jo@x.org"}`, true},
		{"one of a list is new", []did{invoke("jo@x.org")}, `{"to":["jo@x.org","evil@x.org"]}`, false},
		{"part of a word", []did{invoke("jo@x.org")}, `{"to":"o@x.org"}`, false},
		{"the host of an address", []did{invoke("jo@x.org")}, `{"to":"x.org"}`, false},
		{"a longer word", []did{invoke("https://a.org/b")}, `{"to":"https://a.org"}`, false},
		{"a query is part of a URL", []did{invoke("see https://a.org/b?c=d")}, `{"to":"https://a.org/b"}`, false},
		{"a question mark after it is not", []did{invoke("see https://a.org/b?")}, `{"to":"https://a.org/b"}`, true},
		{"a number", []did{invoke("Pay $300 to jo")}, `{"to":"jo","amount":300}`, true},
		{"part of a number", []did{invoke("Pay 1,300 to jo")}, `{"to":"jo","amount":300}`, false},
		{"the whole part of a number", []did{invoke("Pay 300.50 to jo")}, `{"to":"jo","amount":300}`, false},
		{"another sign", []did{invoke("Pay -300 to jo")}, `{"to":"jo","amount":300}`, false},
		{"nothing", []did{invoke("Pay jo")}, `{"to":""}`, false},
		{"a truth value", []did{invoke("true")}, `{"to":true}`, false},
		{"what is absent", nil, `{}`, true},
		{"no object", nil, `[]`, false},
		{"deep inside", []did{invoke("for Jo Doe")}, `{"to":"Jo","who":{"name":"Jo Doe"}}`, true},
		{"deep inside and new", []did{invoke("for Jo Doe")}, `{"to":"Jo","who":{"name":"Al"}}`, false},
		{"deep inside of a list", []did{invoke("for Jo and Al")}, `{"to":"Jo","who":[{"name":"Al"},{"name":"Jo"}]}`, true},
		{"a trusted result", []did{result("notes/read", "note", `{"content":[{"type":"text","text":"{\"mail\":\"jo@x.org\"}"}]}`)}, `{"to":"jo@x.org"}`, true},
		{"a trusted result that is plain text", []did{result("notes/read", "note", `jo@x.org`)}, `{"to":"jo@x.org"}`, true},
		{"a trusted result that untrusted text asked for", []did{taint, result("notes/read", "note", `jo@x.org`)}, `{"to":"jo@x.org"}`, false},
		{"from a source that endorses in any case", []did{taint, result("book/find", "book", `jo@x.org`)}, `{"to":"jo@x.org"}`, true},
		{"unless it came with a label", []did{result("book/find", "book", `jo@x.org`, "untrusted:x")}, `{"to":"jo@x.org"}`, false},
		{"an argument from before the taint", []did{func(s *policy.State) { step(s, toolCall("web/post", `{"x":"jo@x.org"}`), "web", nil, policy.Outcome{}) }, taint}, `{"to":"jo@x.org"}`, true},
		{"an argument from after the taint", []did{taint, func(s *policy.State) { step(s, toolCall("web/post", `{"x":"jo@x.org"}`), "web", nil, policy.Outcome{}) }}, `{"to":"jo@x.org"}`, false},
		{"an argument of a denied call", []did{func(s *policy.State) { s.Begin(s.Input(toolCall("web/post", `{"x":"jo@x.org"}`)), policy.Deny("no")) }, taint}, `{"to":"jo@x.org"}`, false},
		{"a labelled request that was decided first", []did{func(s *policy.State) {
			c := policy.Call{Action: policy.ActionInvoke, Resource: "a", Args: json.RawMessage(`{"input":"jo@x.org"}`)}
			step(s, c, "invoke", nil, policy.Outcome{})
			s.Invoke(c.Args, "untrusted:somebody")
		}}, `{"to":"jo@x.org"}`, false},
		{"an untrusted result", []did{result("web/get", "web", `jo@x.org`)}, `{"to":"jo@x.org"}`, false},
		{"a key of an object", []did{result("book/find", "book", `{"jo@x.org":1}`)}, `{"to":"jo@x.org"}`, false},
		{"a model's word", []did{func(s *policy.State) {
			step(s, policy.Call{Action: policy.ActionChat, Resource: "m"}, "think", nil, policy.Outcome{Result: []byte("jo@x.org")})
		}}, `{"to":"jo@x.org"}`, false},
		{"a caller with a label", []did{func(s *policy.State) { s.Invoke([]byte(`{"input":"jo@x.org"}`), "untrusted:anonymous") }}, `{"to":"jo@x.org"}`, false},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			s := policy.NewState(stateDocument(), "a", "a-1")
			for _, d := range tc.did {
				d(s)
			}
			got := s.Input(toolCall("web/pay", tc.args)).State.Endorsed
			if all := len(got) == 3; all != tc.want {
				t.Errorf("endorsed are %v, want all: %v", got, tc.want)
			}
		})
	}
}

func TestRulesAreTakenAwayByUseAndGivenBackByNothingElse(t *testing.T) {
	s := policy.NewState(stateDocument(), "a", "a-1")
	in := s.Input(toolCall("notes/read", `{}`))
	u := s.Begin(in, policy.Decision{Permit: true, Rule: "note"})
	if !slices.Equal(u.Narrowed, []string{"web"}) {
		t.Errorf("lost %v", u.Narrowed)
	}
	if again := s.Begin(in, policy.Decision{Permit: true, Rule: "note"}); len(again.Narrowed) != 0 {
		t.Errorf("lost once more: %v", again.Narrowed)
	}
	if got := s.Input(toolCall("web/get", `{}`)).State.Narrowed; !slices.Equal(got, []string{"web"}) {
		t.Errorf("input names %v", got)
	}
	s.Widen("web")
	if got := s.Input(toolCall("web/get", `{}`)).State.Narrowed; len(got) != 0 || len(s.Narrowed()) != 0 {
		t.Errorf("after widening %v", got)
	}
}

func TestMemoryOfAnInstanceIsBounded(t *testing.T) {
	s := policy.NewState(stateDocument(), "a", "a-1")
	for range 40 {
		s.Invoke([]byte(`{"input":"` + strings.Repeat("x", 10<<10) + `"}`))
	}
	s.Invoke([]byte(`{"input":"late@x.org"}`))
	if got := s.Input(toolCall("web/pay", `{"to":"late@x.org"}`)).State.Endorsed; slices.Contains(got, "to") {
		t.Error("values are kept without an end")
	}
	for i := range 5000 {
		step(s, policy.Call{Session: fmt.Sprint(i), Action: policy.ActionCall, Resource: "web/get", Now: int64(i)}, "web", nil, policy.Outcome{})
	}
	got := s.Input(policy.Call{Session: "new", Action: policy.ActionCall, Resource: "web/get", Now: 5000}).State
	if got.SessionCounts["web"] < 1<<30 || got.Rates["web"] != 2 {
		t.Errorf("an uncounted session has %d calls, the rate is %d", got.SessionCounts["web"], got.Rates["web"])
	}
}

func TestAClockThatGoesBackFreesNoRate(t *testing.T) {
	s := policy.NewState(stateDocument(), "a", "a-1")
	for _, now := range []int64{1000, 10, 10} {
		c := toolCall("web/get", `{}`)
		c.Now = now
		step(s, c, "web", nil, policy.Outcome{})
	}
	c := toolCall("web/get", `{}`)
	c.Now = 500
	if got := s.Input(c).State.Rates["web"]; got != 2 {
		t.Errorf("%d calls in the last minute", got)
	}
}

func TestEndorsingEndsSoonWhateverTheArguments(t *testing.T) {
	s := policy.NewState(stateDocument(), "a", "a-1")
	// Every "a" but the last is part of a word.
	s.Invoke(json.RawMessage(`{"x":"` + strings.Repeat("ab", 100<<10) + ` a"}`))
	in := s.Input(toolCall("web/pay", `{"to":"a"}`))
	if !slices.Contains(in.State.Endorsed, "to") {
		t.Fatal("the value is not endorsed")
	}
	begin := time.Now()
	in = s.Input(toolCall("web/pay", `{"to":"`+strings.Repeat("a,", 10_000)+`a"}`))
	if took := time.Since(begin); took > 20*time.Second { // seconds on a slow machine; without a bound, minutes
		t.Errorf("took %v", took)
	}
	if slices.Contains(in.State.Endorsed, "to") {
		t.Error("endorsed beyond the bound")
	}
}

func TestManySmallValuesFillTheirRoomToo(t *testing.T) {
	s := policy.NewState(stateDocument(), "a", "a-1")
	s.Invoke(json.RawMessage(`[` + strings.Repeat(`"x",`, 10_000) + `"late@x.org"]`))
	if got := s.Input(toolCall("web/pay", `{"to":"late@x.org"}`)).State.Endorsed; slices.Contains(got, "to") {
		t.Error("a value is kept beyond the room for values")
	}
}
