package gateway

import (
	"encoding/hex"
	"encoding/json"
	"slices"
	"time"

	"omega/policy"
)

// A Question is what waits for a person's answer, as an approver sees it. The
// digest is of agent, action, resource and arguments as they stand here
// (policy.ArgumentsDigest), or of the rules (policy.RulesDigest).
type Question struct {
	Entry     uint64          `json:"entry"` // of the log
	Agent     string          `json:"agent"`
	Instance  string          `json:"instance"`
	Boot      string          `json:"boot"`
	Action    string          `json:"action"`
	Resource  string          `json:"resource"`
	Arguments json.RawMessage `json:"arguments,omitempty"`
	Widen     []string        `json:"widen,omitempty"` // rules to give back, in the place of a call
	Digest    string          `json:"digest"`
	Asked     time.Time       `json:"asked"`
	Until     time.Time       `json:"until"`
	Approvers []Approver      `json:"approvers"` // who can answer
}

// Approver is a principal who can answer, and with which keys.
type Approver struct {
	Name      string   `json:"name"`
	Threshold int      `json:"threshold"`
	Keys      []string `json:"keys"` // hex SHA-256 of the SubjectPublicKeyInfo
}

// Pending are the open questions that are the callers' to answer, oldest first.
func (g *Gateway) Pending(callers []string) []Question {
	out := []Question{}
	a := &g.approvals
	a.mu.Lock()
	defer a.mu.Unlock()
	a.expire(g.cfg.Now())
	for _, p := range a.open {
		if _, ok := g.cfg.Document.Requester(callers, policy.RightApprove, p.link.agent.Name); ok {
			out = append(out, g.shown(p))
		}
	}
	slices.SortFunc(out, func(a, b Question) int { return int(int64(a.Entry) - int64(b.Entry)) })
	return out
}

func (g *Gateway) shown(p *pending) Question {
	q := Question{
		Entry: p.Entry, Agent: p.link.agent.Name, Instance: p.Instance, Boot: hex.EncodeToString(p.Boot[:]), Action: p.action, Resource: p.resource,
		Arguments: p.args, Widen: p.Widen, Digest: hex.EncodeToString(p.Digest[:]), Asked: p.asked.UTC(), Until: p.until.UTC(), Approvers: []Approver{},
	}
	for _, who := range g.cfg.Document.Principals {
		if !slices.Contains(who.Roles, policy.RoleApprover) || p.Principal != "" && p.Principal != who.Name {
			continue
		}
		a := Approver{Name: who.Name, Threshold: max(1, who.Threshold)}
		for _, k := range who.Keys {
			a.Keys = append(a.Keys, k.ID)
		}
		q.Approvers = append(q.Approvers, a)
	}
	return q
}
