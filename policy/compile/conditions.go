package compile

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"omega/policy"
)

// condition is one thing that a call must meet beside its arguments.
type condition struct {
	rego string // met or not
	why  string // Rego text for the agent when it is not met
}

// conditions lists them for one permit.
func (g *generator) conditions(a policy.AgentRule, p policy.Permit) []condition {
	var out []condition
	add := func(rego, format string, args ...any) {
		out = append(out, condition{rego, quote(fmt.Sprintf(format, args...))})
	}
	add(fmt.Sprintf("held(%s)", quote(p.ID)), "rule %s was taken away from this instance; only an approval gives it back", p.ID)
	if p.Limit > 0 {
		add(fmt.Sprintf("calls_left(%s, %d)", quote(p.ID), p.Limit), "the limit of %d calls is used up (rule %s)", p.Limit, p.ID)
	}
	if p.SessionLimit > 0 {
		add(fmt.Sprintf("session_left(%s, %d)", quote(p.ID), p.SessionLimit), "the limit of %d calls in a session is used up (rule %s)", p.SessionLimit, p.ID)
	}
	if p.Rate != nil {
		add(fmt.Sprintf("rate_left(%s, %d)", quote(p.ID), p.Rate.Calls), "at most %d calls in %d seconds; wait and try again (rule %s)", p.Rate.Calls, p.Rate.Seconds, p.ID)
	}
	for _, name := range sortedKeys(a.Budgets) {
		if charged(p, name) {
			add(budget(name, p.ID, name, a.Budgets[name]), "the agent's budget %s of %s does not suffice for this call", name, literal(a.Budgets[name]))
		}
	}
	for _, name := range sortedKeys(p.Budgets) {
		add(budget(p.ID+":"+name, p.ID, name, p.Budgets[name]), "the budget %s of %s of rule %s does not suffice for this call", name, literal(p.Budgets[name]), p.ID)
	}
	if len(p.When) > 0 {
		add("in_time_"+ident(p.ID), "this is permitted only at %s (UTC)", describeWindows(p.When))
	}
	for _, c := range p.Conditions {
		add("data.omega.custom."+c+" == true", "condition %s of the policy does not hold", c)
	}
	if p.Consequential {
		out = append(out, condition{"influence_" + ident(p.ID), influenceWhy(p)})
	}
	return out
}

// charged says whether a call by this permit charges a budget.
func charged(p policy.Permit, name string) bool {
	switch name {
	case policy.BudgetTokens, policy.BudgetCost:
		return strings.HasPrefix(p.Action, "llm.") // embeddings reserve nothing and are settled afterwards
	case policy.BudgetBytes:
		return true
	}
	for _, c := range p.Args {
		if c.Budget == name {
			return true
		}
	}
	return false
}

func budget(key, id, name string, limit float64) string {
	charge := id + ":" + name
	if slices.Contains([]string{policy.BudgetTokens, policy.BudgetCost, policy.BudgetBytes}, name) {
		charge = name
	}
	return fmt.Sprintf("budget_left(%s, %s, %s)", quote(key), quote(charge), literal(limit))
}

// influenceWhy names the sources in the way and what the agent can do.
func influenceWhy(p policy.Permit) string {
	instead := "it needs an agent that has read nothing untrusted"
	if len(p.Endorse) > 0 {
		instead = "it is permitted when " + strings.Join(p.Endorse, " and ") + " are values that the caller or another trusted source gave"
	}
	return fmt.Sprintf(`concat("", ["untrusted content from ", untrusted_sources, " has influenced this agent; ", %s])`, quote(instead))
}

// influence writes when a consequential call may go.
func (g *generator) influence(id string, p policy.Permit) {
	if !p.Consequential {
		return
	}
	g.line("\ninfluence_%s if trusted_influence", id)
	if len(p.Endorse) == 0 {
		return
	}
	g.line("\ninfluence_%s if {", id)
	for _, path := range p.Endorse {
		g.line("endorsed(%s)", quote(path))
	}
	g.line("}")
}

var days = []string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"}

// windows writes the times at which a permit holds. 1970 began on a Thursday.
func (g *generator) windows(id string, p policy.Permit) {
	for _, w := range p.When {
		from, until := minutes(w.From, 0), minutes(w.Until, 24*60)
		parts := [][2]int{{from, until}}
		if from >= until { // over midnight
			parts = [][2]int{{from, 24 * 60}, {0, until}}
		}
		for _, part := range parts {
			g.line("\nin_time_%s if {\nnow := input.state.now\nis_number(now)\nnow > 0", id)
			if len(w.Days) > 0 {
				g.line("(floor(now / 86400) + 4) %% 7 in {%s}", strings.Join(dayNumbers(w.Days), ", "))
			}
			g.line("minute := floor((now %% 86400) / 60)\nminute >= %d\nminute < %d", part[0], part[1])
			if t, err := time.Parse(time.RFC3339, w.After); err == nil {
				g.line("now >= %d", t.Unix())
			}
			if t, err := time.Parse(time.RFC3339, w.Before); err == nil {
				g.line("now < %d", t.Unix())
			}
			g.line("}")
		}
	}
}

func dayNumbers(names []string) []string {
	var out []string
	for _, n := range names {
		out = append(out, strconv.Itoa(slices.Index(days, n)))
	}
	return out
}

// minutes reads HH:MM; validation has seen to its form.
func minutes(s string, otherwise int) int {
	h, m, ok := strings.Cut(s, ":")
	hours, errH := strconv.Atoi(h)
	mins, errM := strconv.Atoi(m)
	if !ok || errH != nil || errM != nil {
		return otherwise
	}
	return hours*60 + mins
}

func describeWindows(list []policy.Window) string {
	var out []string
	for _, w := range list {
		var parts []string
		if len(w.Days) > 0 {
			parts = append(parts, strings.Join(w.Days, ", "))
		}
		if w.From != "" || w.Until != "" {
			parts = append(parts, w.From+"–"+w.Until)
		}
		if w.After != "" {
			parts = append(parts, "from "+w.After)
		}
		if w.Before != "" {
			parts = append(parts, "before "+w.Before)
		}
		out = append(out, strings.Join(parts, " "))
	}
	return strings.Join(out, ", or ")
}
