package compile

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"omega/policy"
)

func TestPlacesAreTakenApartAsEveryReaderDoes(t *testing.T) {
	tests := []struct {
		resource string
		yes, no  []string
	}{
		{"t/url",
			[]string{"https://a.example/pub", "https://a.example/pub/x?q=1", "http://x.b.example:8443/pub/", "HTTPS://A.Example/pub/a", "https://deep.x.b.example/pub?a=b&c=%20d"},
			[]string{"https://a.example", "https://a.example/", "https://a.example/public", "https://a.example/pub/../x", "https://a.example/pub//x", "https://a.example/pub/%2e%2e/x",
				"https://b.example/pub", "https://xb.example/pub", "https://evil.example/pub", "https://a.example.evil.example/pub", "https://evil.example/a.example/pub", "https://a.example./pub",
				"https://user@a.example/pub", "https://a.example@evil.example/pub", "https://a.example:pw@evil.example/pub", "https://a.example:8443@evil.example/pub", "https://a.example:443/pub", "https://a.example:/pub",
				"https://a.example:08443/pub", "https://a.example#@evil.example/pub", "https://a.example/pub#x", "https://a.example\\@evil.example/pub", "https://evil.example\\.a.example/pub", "https://a.example/pub?x=https://evil.example",
				"//a.example/pub", "a.example/pub", "https:a.example/pub", "https:/a.example/pub", "https:///pub", "https://?a.example/pub", "ftp://a.example/pub", "javascript://a.example/pub", " https://a.example/pub", "https://a.example/pub ", "https://a.example/pub\n",
				"https://a.example\t/pub", "https://[::1]/pub", "https://a。example/pub", "https://ａ.example/pub", "https://%61.example/pub", "https://*.b.example/pub", "https://.b.example/pub", "https://169.254.169.254/pub", "https://2852039166/pub", ""},
		},
		{"t/address",
			[]string{"x@acme.example", "X.y+tag@Acme.Example", "x@mail.b.example"},
			[]string{"x@evil.example", "x@b.example", "@acme.example", "acme.example", "x@evil.example@acme.example", "x@acme.example@evil.example", "x@acme.example.evil.example", "x@xacme.example", "<x@acme.example>", "X <x@acme.example>",
				"\"x@evil.example\"@acme.example", "x@evil.example,y@acme.example", "x@evil.example y@acme.example", "x%40evil.example@acme.example", "x@acme.example\n", "x@[127.0.0.1]", "x@аcme.example", "x!evil@acme.example", "x@*.b.example", "x@.b.example", ""},
		},
		{"t/recipients",
			[]string{"a@acme.example", "bob@b.example", "BOB@B.example, a@acme.example", "team;a@acme.example ; bob@b.example"},
			[]string{"", "alice@b.example", "a@acme.example, eve@evil.example", "a@acme.example;eve@evil.example", "a@acme.example,", "eve@evil.example a@acme.example", "a@acme.example\neve@evil.example", "teams", "*@acme.example", "x@evil.example@acme.example", "<a@acme.example>"},
		},
	}
	d := decider(t, mustCompile(t, "testdata/rich.yaml"))
	permitted := func(resource string, value any) bool {
		args, err := json.Marshal(map[string]any{"v": value})
		if err != nil {
			t.Fatal(err)
		}
		return decide(t, d, call(resource, string(args))).Permit
	}
	for _, tc := range tests {
		for _, v := range tc.yes {
			if !permitted(tc.resource, v) {
				t.Errorf("%s: %q is denied", tc.resource, v)
			}
		}
		for _, v := range tc.no {
			if permitted(tc.resource, v) {
				t.Errorf("%s: %q is permitted", tc.resource, v)
			}
		}
		for _, v := range []any{nil, 1, true, map[string]any{"v": tc.yes[0]}, []any{}, []any{1}, []any{[]any{tc.yes[0]}}} {
			if permitted(tc.resource, v) {
				t.Errorf("%s: %v is permitted", tc.resource, v)
			}
		}
	}
	for n, want := range map[int]bool{100: true, 101: false} {
		if permitted("t/recipients", slices.Repeat([]string{"a@acme.example"}, n)) != want {
			t.Errorf("%d recipients: want %v", n, want)
		}
	}
	if !permitted("t/recipients", []string{"a@acme.example", "Bob@b.example"}) || permitted("t/recipients", []string{"a@acme.example, bob@b.example"}) || permitted("t/recipients", []any{"a@acme.example", nil}) {
		t.Error("a list of recipients is not each of them")
	}
}

// state is a case of what an instance did before.
type state = policy.InputState

func TestConditionsLookAtTheState(t *testing.T) {
	const monday = 1795392000 // 2026-11-23, 00:00 in UTC
	tests := []struct {
		name, agent, action, resource, args string
		state                               state
		why                                 string // "" is a permit
	}{
		{"trusted", "", "", "t/pure", `{}`, state{}, ""},
		{"readers are no taint", "", "", "t/act", `{"to":"x","n":1}`, state{Labels: []string{"readers:public"}}, ""},
		{"tainted", "", "", "t/pure", `{}`, state{Labels: []string{"untrusted:web"}}, "untrusted content from web"},
		{"tainted by the unknown", "", "", "t/pure", `{}`, state{Labels: []string{"odd"}}, "influenced"},
		{"nothing endorses where nothing can", "", "", "t/pure", `{}`, state{Labels: []string{"untrusted:web"}, Endorsed: []string{"to"}}, "influenced"},
		{"endorsed", "", "", "t/act", `{"to":"x","n":1}`, state{Labels: []string{"untrusted:web"}, Endorsed: []string{"n", "to"}}, ""},
		{"half endorsed", "", "", "t/act", `{"to":"x","n":1}`, state{Labels: []string{"untrusted:web"}, Endorsed: []string{"to"}}, "it is permitted when to and n"},
		{"endorsed and yet wrong", "", "", "t/act", `{"to":5,"n":1}`, state{Labels: []string{"untrusted:web"}, Endorsed: []string{"n", "to"}}, `argument "to" must be text`},
		{"secrets to the public", "", "", "t/once", `{}`, state{Labels: []string{"readers:me"}}, "is only for me"},
		{"secrets to who may know", "", "", "known/mine", `{}`, state{Labels: []string{"readers:boss,me"}}, ""},
		{"secrets of two", "", "", "known/mine", `{}`, state{Labels: []string{"readers:boss,me", "readers:boss"}}, "is only for boss; boss,me"},
		{"secrets of nobody", "", "", "known/mine", `{}`, state{Labels: []string{"readers:"}}, "is only for"},
		{"an unknown label", "", "", "known/mine", `{}`, state{Labels: []string{"odd"}}, "is only for"},
		{"secrets to a model", "", policy.ActionChat, "org/model-1", `{"max_tokens":1,"tools":[]}`, state{Labels: []string{"readers:me"}}, "is only for me"},
		{"to a recipient who may know", "", "", "t/tell", `{"to":"x@acme.example"}`, state{Labels: []string{"readers:*@acme.example,me"}}, ""},
		{"to one who may not", "", "", "t/tell", `{"to":["x@acme.example","y@acme.example"]}`, state{Labels: []string{"readers:me,x@acme.example"}}, "names somebody who may not know"},
		{"to anybody while nothing is secret", "", "", "t/tell", `{"to":"x@acme.example"}`, state{Labels: []string{"untrusted:web"}}, ""},
		{"not approved", "", "", "t/ask", `{}`, state{}, "needs an approval by boss"},
		{"approved by another", "", "", "t/ask", `{}`, state{Approvals: []string{"acme"}}, "needs an approval by boss"},
		{"approved", "", "", "t/ask", `{}`, state{Approvals: []string{"boss"}}, ""},
		{"approved is not endorsed", "", "", "t/pure", `{}`, state{Approvals: []string{"boss"}, Labels: []string{"untrusted:web"}}, "influenced"},
		{"taken away", "", "", "t/once", `{}`, state{Narrowed: []string{"once"}}, "was taken away"},
		{"another was taken away", "", "", "t/once", `{}`, state{Narrowed: []string{"often"}}, ""},
		{"last of the session", "", "", "t/once", `{}`, state{SessionCounts: map[string]int{"once": 9}}, ""},
		{"session used up", "spender", "", "t/often", `{}`, state{SessionCounts: map[string]int{"often": 2}}, "in a session is used up"},
		{"rate used up", "spender", "", "t/often", `{}`, state{Rates: map[string]int{"often": 3}}, "at most 3 calls in 60 seconds"},
		{"rate left", "spender", "", "t/often", `{}`, state{Rates: map[string]int{"often": 2}}, ""},
		{"all calls used up", "spender", "", "t/often", `{}`, state{Counts: map[string]int{"*": 1000}}, "calls of all kinds are used up"},
		{"all calls too many", "spender", "", "t/often", `{}`, state{Rates: map[string]int{"*": 100}}, "calls of all kinds are used up"},
		{"budget left", "spender", "", "t/spend", `{"v":20}`, state{Budgets: map[string]float64{"money": 30}, Charges: map[string]float64{"spend:money": 20, "spend:points": 0}}, ""},
		{"budget passed", "spender", "", "t/spend", `{"v":21}`, state{Budgets: map[string]float64{"money": 30}, Charges: map[string]float64{"spend:money": 21, "spend:points": 0}}, "budget money of 50"},
		{"budget of the rule passed", "spender", "", "t/spend", `{"v":1,"w":[5,6]}`, state{Charges: map[string]float64{"spend:money": 1, "spend:points": 11}}, "budget points of 10 of rule spend"},
		{"no charge", "spender", "", "t/spend", `{"v":1}`, state{Charges: map[string]float64{}}, "budget money"},
		{"a charge below zero", "spender", "", "t/spend", `{"v":1}`, state{Charges: map[string]float64{"spend:money": -1, "spend:points": 0}}, "budget money"},
		{"a budget below zero", "spender", "", "t/spend", `{"v":1}`, state{Budgets: map[string]float64{"money": -100}, Charges: map[string]float64{"spend:money": 1, "spend:points": 0}}, "budget money"},
		{"tokens passed", "spender", policy.ActionChat, "dear", `{"max_tokens":100}`, state{Budgets: map[string]float64{"tokens": 901}, Charges: map[string]float64{"tokens": 100, "cost": 0}}, "budget tokens of 1000"},
		{"tokens left", "spender", policy.ActionChat, "dear", `{"max_tokens":100}`, state{Budgets: map[string]float64{"tokens": 900}, Charges: map[string]float64{"tokens": 100, "cost": 0}}, ""},
		{"Monday at eight", "", "", "t/office", `{}`, state{Now: monday + 8*3600}, ""},
		{"Monday before eight", "", "", "t/office", `{}`, state{Now: monday + 8*3600 - 1}, "permitted only at mon, wed 08:00–17:30"},
		{"Monday at half past five", "", "", "t/office", `{}`, state{Now: monday + 17*3600 + 1800}, "permitted only at"},
		{"Tuesday at eight", "", "", "t/office", `{}`, state{Now: monday + 86400 + 8*3600}, "permitted only at"},
		{"over midnight, before", "", "", "t/office", `{}`, state{Now: monday + 86400 + 23*3600}, ""},
		{"over midnight, after", "", "", "t/office", `{}`, state{Now: monday + 86400 + 3600}, ""},
		{"the year before", "", "", "t/office", `{}`, state{Now: monday + 86400 + 23*3600 - 365*86400}, "permitted only at"},
		{"without a clock", "", "", "t/office", `{}`, state{}, "permitted only at"},
		{"a method", "", policy.ActionHTTP, "pages", `{"method":"GET","path":"/pub/a","host":"a.example","port":443,"query":"","bytes":0}`, state{}, ""},
		{"another method", "", policy.ActionHTTP, "pages", `{"method":"POST","path":"/pub/a","host":"a.example"}`, state{}, `argument "method" must be one of "GET"`},
		{"no method", "", policy.ActionHTTP, "pages", `{"path":"/pub/a"}`, state{}, `argument "method" is missing`},
		{"a header that nobody states", "", policy.ActionHTTP, "pages", `{"method":"GET","path":"/pub/a","cookie":"x"}`, state{}, `argument "cookie" is not permitted`},
		{"one of two tools", "", "", "t/many-2", `{"v":1,"more":{"x":[1]}}`, state{}, ""},
		{"more arguments, but a wrong one", "", "", "t/many-2", `{"v":1,"w":5,"more":1}`, state{}, `argument "w" must be text`},
		{"more arguments, but one is missing", "", "", "t/many-1", `{"more":1}`, state{}, `argument "v" is missing`},
		{"a peer", "", policy.ActionSend, "friend", `{"text":"x"}`, state{}, ""},
		{"a peer that is not named", "", policy.ActionStream, "friend", `{"text":"x"}`, state{}, "may not use this"},
		{"data", "", policy.ActionDataRead, "diary", `{"name":"x"}`, state{Labels: []string{"readers:me"}}, ""},
		{"listing what may be read", "", policy.ActionResourceList, "known", `{}`, state{}, ""},
		{"listing with arguments", "", policy.ActionResourceList, "known", `{"x":1}`, state{}, "permitted are"},
		{"a caller's request", "", policy.ActionInvoke, "a", `{"input":"x"}`, state{Labels: []string{"readers:me", "untrusted:x"}}, ""},
		{"the answer to a caller", "", policy.ActionAnswer, "a", `{"caller":"al","bytes":3}`, state{}, ""},
		{"the answer of an untrusted agent", "", policy.ActionAnswer, "a", `{"caller":"public"}`, state{Labels: []string{"untrusted:x"}}, ""},
		{"the answer to one who may know", "", policy.ActionAnswer, "a", `{"caller":"me"}`, state{Labels: []string{"readers:al,me", "readers:me"}}, ""},
		{"the answer to one who may not", "", policy.ActionAnswer, "a", `{"caller":"al"}`, state{Labels: []string{"readers:al,me", "readers:me"}}, "the caller may not know what this agent has read; that is for al,me; me"},
		{"the answer to anybody", "", policy.ActionAnswer, "a", `{"caller":"public"}`, state{Labels: []string{"readers:me"}}, "may not know"},
		{"the answer to several", "", policy.ActionAnswer, "a", `{"caller":"me, al"}`, state{Labels: []string{"readers:me"}}, "may not know"},
		{"the answer to nobody", "", policy.ActionAnswer, "a", `{}`, state{}, "may not use this"},
		{"the answer of another", "", policy.ActionAnswer, "spender", `{"caller":"al"}`, state{}, "may not use this"},
		{"a caller's request to another", "", policy.ActionInvoke, "spender", `{"input":"x"}`, state{}, "may not use this"},
	}
	d := decider(t, mustCompile(t, "testdata/rich.yaml"))
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			in := call(tc.resource, tc.args)
			in.State = tc.state
			if tc.action != "" {
				in.Action = tc.action
			}
			if tc.agent != "" {
				in.Agent.Name = tc.agent
				if in.State.Charges == nil {
					in.State.Charges = map[string]float64{}
				}
				in.State.Charges["bytes"] = 1
			}
			got := decide(t, d, in)
			if got.Permit != (tc.why == "") || !strings.Contains(strings.Join(got.Reasons, "; "), tc.why) {
				t.Errorf("permit %v by %q, %q; want %q", got.Permit, got.Rule, got.Reasons, tc.why)
			}
			if !got.Permit && len(got.Reasons) == 0 {
				t.Error("denied without a reason")
			}
		})
	}
}

func TestResultsCarryTheLabelsOfTheirSources(t *testing.T) {
	d := decider(t, mustCompile(t, "testdata/rich.yaml"))
	for _, tc := range []struct{ action, resource, args, want string }{
		{policy.ActionCall, "t/flag", `{"v":true}`, "untrusted:t/flag"},
		{policy.ActionCall, "t/many-2", `{"v":1}`, "untrusted:t/many-2"},
		{policy.ActionCall, "known/mine", `{}`, "readers:boss,me"},
		{policy.ActionPromptGet, "known/hello", `{}`, "readers:me untrusted:known/hello"},
		{policy.ActionResourceList, "known", `{}`, "readers:boss,me"},
		{policy.ActionList, "t", `{}`, ""},
		{policy.ActionHTTP, "pages", `{"method":"GET","path":"/pub/x"}`, "untrusted:pages"},
		{policy.ActionDataRead, "diary", `{}`, "readers:me"},
		{policy.ActionSend, "neighbour", `{}`, "untrusted:neighbour"},
		{policy.ActionInvoke, "a", `{}`, ""},
	} {
		in := call(tc.resource, tc.args)
		in.Action = tc.action
		got := decide(t, d, in)
		if !got.Permit || strings.Join(got.Labels, " ") != tc.want {
			t.Errorf("%s on %s: permit %v with %q, want %q (%q)", tc.action, tc.resource, got.Permit, got.Labels, tc.want, got.Reasons)
		}
	}
}

func TestADenialNamesTheApprovalThatIsAllItLacks(t *testing.T) {
	d := decider(t, mustCompile(t, "testdata/rich.yaml"))
	in := call("t/ask", `{}`)
	if got := decide(t, d, in); got.Permit || got.Approval != "boss" {
		t.Errorf("%+v", got)
	}
	in.State.Narrowed = []string{"ask"}
	if got := decide(t, d, in); got.Permit || got.Approval != "" {
		t.Errorf("with more that lacks: %+v", got)
	}
	in = call("t/ask", `{"x":1}`)
	if got := decide(t, d, in); got.Permit || got.Approval != "" {
		t.Errorf("with a wrong argument: %+v", got)
	}
}
