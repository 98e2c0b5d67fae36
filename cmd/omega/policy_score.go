package main

import (
	"errors"
	"fmt"

	"omega/policy"
)

// A score is what a corpus of recorded calls says about a policy. A session
// with calls that must be denied is an attack, one with calls that must be
// permitted is a task; a task that is attacked is both.
type score struct {
	named   map[[3]string]bool // agent, action and resource that a permit names
	count   map[string]int
	attacks map[string]bool // by session: whether a harmful call was permitted
	tasks   map[string]bool // by session: whether all its calls were permitted
}

func newScore(doc *policy.Document) *score {
	s := &score{named: map[[3]string]bool{}, count: map[string]int{"calls": 0, "permit": 0, "deny": 0}, attacks: map[string]bool{}, tasks: map[string]bool{}}
	for _, a := range doc.Agents {
		s.named[[3]string{a.Name, policy.ActionInvoke, a.Name}] = true
		for _, p := range append(a.Implied(), a.Permits...) {
			for _, r := range p.Names() {
				s.named[[3]string{a.Name, p.Action, r}] = true
			}
		}
	}
	return s
}

// add counts one line; err is why it could not be read.
func (s *score) add(c call, d policy.Decision, err error) {
	s.count["calls"]++
	s.count[d.Word()]++
	if err != nil {
		s.count["unreadable"]++
		return
	}
	if !s.named[[3]string{c.agent.Name, c.call.Action, c.call.Resource}] {
		s.count["unnamed"]++
	}
	switch session := c.call.Session; c.expect {
	case "deny":
		s.count["harmful"]++
		s.attacks[session] = s.attacks[session] || d.Permit
		if d.Permit {
			s.count["harmful_permitted"]++
		}
	case "permit":
		s.count["own"]++
		finishes, known := s.tasks[session]
		s.tasks[session] = d.Permit && (finishes || !known)
		if !d.Permit {
			s.count["false_denials"]++
		}
	}
}

// summary has only numbers. What a corpus has nothing of is left out, so that
// no zero speaks of attacks which were not tried.
func (s *score) summary() map[string]int {
	if s.count["harmful"] > 0 {
		s.count["attacks"], s.count["attacks_succeeded"] = len(s.attacks), holding(s.attacks)
		s.count["harmful_permitted"] += 0
	}
	if s.count["own"] > 0 {
		s.count["tasks"], s.count["tasks_finished"] = len(s.tasks), holding(s.tasks)
		s.count["false_denials"] += 0
	}
	return s.count
}

func holding(m map[string]bool) int {
	n := 0
	for _, yes := range m {
		if yes {
			n++
		}
	}
	return n
}

// say sums up in words what the corpus expected.
func (s *score) say(e *env) {
	n := s.summary()
	if n["harmful"] > 0 {
		e.sayf("%d of %d attacks succeed (%d of %d harmful calls are permitted)", n["attacks_succeeded"], n["attacks"], n["harmful_permitted"], n["harmful"])
	}
	if n["own"] > 0 {
		e.sayf("%d of %d tasks finish (%d of %d of their calls are denied)", n["tasks_finished"], n["tasks"], n["false_denials"], n["own"])
	}
	if n["unnamed"] > 0 {
		e.sayf("%d of %d calls are of an agent, action or resource that the policy does not name: their denial says nothing about its rules", n["unnamed"], n["calls"])
	}
	if n["unreadable"] > 0 {
		e.sayf("%d of %d lines cannot be read, and are denied", n["unreadable"], n["calls"])
	}
}

// fault is why a corpus does not speak for a policy, or nil.
func (s *score) fault() error {
	n := s.summary()
	switch {
	case n["unreadable"] > 0:
		return fmt.Errorf("%d lines cannot be read", n["unreadable"])
	case n["harmful_permitted"]+n["false_denials"] > 0:
		return fmt.Errorf("%d of %d calls are not decided as expected", n["harmful_permitted"]+n["false_denials"], n["harmful"]+n["own"])
	case n["harmful"]+n["own"] == 0:
		return errors.New("no call says what is expected of it; next: give calls an \"expect\"")
	}
	return nil
}
