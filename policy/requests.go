package policy

import (
	"path"
	"slices"
)

// May says whether the caller has the right for the agent of that name.
func (c Caller) May(right, agent string) bool {
	return slices.Contains(c.Rights, right) && slices.ContainsFunc(c.Agents, func(glob string) bool {
		ok, err := path.Match(glob, agent)
		return ok && err == nil
	})
}

// A Requester is whoever asks an agent something, as the policy sees it.
type Requester struct {
	Name   string   // of the caller in the policy
	Reader string   // who reads what is answered: the caller, or anybody
	Labels []string // what the request puts on the agent that gets it
}

// Requester says who asks, of the callers that a request's credentials are of,
// by their names; false if none of them has the right for the agent. Whoever
// brought credentials does not count as anybody, who has fewer of them.
func (d *Document) Requester(callers []string, right, agent string) (Requester, bool) {
	var out Requester
	found := false
	for _, anonymous := range []bool{false, true} {
		for _, c := range d.EffectiveCallers() {
			if c.Anonymous != anonymous || !slices.Contains(callers, c.Name) || !c.May(right, agent) {
				continue
			}
			if out.Labels = merge(out.Labels, c.requestLabels()); !found {
				out.Name, out.Reader, found = c.Name, c.reader(), true
			}
		}
		if found {
			break
		}
	}
	return out, found
}

func (c Caller) reader() string {
	if c.Anonymous {
		return Public
	}
	return c.Name
}

func (c Caller) requestLabels() []string {
	if c.Input == nil && !c.Anonymous {
		return nil // the agent's rule says it
	}
	return LabelsOf(c.Input, "caller/"+c.Name)
}
