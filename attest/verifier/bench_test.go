package verifier_test

import (
	"fmt"
	"slices"
	"testing"

	"omega/attest"
	"omega/attest/verifier"
)

// crowd is a world with n agents, shown as a platform shows them.
func crowd(b testing.TB, n int) (*world, attest.AgentSet) {
	b.Helper()
	var set attest.AgentSet
	var err error
	for i := range n {
		if set, err = set.With(agentAt(uint32(i))); err != nil {
			b.Fatal(err)
		}
	}
	w := newWorld(b)
	view := attest.View{Visible: func(string) bool { return true }}
	if err := view.Show(w.e, set); err != nil {
		b.Fatal(err)
	}
	w.seal()
	return w, set
}

// agentAt is one of many instances of one agent.
func agentAt(index uint32) attest.Agent {
	g := sameAgent()
	g.Components = slices.Clone(g.Components)
	g.Instance, g.Index = fmt.Sprint("a-", index), index
	for i := range g.Components {
		g.Components[i].Salt = attest.Bytes16{byte(i + 1), byte(index), byte(index >> 8)}
	}
	reseal(&g)
	return g
}

func BenchmarkAppraise(b *testing.B) {
	for _, n := range []int{1, 1000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			w, _ := crowd(b, n)
			for b.Loop() {
				if _, err := verifier.Appraise(w.e, w.p); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(fmt.Sprint(n, "/parse"), func(b *testing.B) {
			w, _ := crowd(b, n)
			raw, err := w.e.Marshal()
			if err != nil {
				b.Fatal(err)
			}
			b.SetBytes(int64(len(raw)))
			for b.Loop() {
				if _, err := attest.ParseEvidence(raw); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkDelta is one agent more, whole, on a platform that is known and runs
// 999 others: four components, three signatures of two principals.
func BenchmarkDelta(b *testing.B) {
	w, set := crowd(b, 1000)
	r, err := verifier.Appraise(w.e, w.p)
	if err != nil {
		b.Fatal(err)
	}
	if w.p.Known, err = verifier.Remember(w.e, r, w.p); err != nil {
		b.Fatal(err)
	}
	if err := w.p.Prepare(); err != nil {
		b.Fatal(err)
	}
	view := attest.View{Visible: func(string) bool { return true }, Have: w.p.Known.Have()[:1], Open: &attest.Open{Instance: "a-500"}}
	produce := func() []byte {
		nonces := attest.Nonces{w.p.Nonce}
		e := &attest.Evidence{Version: attest.EvidenceVersion, Platform: w.e.Boot.Digest(), Session: w.e.Session, Nonce: nonces.Proofs()[0]}
		e.Session.AgentsRoot, e.Session.AgentCount = set.Root(), uint32(set.Len())
		if err := view.Show(e, set); err != nil {
			b.Fatal(err)
		}
		w.signSession(e)
		raw, err := e.Marshal()
		if err != nil {
			b.Fatal(err)
		}
		return raw
	}
	b.Run("produce", func(b *testing.B) {
		for b.Loop() {
			produce()
		}
	})
	raw := produce()
	b.Run("verify", func(b *testing.B) {
		for b.Loop() {
			e, err := attest.ParseEvidence(raw)
			if err != nil {
				b.Fatal(err)
			}
			if _, err := verifier.Appraise(e, w.p); err != nil {
				b.Fatal(err)
			}
		}
	})
}
