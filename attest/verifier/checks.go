package verifier

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"time"

	"omega/attest"
)

// binding: the report speaks for exactly these claims, for this nonce, and for
// the other end of this connection.
func (a *appraisal) binding() {
	want := attest.Bytes64(attest.ReportData(a.e.Boot.Digest(), a.e.Session.Digest()))
	a.compare(want == a.report.ReportData, attest.Check{
		Name: "report_data", Expected: want.String(), Found: attest.Bytes64(a.report.ReportData).String(),
		Words: "the report binds the boot claims and the session statement",
	})
	a.compare(a.e.Session.Nonce == a.p.Nonce && a.p.Nonce != [32]byte{}, attest.Check{
		Name: "nonce", Expected: attest.Bytes32(a.p.Nonce).String(), Found: a.e.Session.Nonce.String(),
		Words: "the evidence was made for this question",
	})
	if a.p.TLSKey == nil {
		a.say("tls_key", "the evidence was read from a file, so it says nothing about any connection")
		return
	}
	a.compare(a.e.Boot.TLSKey == *a.p.TLSKey && *a.p.TLSKey != [32]byte{}, attest.Check{
		Name: "tls_key", Expected: attest.Bytes32(*a.p.TLSKey).String(), Found: a.e.Boot.TLSKey.String(),
		Words: "the TLS connection ends inside of this platform",
	})
}

// launch: what was launched is the release, and what the host said at launch is
// what the guest read.
func (a *appraisal) launch() {
	found := attest.Bytes48(a.report.Measurement)
	c := attest.Check{Name: "measurement", Found: found.String(), Expected: fmt.Sprintf("one of %d launch digests of the manifest", len(a.p.Manifest.Predicate.LaunchDigests))}
	l := a.p.Manifest.Launch(found)
	if l != nil {
		c.Words = fmt.Sprintf("the launch digest is the manifest's for %d vCPUs of %s", l.VCPUs, l.CPU)
		if a.emulated {
			c.Words += "; the host computed it over the bytes that it launched"
		}
	} else {
		c.Words = "what was launched is not this release: its kernel, initrd, command line, firmware, vCPU count or CPU model differs"
	}
	a.compare(l != nil, c)
	if a.emulated {
		a.say("firmware", fmt.Sprintf("the digest stands for the pinned SNP firmware; %q really ran", cstring(a.report.ImageID)))
	}
	if a.report.HostData == [32]byte{} {
		a.say("host_data", "unbound: HOST_DATA is zero, so the host could choose the launch config freely; the guest read "+configName(a.e.Boot.ConfigDigest))
		return
	}
	a.compare(a.e.Boot.ConfigDigest == a.report.HostData, attest.Check{
		Name: "host_data", Expected: attest.Bytes32(a.report.HostData).String(), Found: a.e.Boot.ConfigDigest.String(),
		Words: "the launch config is the one that was bound at launch",
	})
}

func configName(d attest.Bytes32) string {
	if d.IsZero() {
		return "none"
	}
	return "the one with digest " + d.String()
}

// image: the claims about the image are those of the release, and the release
// is still good.
func (a *appraisal) image() {
	r := &a.p.Manifest.Predicate
	a.compare(a.e.Boot.PolicyDigest == r.PolicyDigest, attest.Check{
		Name: "policy", Expected: r.PolicyDigest.String(), Found: a.e.Boot.PolicyDigest.String(),
		Words: "the agent policy in force is the manifest's",
	})
	a.compare(a.e.Boot.Profile == r.Profile, attest.Check{
		Name: "profile", Expected: r.Profile, Found: a.e.Boot.Profile, Words: "the image profile is the manifest's",
	})
	if a.e.Boot.Profile == debugProfile {
		a.compare(a.p.AllowDebugProfile, attest.Check{
			Name: "debug", Expected: "a profile without a shell", Found: debugProfile, Words: "the image has a shell inside",
		})
	}
	a.compare(a.e.Boot.SVN == r.SVN && r.SVN >= a.p.MinSVN, attest.Check{
		Name: "svn", Expected: fmt.Sprintf("%d, at least %d", r.SVN, a.p.MinSVN), Found: fmt.Sprint(a.e.Boot.SVN),
		Words: "the release's security version",
	})
	if a.p.Now.After(r.Expires) {
		words := fmt.Sprintf("the manifest expired on %s", r.Expires.Format(time.RFC3339))
		if a.err == nil {
			a.err = fmt.Errorf("%w: %s", ErrSignature, words)
		}
		a.add(attest.Check{Name: "expiry", Status: attest.Failed, Words: words})
		return
	}
	a.add(attest.Check{Name: "expiry", Status: attest.Proven, Found: r.Expires.Format(time.RFC3339), Words: "the manifest has not expired"})
}

// agents: the set that the session statement names is the one shown, and each
// identity is that of the components shown.
func (a *appraisal) agents() {
	s := &a.e.Session
	root := attest.Bytes32(attest.AgentsRoot(a.e.Agents))
	a.compare(int64(s.AgentCount) == int64(len(a.e.Agents)) && s.AgentsRoot == root, attest.Check{
		Name: "agents", Expected: fmt.Sprintf("%d agents, root %s", s.AgentCount, s.AgentsRoot), Found: fmt.Sprintf("%d agents, root %s", len(a.e.Agents), root),
		Words: "these are all agents that the platform has admitted in this boot",
	})
	seen := map[string]bool{}
	last := -1
	for i := range a.e.Agents {
		g := &a.e.Agents[i]
		id := attest.Bytes32(attest.IdentityRoot(g.Components))
		ok := len(g.Components) > 0 && g.Identity == id && !g.Bundle.IsZero() && !seen[g.Instance] && int64(g.Index) > int64(last)
		words := fmt.Sprintf("agent %q, %s, is made of the %d components shown", g.Name, g.State, len(g.Components))
		for _, c := range g.Components {
			if c.Kind == "policy" && c.Digest != a.e.Boot.PolicyDigest {
				ok, words = false, "the agent's policy is not the platform's"
			}
		}
		a.compare(ok, attest.Check{Name: "agent " + g.Instance, Expected: g.Identity.String(), Found: id.String(), Words: words})
		seen[g.Instance] = true
		last = int(g.Index)
	}
}

// log: the checkpoint is this boot's log's, under this boot's key.
func (a *appraisal) log() {
	b := &a.e.Boot
	origin := "omega/" + hex.EncodeToString(b.BootID[:])
	c := attest.Check{Name: "log", Expected: "a checkpoint of " + origin, Words: "the provenance log's head is signed by this boot's log key; every entry below it is fixed"}
	head, err := openCheckpoint(a.e.Session.Checkpoint, origin, b.LogKey)
	if err != nil {
		c.Words = err.Error()
	} else {
		c.Found = fmt.Sprintf("%d entries, root %s", head.size, head.root)
	}
	a.compare(err == nil && b.LogOrigin == origin, c)
}

// gpu: absent needs no evidence; anything more is not appraised here and so not
// accepted.
func (a *appraisal) gpu() {
	b := &a.e.Boot
	empty := b.GPUEvidence.IsZero() && a.e.Session.GPUEvidence.IsZero()
	found := b.GPU
	if !empty {
		found += " with evidence"
	}
	switch b.GPU {
	case attest.GPUAbsent:
		a.compare(empty, attest.Check{Name: "gpu", Expected: "no GPU evidence", Found: found, Words: "the platform uses no GPU"})
	case attest.GPURefused:
		a.compare(empty, attest.Check{Name: "gpu", Expected: "no GPU evidence", Found: found, Words: "the host attached a GPU; the platform refused it and does not use it"})
	default:
		a.compare(false, attest.Check{Name: "gpu", Expected: "a GPU that is absent or refused", Found: fmt.Sprintf("%.20q", b.GPU), Words: "this verifier cannot appraise GPU evidence"})
	}
}

// notProven says what no evidence of this form can prove.
func (a *appraisal) notProven() {
	a.say("time", "every wall-clock time of the platform is the host's claim")
	a.say("rollback", "no witness saw the log: a reboot or a second copy starts a new one, and resets budgets, counts and approvals")
	a.say("remote", "remote tools and models are known by their descriptors and TLS names only; what they do is not attested")
	a.say("agents_behaviour", "an agent is identified, not judged: it can do whatever the policy permits it")
	if !a.emulated {
		a.say("revocation", "AMD's revocation lists were not checked")
	}
}

// cstring is text up to the first zero byte, safe to print.
func cstring(b [16]byte) string {
	text, _, _ := bytes.Cut(b[:], []byte{0})
	return string(text)
}
