package protocol

import (
	"crypto/ed25519"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"omega/attest"
	"omega/attest/verifier"
)

// leaning is evidence that leans on an appraisal: which platform the Verifier
// remembers, which one the message names, whose signature it carries, and what
// of the appraisal has changed since.
type leaning struct {
	known, platform, signer, session, table, conn int8
	otherPolicy, expired                          bool
}

// signerX stands for the attacker's key, over whatever it composed.
const signerX = int8(utterances)

// remember is what honest evidence of a boot leaves behind.
func (m *model) remember(b int8) *verifier.Known {
	u := map[int8]int8{bootA1: 1, bootA2: 4, bootB: 5}[b]
	c := message{report: u, boot: b, session: u, table: m.said[u].table, conn: connNone}
	e, p := m.evidence(c), m.params(c)
	r, err := verifier.Appraise(e, p)
	if err != nil {
		m.t.Fatal(err)
	}
	k, err := verifier.Remember(e, r, p)
	if err != nil {
		m.t.Fatal(err)
	}
	return k
}

// lean composes the message, and the memory that it is held against.
func (m *model) lean(c leaning, known map[int8]*verifier.Known) (*attest.Evidence, verifier.Params) {
	whole := m.evidence(message{report: reportM, boot: c.platform, session: c.session, table: c.table})
	e := &attest.Evidence{Version: whole.Version, Platform: whole.Boot.Digest(), Session: whole.Session, Nonce: whole.Nonce, Agents: whole.Agents}
	e.Signature = m.signature(c.signer, e)
	p := m.params(message{conn: c.conn})
	k := *known[c.known]
	if c.otherPolicy {
		k.Policy[0] ^= 1
	}
	if c.expired {
		k.Expires = clock.Add(-time.Second)
	}
	p.Known = &k
	return e, p
}

func (m *model) signature(signer int8, e *attest.Evidence) []byte {
	if signer == signerX {
		message := attest.SessionMessage(e.Platform, e.Session.Digest())
		return ed25519.Sign(m.boots[bootX].tell, message[:])
	}
	u := m.said[signer]
	b := m.boots[u.boot]
	s := b.session(m.nonce[index(u.fresh)], m.tables[u.table])
	message := attest.SessionMessage(b.claims.Digest(), s.Digest())
	return ed25519.Sign(b.tell, message[:])
}

// heal makes the signature's check pass: the one who is remembered signs what is
// there, and nothing has changed since.
func (m *model) heal(c leaning, known map[int8]*verifier.Known) (*attest.Evidence, verifier.Params) {
	c.otherPolicy, c.expired, c.platform = false, false, c.known
	e, p := m.lean(c, known)
	message := attest.SessionMessage(e.Platform, e.Session.Digest())
	e.Signature = ed25519.Sign(m.boots[c.known].tell, message[:])
	return e, p
}

// brokenBy names the properties that accepting c would break.
func (m *model) brokenBy(c leaning) []string {
	var out []string
	if c.otherPolicy {
		out = append(out, "remembered under this policy only")
	}
	if c.expired {
		out = append(out, "not remembered for ever")
	}
	if c.signer == signerX {
		return append(out, "remembered of this platform only")
	}
	u, e := m.said[c.signer], m.evidence(message{report: reportM, boot: c.platform, session: c.session, table: c.table})
	if u.boot != c.known {
		out = append(out, "remembered of this platform only")
	}
	if !u.fresh {
		out = append(out, "freshness")
	}
	if holder := []int8{bootA2, bootB, bootX, u.boot}[c.conn]; holder == bootX {
		out = append(out, "key binding")
	} else if holder != u.boot {
		out = append(out, "no relay")
	}
	if !reflect.DeepEqual(e.Session, m.boots[u.boot].session(m.nonce[index(u.fresh)], m.tables[u.table])) {
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

// leanings yields every composition in which at most bound parts are not the
// signer's own.
func (m *model) leanings(bound int) (out []leaning) {
	for _, known := range []int8{bootA1, bootA2, bootB} {
		for signer := range signerX + 1 {
			own := leaning{known: known, platform: known, signer: signer, session: min(signer, sessionFitted), table: 1}
			if signer < signerX {
				own.table = m.said[signer].table
			}
			for platform := range bootX + 1 {
				for session := range sessions {
					for table := range int8(len(m.tables)) {
						for bits := range 4 {
							c := leaning{known, platform, signer, session, table, connNone, bits&1 != 0, bits&2 != 0}
							n := 0
							for _, differs := range []bool{platform != own.platform, session != own.session, table != own.table, c.otherPolicy, c.expired} {
								n += int(index(differs))
							}
							if n <= bound {
								out = append(out, c)
							}
						}
					}
				}
			}
		}
	}
	return out
}

// TestWhatIsRememberedServesNobodyElse: evidence without a report is worth what
// the memory of one is worth, and to nobody but the platform remembered.
func TestWhatIsRememberedServesNobodyElse(t *testing.T) {
	m := newModel(t)
	known := map[int8]*verifier.Known{bootA1: m.remember(bootA1), bootA2: m.remember(bootA2), bootB: m.remember(bootB)}
	seen, accepted := map[string]bool{}, 0
	for _, c := range m.leanings(bound(t) - 1) {
		for conn := range conns {
			c.conn = conn
			failed := refusals(m.lean(c, known))
			broken := m.brokenBy(c)
			if len(failed) == 0 {
				accepted++
				if len(broken) > 0 {
					t.Errorf("%+v is accepted and breaks: %s", c, strings.Join(broken, ", "))
				}
			}
			if slices.Equal(failed, []string{"signature"}) {
				failed = append(failed, refusals(m.heal(c, known))...)
			}
			for _, property := range broken {
				if len(failed) == 1 {
					seen[failed[0]+" upholds "+property] = true
				}
			}
		}
	}
	if accepted == 0 {
		t.Error("no honest answer is accepted")
	}
	for _, want := range []string{
		"nonce upholds freshness", "tls_key upholds key binding", "tls_key upholds no relay", "signature upholds no mix of statements",
		"agents upholds no mix of components", "signature upholds remembered of this platform only",
		"signature upholds remembered under this policy only", "signature upholds not remembered for ever", "principals upholds known principals",
	} {
		if !seen[want] {
			t.Errorf("not seen: %s", want)
		}
	}
}
