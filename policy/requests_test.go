package policy_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"omega/policy"
)

func TestARequestIsOfWhoeverMayAskThatAgent(t *testing.T) {
	doc := &policy.Document{Callers: []policy.Caller{
		{Name: "al", Rights: []string{policy.RightInvoke, policy.RightObserve}, Agents: []string{"notes-*"}},
		{Name: "web", Rights: []string{policy.RightInvoke}, Agents: []string{"*"}, Input: &policy.Result{Readers: []string{"web", "al"}}},
		{Name: "sure", Rights: []string{policy.RightInvoke}, Agents: []string{"*"}, Input: &policy.Result{Integrity: policy.Trusted}},
		{Name: "anyone", Anonymous: true, Rights: []string{policy.RightInvoke}, Agents: []string{"open"}},
		{Name: "kiosk", Anonymous: true, Rights: []string{policy.RightInvoke}, Agents: []string{"desk"}, Input: &policy.Result{Integrity: policy.Trusted}},
		{Name: "boss", Rights: []string{policy.RightApprove}, Agents: []string{"*"}},
	}}
	everybody := []string{"anyone", "kiosk"}
	tests := []struct {
		name    string
		callers []string
		right   string
		agent   string
		want    *policy.Requester // nil: may not
	}{
		{"a named caller", append(everybody, "al"), policy.RightInvoke, "notes-1", &policy.Requester{Name: "al", Reader: "al"}},
		{"another's agent", append(everybody, "al"), policy.RightInvoke, "mail", nil},
		{"an agent for everybody", append(everybody, "al"), policy.RightInvoke, "open", &policy.Requester{Name: "anyone", Reader: "public", Labels: []string{"untrusted:caller/anyone"}}},
		{"a caller whose words are not trusted", append(everybody, "web"), policy.RightInvoke, "open",
			&policy.Requester{Name: "web", Reader: "web", Labels: []string{"readers:al,web", "untrusted:caller/web"}}},
		{"one whose are", []string{"sure"}, policy.RightInvoke, "mail", &policy.Requester{Name: "sure", Reader: "sure"}},
		{"both at once", []string{"sure", "web"}, policy.RightInvoke, "mail",
			&policy.Requester{Name: "web", Reader: "web", Labels: []string{"readers:al,web", "untrusted:caller/web"}}},
		{"anybody, trusted by the policy", everybody, policy.RightInvoke, "desk", &policy.Requester{Name: "kiosk", Reader: "public"}},
		{"another right", []string{"boss"}, policy.RightInvoke, "mail", nil},
		{"that right", []string{"boss"}, policy.RightApprove, "mail", &policy.Requester{Name: "boss", Reader: "boss"}},
		{"nobody", nil, policy.RightInvoke, "open", nil},
		{"a name that the policy does not have", []string{"eve"}, policy.RightInvoke, "open", nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, ok := doc.Requester(tt.callers, tt.right, tt.agent)
			if tt.want == nil {
				tt.want = &policy.Requester{}
				if ok {
					t.Error("it may")
				}
			} else if !ok {
				t.Error("it may not")
			}
			if diff := cmp.Diff(*tt.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}
