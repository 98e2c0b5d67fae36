package policy

import (
	"encoding/json"
	"math"
	"slices"
)

// The budgets that calls charge by themselves.
const (
	BudgetTokens = "tokens" // of models: reserved by max_tokens, settled by their usage
	BudgetCost   = "cost"   // of models: tokens at the model's price
	BudgetBytes  = "bytes"  // sent and received
)

// maxRateCalls bounds the times that a rate remembers.
const maxRateCalls = 10_000

// window remembers when the latest calls of a rule were.
type window struct {
	times []int64 // ascending
}

// count is how many calls lie in the last seconds. A clock that goes back
// stands still here.
func (w *window) count(now int64, seconds int) int {
	if n := len(w.times); n > 0 {
		now = max(now, w.times[n-1])
	}
	w.times = slices.DeleteFunc(w.times, func(t int64) bool { return t <= now-int64(seconds) })
	return len(w.times)
}

func (w *window) add(now int64, calls int) {
	if n := len(w.times); n > 0 {
		now = max(now, w.times[n-1])
	}
	w.times = append(w.times, now)
	if extra := len(w.times) - min(calls, maxRateCalls); extra > 0 {
		w.times = slices.Delete(w.times, 0, extra)
	}
}

// parseArgs reads arguments for the state's own use; the decision reads them
// itself, and denies what is no object.
func parseArgs(raw []byte) map[string]any {
	var args map[string]any
	if json.Unmarshal(raw, &args) != nil {
		return nil
	}
	return args
}

// charges are what a call will use of the budgets of all calls.
func charges(doc *Document, c Call, args map[string]any) map[string]float64 {
	a, known := ActionNamed(c.Action)
	if !known {
		return nil
	}
	stated := func(name string) float64 {
		n, _ := args[name].(float64) // the agent's own arguments have other types; those do not count
		return n
	}
	out := map[string]float64{BudgetBytes: float64(len(c.Args))}
	if slices.Contains(a.Args, "request_bytes") {
		out[BudgetBytes] = stated("request_bytes")
	} else if slices.Contains(a.Args, "bytes") {
		out[BudgetBytes] = stated("bytes")
	}
	if m, ok := doc.Model(c.Resource); ok && a.Kind == kindModel {
		out[BudgetTokens] = stated("max_tokens")
		out[BudgetCost] = m.cost(Usage{Output: int64(stated("max_tokens"))})
	}
	return out
}

func (m Model) cost(u Usage) float64 {
	if m.Price == nil {
		return 0
	}
	return (float64(u.Input)*m.Price.Input + float64(u.Output)*m.Price.Output) / 1e6
}

// spends are the amounts that arguments charge by their constraints. What is
// no amount charges nothing, and the decision denies it.
func spends(p Permit, args map[string]any) map[string]float64 {
	out := map[string]float64{}
	bad := map[string]bool{}
	for name, c := range p.Args {
		if c.Budget == "" {
			continue
		}
		value, given := args[name]
		if !given && c.Optional {
			out[c.Budget] += 0
			continue
		}
		amount, ok := amount(value)
		out[c.Budget] += amount
		bad[c.Budget] = bad[c.Budget] || !ok
	}
	for name := range bad {
		if bad[name] {
			delete(out, name)
		}
	}
	return out
}

// amount is a number not below zero, or the sum of a list of such.
func amount(v any) (float64, bool) {
	switch v := v.(type) {
	case float64:
		return v, v >= 0 && !math.IsInf(v, 0)
	case []any:
		sum := 0.0
		for _, e := range v {
			n, ok := e.(float64)
			if !ok || n < 0 {
				return 0, false
			}
			sum += n
		}
		return sum, true
	}
	return 0, false
}

// reserve charges the budgets that a permit looks at.
func (s *State) reserve(p Permit, charges map[string]float64) map[string]float64 {
	used := map[string]float64{}
	for _, name := range []string{BudgetTokens, BudgetCost, BudgetBytes} {
		if v, ok := charges[name]; ok {
			used[name] = v
			s.charge(p, name, v)
		}
	}
	for _, c := range p.Args {
		if v, ok := charges[p.ID+":"+c.Budget]; ok && c.Budget != "" && used[c.Budget] == 0 {
			used[c.Budget] = v
			s.charge(p, c.Budget, v)
		}
	}
	return used
}

// charge keeps only the budgets that have a limit, so that names cost nothing.
func (s *State) charge(p Permit, name string, amount float64) {
	if _, ok := s.rule.Budgets[name]; ok {
		s.budgets[name] = max(0, s.budgets[name]+amount)
	}
	if _, ok := p.Budgets[name]; ok {
		s.budgets[p.ID+":"+name] = max(0, s.budgets[p.ID+":"+name]+amount)
	}
}

// Charge counts bytes of a call while they flow, and says whether every budget of
// bytes that the call counts for still holds them. What was charged is no part of
// the Bytes that Finish is told.
func (s *State) Charge(in Input, u Use, bytes int64) bool {
	p := s.permitted(in, u.rule)
	s.charge(p, BudgetBytes, float64(max(0, bytes)))
	all, hasAll := s.rule.Budgets[BudgetBytes]
	own, hasOwn := p.Budgets[BudgetBytes]
	return !(hasAll && s.budgets[BudgetBytes] > all || hasOwn && s.budgets[p.ID+":"+BudgetBytes] > own)
}

// settle puts what was used in the place of what was reserved.
func (s *State) settle(in Input, u Use, o Outcome) {
	p := s.permitted(in, u.rule)
	s.charge(p, BudgetBytes, float64(max(0, o.Bytes)))
	if o.Usage == nil {
		return
	}
	used := Usage{Input: max(0, o.Usage.Input), Output: max(0, o.Usage.Output)}
	s.charge(p, BudgetTokens, float64(used.Input+used.Output)-u.reserved[BudgetTokens])
	if m, ok := s.doc.Model(in.Resource); ok {
		s.charge(p, BudgetCost, m.cost(used)-u.reserved[BudgetCost])
	}
}
