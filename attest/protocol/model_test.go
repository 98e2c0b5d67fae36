package protocol

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"omega/attest"
	"omega/attest/snp"
	"omega/attest/verifier"
)

// utterances is how many messages honest platforms made.
const utterances = 7

// Reports: those of the utterances, and those that the attacker makes by means
// of its own, over whatever it composed.
const (
	reportM = int8(iota + utterances) // its own image on AMD's hardware
	reportD                           // the release, launched so that the host can debug it
	reportO                           // an old release, signed once, now known to be broken
	reportT                           // the release on a chip whose firmware is known to be broken
	reportE                           // a chip that AMD never made, saying that it is AMD's
	reports
)

// Boots whose claims a message can carry.
const (
	bootA1 = int8(iota) // the platform that the Verifier asks for, yesterday
	bootA2              // the same, today
	bootB               // another platform of the same release, of another tenant
	bootX               // the attacker's: as A2's, with its own keys
	bootO               // the attacker's, as the old release would say it
	boots
)

// Sessions: those of the utterances, and one that fits what is shown.
const (
	sessionFitted = int8(utterances + iota)
	sessions
)

// The other end of the connection; connNone is evidence read from a file.
const (
	connA = int8(iota)
	connB
	connX
	connNone
	conns
)

// message is what the attacker hands to the Verifier, and the manifest that it
// talked the Verifier into: 0 the current one, 1 the old release's.
type message struct{ report, boot, session, table, manifest, conn int8 }

// utterance is the evidence that an honest platform made for a nonce.
type utterance struct {
	boot, table int8
	fresh       bool
	report      []byte
}

// model is the protocol's world: what there is, never changed by a move.
type model struct {
	t           testing.TB
	amd, forger *amd
	launches    map[int8]launch // of reports by boot for honest ones, by report for the attacker's
	boots       [boots]boot
	tables      [][]attest.Agent
	tableNames  []string
	said        [utterances]utterance
	nonce       [2]attest.Bytes32 // one that the attacker chose, and the Verifier's
	manifests   [2]*attest.Manifest
	policy      verifier.Policy
}

func newModel(t testing.TB) *model {
	t.Helper()
	m := &model{t: t, amd: newAMD(t), forger: newAMD(t), nonce: [2]attest.Bytes32{{0x01}, {0xff}}}
	release := attest.Release{
		Profile: "cpu", SVN: 2, Expires: clock.AddDate(0, 1, 0), PolicyDigest: [32]byte{6},
		LaunchDigests: []attest.LaunchDigest{{VCPUs: 2, CPU: "EPYC-Milan", Digest: [48]byte{2}}},
	}
	old := release
	old.SVN, old.LaunchDigests = 1, []attest.LaunchDigest{{VCPUs: 2, CPU: "EPYC-Milan", Digest: [48]byte{1}}}
	m.manifests = [2]*attest.Manifest{{Predicate: release}, {Predicate: old}}
	ann, mia, eve := newPrincipal(t, "ann", "author"), newPrincipal(t, "mia", "model"), newPrincipal(t, "eve", "model")
	m.policy = verifier.Policy{
		Report: snp.DefaultPolicy(), MinSVN: 2,
		Principals: []verifier.PrincipalKeys{{Name: "ann", KeyIDs: []attest.Bytes32{ann.id()}}, {Name: "mia", KeyIDs: []attest.Bytes32{mia.id()}}},
	}
	for i := range m.boots {
		m.boots[i] = newBoot(byte(i+1), release)
	}
	m.boots[bootO].claims.SVN = 1
	good, strict := m.amd.chip(t, goodTCB), snp.PolicyStrict
	m.launches = map[int8]launch{
		bootA1: {good, [48]byte{2}, strict}, bootA2: {good, [48]byte{2}, strict}, bootB: {m.amd.chip(t, goodTCB), [48]byte{2}, strict},
		reportM: {good, [48]byte{66}, strict}, reportD: {good, [48]byte{2}, strict | snp.PolicyDebug}, reportO: {good, [48]byte{1}, strict},
		reportT: {m.amd.chip(t, oldTCB), [48]byte{2}, strict}, reportE: {m.forger.chip(t, goodTCB), [48]byte{2}, strict},
	}
	policy := release.PolicyDigest
	m.makeTables(agent(t, "x", 0, ann, mia, policy), agent(t, "y", 1, ann, mia, policy), agent(t, "z", 0, ann, mia, policy), agent(t, "e", 0, ann, eve, policy))
	for i, u := range []utterance{
		{boot: bootA1, table: 0}, {boot: bootA1, table: 0, fresh: true}, {boot: bootA2, table: 0},
		{boot: bootA2, table: 0, fresh: true}, {boot: bootA2, table: 1, fresh: true}, {boot: bootB, table: 2, fresh: true},
		{boot: bootB, table: 3, fresh: true},
	} {
		b := &m.boots[u.boot]
		s := b.session(m.nonce[index(u.fresh)], m.tables[u.table])
		u.report = m.launches[u.boot].report(t, attest.ReportData(b.claims.Digest(), s.Digest()))
		m.said[i] = u
	}
	return m
}

// makeTables makes the sets of agents that platforms have, and what an attacker
// makes of the larger one.
func (m *model) makeTables(x, y, z, e attest.Agent) {
	m.tables = [][]attest.Agent{{x}, {x, y}, {z}, {e}}
	m.tableNames = []string{"A's first agent", "A's agents", "B's agent", "B's agent with a model of a stranger"}
	edit := func(name string, f func(x, y *attest.Agent) []attest.Agent) {
		a, b := x, y
		a.Components, b.Components = slices.Clone(x.Components), slices.Clone(y.Components)
		m.tables, m.tableNames = append(m.tables, f(&a, &b)), append(m.tableNames, name)
	}
	edit("the first agent hidden", func(_, y *attest.Agent) []attest.Agent { return []attest.Agent{*y} })
	edit("agents in another order", func(x, y *attest.Agent) []attest.Agent { return []attest.Agent{*y, *x} })
	edit("an agent twice", func(x, y *attest.Agent) []attest.Agent { return []attest.Agent{*x, *y, *y} })
	edit("models swapped", func(x, y *attest.Agent) []attest.Agent {
		x.Components[1], y.Components[1] = y.Components[1], x.Components[1]
		return []attest.Agent{*x, *y}
	})
	edit("models and identities swapped", func(x, y *attest.Agent) []attest.Agent {
		x.Components[1], y.Components[1] = y.Components[1], x.Components[1]
		x.Identity, y.Identity = attest.IdentityRoot(x.Components), attest.IdentityRoot(y.Components)
		return []attest.Agent{*x, *y}
	})
	edit("a principal's signature gone", func(x, y *attest.Agent) []attest.Agent {
		x.Components[1].Signatures = nil
		return []attest.Agent{*x, *y}
	})
	edit("an agent said to have stopped", func(x, y *attest.Agent) []attest.Agent {
		y.State = attest.AgentStopped
		return []attest.Agent{*x, *y}
	})
}

// evidence puts a message together. The attacker's reports are made over what
// it composed; theirs are the bytes that they are.
func (m *model) evidence(c message) *attest.Evidence {
	b := &m.boots[c.boot]
	e := &attest.Evidence{Version: attest.EvidenceVersion, Boot: b.claims, Agents: m.tables[c.table]}
	if c.session == sessionFitted {
		e.Session = b.session(m.nonce[1], e.Agents)
	} else {
		u := m.said[c.session]
		e.Session = m.boots[u.boot].session(m.nonce[index(u.fresh)], m.tables[u.table])
	}
	// What was made for another nonce is shown with its path and the right one.
	e.Nonce = attest.Nonces{othersNonce, m.nonce[1]}.Proofs()[1]
	if c.report < utterances {
		e.Report, e.Certificates = m.said[c.report].report, m.launches[m.said[c.report].boot].chip.table
		return e
	}
	l := m.launches[c.report]
	e.Report, e.Certificates = l.report(m.t, attest.ReportData(e.Boot.Digest(), e.Session.Digest())), l.chip.table
	return e
}

func (m *model) params(c message) verifier.Params {
	policy := m.policy
	p := verifier.Params{Nonce: m.nonce[1], Manifest: m.manifests[c.manifest], AMDRoots: []snp.Root{m.amd.root}, Now: clock, Policy: &policy}
	if c.conn != connNone {
		key := [32]byte(m.boots[[]int8{bootA2, bootB, bootX}[c.conn]].claims.TLSKey)
		p.TLSKey = &key
	}
	return p
}

// appraise asks the real Verifier, and returns the names of the checks that
// refuse: every one of them, because an appraisal goes on after a refusal. A
// report whose signature is refused is signed again by AMD's key, so that
// the checks behind that one are seen too.
func (m *model) appraise(c message) []string {
	e, p := m.evidence(c), m.params(c)
	failed := refusals(e, p)
	if slices.Equal(failed, []string{"signature"}) {
		r, err := snp.ParseReport(e.Report)
		if err != nil {
			m.t.Fatal(err)
		}
		chip := m.launches[bootA2].chip
		r.ChipID = chip.id
		e.Report, e.Certificates = chip.sign(m.t, r), chip.table
		failed = append(failed, refusals(e, p)...)
	}
	return failed
}

func refusals(e *attest.Evidence, p verifier.Params) []string {
	r, err := verifier.Appraise(e, p)
	var names []string
	for _, c := range r.Checks {
		if c.Status == attest.Failed {
			name, _, _ := strings.Cut(c.Name, " ")
			names = append(names, name)
		}
	}
	slices.Sort(names)
	names = slices.Compact(names)
	if (err == nil) != (len(names) == 0) {
		panic(fmt.Sprintf("verdict %v with refusals %v", err, names))
	}
	return names
}
