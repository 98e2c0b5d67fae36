package policy

import (
	"fmt"
	"math"
	"slices"
	"strings"
)

// maxNesting bounds constraints within constraints.
const maxNesting = 8

// maxInstead bounds the advice, which is put before the agent.
const maxInstead = 400

// maxRateSeconds is thirty days: a boot seldom lasts longer.
const maxRateSeconds = 30 * 24 * 3600

func (c *checker) agents() {
	names, rules := map[string]bool{}, map[string]bool{}
	for i, a := range c.doc.Agents {
		at := fmt.Sprintf("agents[%d]", i)
		c.unique(at+".name", a.Name, nameForm, names)
		if !slices.ContainsFunc(a.Requires, func(r Requirement) bool { return !ofComponent(r.Role) }) {
			// Who provides a component signs that, not the bundle.
			c.fault(at+".requires", "no signature of the bundle itself is required, so anybody could be this agent")
		}
		for j, r := range a.Requires {
			c.speaker(fmt.Sprintf("%s.requires[%d].principal", at, j), r.Principal, r.Role)
		}
		for j, name := range a.Combine {
			if !slices.ContainsFunc(c.doc.Principals, func(p Principal) bool { return p.Name == name }) {
				c.fault(fmt.Sprintf("%s.combine[%d]", at, j), "no principal is named %q", name)
			}
		}
		if a.Sessions != "" && a.Sessions != "clean" {
			c.fault(at+".sessions", `%q, want "clean" or nothing`, a.Sessions)
		}
		c.result(at+".input", a.Input)
		c.limits(at, a.Limit, a.Rate, a.Budgets)
		for j, p := range a.Permits {
			c.unique(fmt.Sprintf("%s.permits[%d].id", at, j), p.ID, ruleForm, rules)
			if p.ID == RuleInvoke {
				c.fault(fmt.Sprintf("%s.permits[%d].id", at, j), "%q is the rule of callers' requests", p.ID)
			}
			c.permit(fmt.Sprintf("%s.permits[%d]", at, j), a, p)
		}
	}
}

// ofComponent reports whether a role signs a component in the bundle's place.
func ofComponent(role string) bool {
	return role == RoleTool || role == RoleModel || role == RoleAdapter || role == RoleData
}

func (c *checker) limits(at string, limit int, rate *Rate, budgets map[string]float64) {
	if limit < 0 || limit > math.MaxInt32 {
		c.fault(at+".limit", "%d calls", limit)
	}
	if rate != nil && (rate.Calls < 1 || rate.Calls > maxRateCalls || rate.Seconds < 1 || rate.Seconds > maxRateSeconds) {
		c.fault(at+".rate", "%d calls in %d seconds; want 1 to %d in 1 to %d", rate.Calls, rate.Seconds, maxRateCalls, maxRateSeconds)
	}
	for name, limit := range budgets {
		if !nameForm.MatchString(name) || !(limit >= 0 && limit <= 1<<53) {
			c.fault(at+".budgets."+name, "want a name in lower case and a number from 0 to 2^53")
		}
	}
}

func (c *checker) permit(at string, a AgentRule, p Permit) {
	c.resources(at, p)
	c.limits(at, p.Limit, p.Rate, p.Budgets)
	if p.SessionLimit < 0 || p.SessionLimit > math.MaxInt32 {
		c.fault(at+".session_limit", "%d calls", p.SessionLimit)
	}
	if len(p.Instead) > maxInstead || strings.ContainsFunc(p.Instead, isControl) {
		c.fault(at+".instead", "longer than %d bytes, or with control characters", maxInstead)
	}
	action, _ := ActionNamed(p.Action)
	for name, con := range p.Args {
		if name == "" || len(name) > 128 || strings.ContainsFunc(name, isControl) {
			c.fault(at+".args", "%.128q is no argument name", name)
		}
		if len(action.Args) > 0 && !slices.Contains(action.Args, name) {
			c.fault(at+".args."+name, "%s has no such argument (%s)", p.Action, strings.Join(action.Args, ", "))
		}
		c.constraint(at+".args."+name, con, maxNesting)
		if con.Budget != "" {
			c.budget(at+".args."+name+".budget", con.Budget, a, p)
		}
	}
	for i, w := range p.When {
		c.window(fmt.Sprintf("%s.when[%d]", at, i), w)
	}
	c.information(at, p)
	c.approvals(at, a, p)
}

// budget checks that an argument charges something that has a limit.
func (c *checker) budget(at, name string, a AgentRule, p Permit) {
	_, ofAgent := a.Budgets[name]
	_, ofRule := p.Budgets[name]
	if !ofAgent && !ofRule {
		c.fault(at, "neither the agent nor the permit has a budget %q", name)
	}
	if slices.Contains([]string{BudgetTokens, BudgetCost, BudgetBytes}, name) {
		c.fault(at, "%s is charged by itself; name another budget", name)
	}
}

// information checks what concerns labels.
func (c *checker) information(at string, p Permit) {
	c.result(at+".result", p.Result)
	c.readers(at+".readers", p.Readers)
	if len(p.Endorse) > 0 && !p.Consequential {
		c.fault(at+".endorse", "only what is consequential needs endorsement")
	}
	for i, path := range p.Endorse {
		head, _, _ := strings.Cut(path, ".")
		_, named := p.Args[head]
		_, whole := p.Args[path]
		if path == "" || !named && !whole && !p.MoreArgs {
			c.fault(fmt.Sprintf("%s.endorse[%d]", at, i), "the permit has no argument %q", head)
		}
	}
	for i, name := range p.Recipients {
		if _, named := p.Args[name]; name == "" || !named && !p.MoreArgs {
			c.fault(fmt.Sprintf("%s.recipients[%d]", at, i), "the permit has no argument %q", name)
		}
	}
}

// approvals checks what names other rules and principals.
func (c *checker) approvals(at string, a AgentRule, p Permit) {
	if p.ApprovalWait < 0 || p.ApprovalWait > maxApprovalWait || p.ApprovalWait > 0 && p.Approval == "" {
		c.fault(at+".approval_wait", "%d seconds, want 1 to %d beside an approval", p.ApprovalWait, maxApprovalWait)
	}
	if p.Approval != "" {
		c.speaker(at+".approval", p.Approval, RoleApprover)
	}
	for i, id := range p.Narrows {
		if !slices.ContainsFunc(a.Permits, func(o Permit) bool { return o.ID == id }) {
			c.fault(fmt.Sprintf("%s.narrows[%d]", at, i), "agent %s has no permit %q", a.Name, id)
		}
	}
	for i, name := range p.Conditions {
		if !conditionForm.MatchString(name) || len(c.doc.Rego) == 0 {
			c.fault(fmt.Sprintf("%s.conditions[%d]", at, i), "%q is no rule of a module under rego", name)
		}
	}
}

func (c *checker) resources(at string, p Permit) {
	if (p.Resource == "") == (len(p.Resources) == 0) {
		c.fault(at+".resource", "give resource or resources")
		return
	}
	action, known := ActionNamed(p.Action)
	if !known {
		var names []string
		for _, a := range Actions {
			names = append(names, a.Name)
		}
		c.fault(at+".action", "%q is no action (%s)", p.Action, strings.Join(names, ", "))
		return
	}
	seen := map[string]bool{}
	for i, r := range p.Names() {
		here := at + ".resource"
		if p.Resource == "" {
			here = fmt.Sprintf("%s.resources[%d]", at, i)
		}
		if seen[r] {
			c.fault(here, "%q is named twice", r)
		}
		seen[r] = true
		c.resource(here, action, r)
	}
	if len(p.Args) > 0 && slices.Contains([]string{ActionList, ActionPromptList, ActionResourceList}, p.Action) {
		c.fault(at+".args", "%s has no arguments", p.Action)
	}
}

func (c *checker) resource(at string, action Action, r string) {
	var known bool
	switch action.Kind {
	case kindTool:
		server, name, ok := strings.Cut(r, "/")
		if _, known := c.doc.Server(server); !known {
			c.fault(at, "no server is named %q", server)
		}
		if !ok || !foreignForm.MatchString(name) {
			c.fault(at, "%q is not %s", r, action.Kind)
		}
		return
	case kindServer:
		_, known = c.doc.Server(r)
	case kindModel:
		_, known = c.doc.Model(r)
	case kindPeer:
		_, known = c.doc.Peer(r)
	case kindData:
		_, known = c.doc.Dataset(r)
	case kindWeb:
		var w Web
		if w, known = c.doc.WebNamed(r); known && action.Name == ActionConnect && !w.Opaque {
			c.fault(at, "%q is not opaque: its TLS is opened", r)
		}
	}
	if !known {
		c.fault(at, "no %s is named %q", strings.ToLower(action.Kind), r)
	}
}
