package main

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"omega/attest"
)

// roster is what sandboxd knows of the agents of this boot, for those who ask
// about them and for who stops them. The signer's table is what evidence says;
// this one adds what changes too often to be signed.
type roster struct {
	mu     sync.Mutex // guards what follows, and each member
	agents map[string]*member
}

// box is a sandbox.Sandbox.
type box interface {
	Stop(ctx context.Context, grace time.Duration) error
	Output() []string
}

// member is one agent of the roster.
type member struct {
	agentStatus
	identity attest.Bytes32
	box      box                  // nil while none runs
	last     []string             // what it wrote before its last end
	stop     chan struct{}        // closed when it is told to stop
	ended    chan struct{}        // closed when it will not run again
	readers  map[string]time.Time // callers, and since when the log has that they read its lines
}

// add takes in an agent that was admitted.
func (r *roster) add(a attest.Agent) *member {
	m := &member{identity: a.Identity, stop: make(chan struct{}), ended: make(chan struct{}), agentStatus: agentStatus{
		Index: a.Index, Instance: a.Instance, Name: a.Name, Bundle: a.Bundle, State: a.State, Since: time.Now().UTC()}}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.agents == nil {
		r.agents = map[string]*member{}
	}
	r.agents[a.Instance] = m // the signer has refused a second one of that name
	return m
}

// began notes that the agent runs, once more if again is set. It reports
// whether it may: it may not if it was told to stop meanwhile.
func (r *roster) began(m *member, b box, again bool) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	m.box, m.State, m.Since = b, attest.AgentRunning, time.Now().UTC()
	if again {
		m.Restarts++
	}
	return !m.told()
}

// paused notes one end of the agent, which may not be its last.
func (r *roster) paused(m *member, code int, lines []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	m.box, m.ExitCode, m.last, m.Health = nil, &code, lines, ""
}

// over notes the agent's last state and returns it: who was told to stop and
// ended is stopped.
func (r *roster) over(m *member, state string) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	if m.told() && state == attest.AgentExited {
		state = attest.AgentStopped
	}
	m.State, m.Since = state, time.Now().UTC()
	close(m.ended)
	return state
}

// told reports whether the agent was told to stop. The lock is held.
func (m *member) told() bool {
	select {
	case <-m.stop:
		return true
	default:
		return false
	}
}

// waits sleeps before the agent is started again, and reports whether that is
// still wanted.
func (m *member) waits(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-m.stop:
		return false
	case <-ctx.Done():
		return false
	}
}

// list are the agents of these names, in the order of their admission.
func (r *roster) list(names []string) []agentStatus {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := []agentStatus{}
	for _, m := range r.agents {
		if slices.Contains(names, m.Name) {
			out = append(out, m.agentStatus)
		}
	}
	slices.SortFunc(out, func(a, b agentStatus) int { return cmp.Compare(a.Index, b.Index) })
	return out
}

// find is the agent of that instance, if it is one of these names, with what it
// wrote last.
func (r *roster) find(instance string, names []string) (m *member, lines []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	m = r.agents[instance]
	if m == nil || !slices.Contains(names, m.Name) {
		return nil, nil
	}
	if m.box != nil {
		return m, m.box.Output()
	}
	return m, m.last
}

// end tells an agent to stop, kills it after grace, and waits until it has
// ended for good. It returns nil if no such agent is left to stop.
func (r *roster) end(ctx context.Context, instance string, grace time.Duration) (*stopReply, error) {
	r.mu.Lock()
	m := r.agents[instance]
	if m == nil || m.State != attest.AgentRunning && m.State != attest.AgentAdmitted {
		r.mu.Unlock()
		return nil, nil
	}
	if !m.told() {
		close(m.stop)
	}
	running := m.box
	r.mu.Unlock()
	if running != nil {
		if err := running.Stop(ctx, grace); err != nil {
			return nil, err
		}
	}
	select {
	case <-m.ended:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	out := &stopReply{Found: true, State: m.State}
	if m.ExitCode != nil {
		out.Code = *m.ExitCode
	}
	return out, nil
}

// readingEvery is how long one entry stands for all that a caller reads of an
// agent: who follows its lines must not fill the log with that.
const readingEvery = time.Minute

// unread reports whether the log has yet to say that the caller reads.
func (r *roster) unread(m *member, caller string, now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	at, ok := m.readers[caller]
	return !ok || now.Sub(at) >= readingEvery || now.Before(at)
}

// read notes that the log says so.
func (r *roster) read(m *member, caller string, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if m.readers == nil {
		m.readers = map[string]time.Time{}
	}
	m.readers[caller] = now // the policy names a bounded number of callers
}
