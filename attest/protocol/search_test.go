package protocol

import (
	"fmt"
	"os"
	"reflect"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"omega/attest"
)

// state is what happened so far: the platform A may have restarted and admitted
// its second agent, the Verifier may have drawn its nonce, and the attacker
// knows what it asked honest platforms for. Nothing is ever forgotten.
type state struct {
	rebooted, admitted, challenged bool
	known                          [utterances]bool
}

// moves are the states one step further: the attacker rules host and network, so
// it chooses when anything happens.
func (m *model) moves(s state) []state {
	var out []state
	add := func(possible bool, f func(*state)) {
		next := s
		if f(&next); possible && next != s {
			out = append(out, next)
		}
	}
	add(!s.rebooted, func(n *state) { n.rebooted, n.admitted = true, false })
	add(s.rebooted, func(n *state) { n.admitted = true })
	add(true, func(n *state) { n.challenged = true })
	for i, u := range m.said {
		now := u.boot == bootB || (u.boot == bootA2) == s.rebooted && (u.table == 1) == s.admitted
		add(now && (s.challenged || !u.fresh), func(n *state) { n.known[i] = true })
	}
	return out
}

// reachable are all states that some order of moves leads to.
func (m *model) reachable() []state {
	queue, seen := []state{{}}, map[state]bool{{}: true}
	for i := 0; i < len(queue); i++ {
		for _, next := range m.moves(queue[i]) {
			if !seen[next] {
				seen[next] = true
				queue = append(queue, next)
			}
		}
	}
	return queue
}

// can reports whether the attacker can compose c in state s. Its own parts it
// always has; a session that fits needs the Verifier's nonce. The Verifier
// waits for an answer to its nonce only once it has drawn one.
func (m *model) can(s state, c message) bool {
	fromBoot := func(b int8) bool {
		if b >= bootX {
			return true
		}
		for i, u := range m.said {
			if s.known[i] && u.boot == b {
				return true
			}
		}
		return false
	}
	fromTable := func(t int8) bool {
		for i, u := range m.said {
			if s.known[i] && (u.table == t || u.table == 1 && t > 3) {
				return true
			}
		}
		return false
	}
	return s.challenged && (c.report >= utterances || s.known[c.report]) && (c.session == sessionFitted || s.known[c.session]) &&
		fromBoot(c.boot) && fromTable(c.table) && (c.conn != connA || s.rebooted)
}

// broken names the properties that accepting c would break.
func (m *model) broken(c message) []string {
	if c.report >= utterances {
		return []string{map[int8]string{
			reportM: "the platform is the release", reportD: "nobody looks inside", reportO: "no downgrade",
			reportT: "no downgrade", reportE: "the platform is AMD's hardware",
		}[c.report]}
	}
	var out []string
	u, e := m.said[c.report], m.evidence(c)
	if !u.fresh {
		out = append(out, "freshness")
	}
	if holder := []int8{bootA2, bootB, bootX, u.boot}[c.conn]; holder == bootX {
		out = append(out, "key binding")
	} else if holder != u.boot {
		out = append(out, "no relay")
	}
	said := m.boots[u.boot].session(m.nonce[index(u.fresh)], m.tables[u.table])
	if !reflect.DeepEqual(e.Boot, m.boots[u.boot].claims) || !reflect.DeepEqual(e.Session, said) {
		out = append(out, "no mix of statements")
	}
	if !reflect.DeepEqual(e.Agents, m.tables[u.table]) {
		out = append(out, "no mix of components")
	}
	if u.table == 3 {
		out = append(out, "known principals")
	}
	return out
}

// appraiseAll asks for every message that there can be, on all cores. The
// connection is varied only where at most one check refused without it:
// a connection adds a check and takes none away, which is looked at now and then.
func (m *model) appraiseAll() map[message][]string {
	work, out := make(chan message), map[message][]string{}
	var mu sync.Mutex
	var wg sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for c := range work {
				for name, failed := range m.overConnections(c) {
					mu.Lock()
					out[name] = failed
					mu.Unlock()
				}
			}
		})
	}
	for c := range m.messages(bound(m.t)) {
		work <- c
	}
	close(work)
	wg.Wait()
	return out
}

// bound is how many parts of a message may be replaced, besides its connection,
// by what is not the report's own. Four are all: that takes a minute, so a test
// run does with two, unless OMEGA_MODEL_BOUND says otherwise.
func bound(t testing.TB) int {
	if s := os.Getenv("OMEGA_MODEL_BOUND"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	return 2
}

// messages yields every composition within the bound, for no connection.
func (m *model) messages(bound int) func(yield func(message) bool) {
	sizes := []int8{reports, boots, sessions, int8(len(m.tables)), 2}
	all := 1
	for _, size := range sizes {
		all *= int(size)
	}
	return func(yield func(message) bool) {
		for n := range all {
			var part [5]int8
			for i, size := range sizes {
				part[i], n = int8(n%int(size)), n/int(size)
			}
			c := message{part[0], part[1], part[2], part[3], part[4], connNone}
			if m.replaced(c) <= bound && !yield(c) {
				return
			}
		}
	}
}

// replaced counts the parts that are not those that the report was made with.
func (m *model) replaced(c message) (n int) {
	own := message{boot: bootX, session: sessionFitted, table: 1}
	if c.report < utterances {
		own = message{boot: m.said[c.report].boot, session: c.report, table: m.said[c.report].table}
	}
	for _, differs := range []bool{c.boot != own.boot, c.session != own.session, c.table != own.table, c.manifest != own.manifest} {
		if differs {
			n++
		}
	}
	return n
}

// sample is how many messages stand between two that are looked at in full.
const sample = 97

func (m *model) overConnections(c message) map[message][]string {
	alone := m.appraise(c)
	out := map[message][]string{c: alone}
	looked := (int(c.report)+7*int(c.boot)+11*int(c.session)+13*int(c.table))%sample == 0
	if len(alone) > 1 && !looked {
		return out
	}
	for conn := range connNone {
		c.conn = conn
		failed := m.appraise(c)
		if missing := slices.DeleteFunc(slices.Clone(alone), func(n string) bool { return slices.Contains(failed, n) }); len(missing) > 0 {
			m.t.Errorf("%s: a connection silences %v", m.describe(c), missing)
		}
		out[c] = failed
	}
	return out
}

func (m *model) describe(c message) string {
	report := []string{"A's report of yesterday, old nonce", "A's report of yesterday", "A's report, old nonce", "A's report before the admission", "A's report", "B's report", "B's report of a stranger",
		"its own image", "a debuggable guest", "an old release", "a chip with old firmware", "a false chip"}[c.report]
	session := "a session that fits"
	if c.session < utterances {
		session = fmt.Sprintf("session %d", c.session)
	}
	return fmt.Sprintf("%s with boot claims of %s, %s, %s, manifest %d, connection to %s", report,
		[]string{"A yesterday", "A", "B", "the attacker", "the old release"}[c.boot], session, m.tableNames[c.table], c.manifest,
		[]string{"A", "B", "the attacker", "nobody"}[c.conn])
}

// defences are the checks of the Verifier that the protocol rests on, and the
// property that each upholds. Taking one away means not listening to it.
var defences = []struct{ check, property string }{
	{"nonce", "freshness"},
	{"tls_key", "key binding"},
	{"tls_key", "no relay"},
	{"report_data", "no mix of statements"},
	{"agents", "no mix of components"},
	{"agent", "no mix of components"},
	{"principals", "known principals"},
	{"measurement", "the platform is the release"},
	{"guest_policy", "nobody looks inside"},
	{"tcb", "no downgrade"},
	{"svn", "no downgrade"},
	{"signature", "the platform is AMD's hardware"},
}

// TestNoOrderOfMovesBreaksAProperty searches all states of the protocol, and in
// each of them all messages that the attacker can compose there.
func TestNoOrderOfMovesBreaksAProperty(t *testing.T) {
	m := newModel(t)
	refused := m.appraiseAll()
	honest := message{report: 4, boot: bootA2, session: 4, table: 1, conn: connA}
	states := m.reachable()
	accepted, seen := map[message]bool{}, map[string]message{}
	for c, failed := range refused {
		if !slices.ContainsFunc(states, func(s state) bool { return m.can(s, c) }) {
			continue
		}
		broken := m.broken(c)
		if len(failed) == 0 {
			accepted[c] = true
			if len(broken) > 0 {
				t.Errorf("%s is accepted and breaks: %s", m.describe(c), strings.Join(broken, ", "))
			}
		}
		for _, property := range broken {
			if len(failed) == 1 {
				seen[failed[0]+" upholds "+property] = c
			}
		}
	}
	if !accepted[honest] {
		t.Errorf("an honest answer is refused: %v", refused[honest])
	}
	for _, d := range defences {
		if _, ok := seen[d.check+" upholds "+d.property]; !ok {
			t.Errorf("without the check %q, %q still holds in all states: the model does not show what it is for", d.check, d.property)
		}
	}
	t.Logf("%d states, %d messages, %d accepted", len(states), len(refused), len(accepted))
	for what, c := range seen {
		t.Logf("%s: else %s would pass", what, m.describe(c))
	}
}

// TestAnOlderFormatIsRefusedTwice: an old platform's statement names its version
// and is hashed with it, so renaming it does not help.
func TestAnOlderFormatIsRefusedTwice(t *testing.T) {
	m := newModel(t)
	c := message{report: 4, boot: bootA2, session: 4, table: 1, conn: connA}
	for name, part := range map[string]func(*attest.Evidence) *string{
		"evidence": func(e *attest.Evidence) *string { return &e.Version },
		"boot":     func(e *attest.Evidence) *string { return &e.Boot.Version },
		"session":  func(e *attest.Evidence) *string { return &e.Session.Version },
	} {
		e := m.evidence(c)
		current := *part(e)
		*part(e) = "omega/" + name + "/v0"
		e.Report = m.launches[bootA2].report(t, attest.ReportData(e.Boot.Digest(), e.Session.Digest()))
		if failed := refusals(e, m.params(c)); len(failed) == 0 {
			t.Errorf("%s of an older version is accepted", name)
		}
		*part(e) = current
		failed := refusals(e, m.params(c))
		if name != "evidence" && !slices.Equal(failed, []string{"report_data"}) {
			t.Errorf("%s of an older version under the current name: refused by %v", name, failed)
		}
	}
}

func index(b bool) int8 {
	if b {
		return 1
	}
	return 0
}
