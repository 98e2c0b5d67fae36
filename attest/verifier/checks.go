package verifier

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"strings"
	"time"

	"omega/attest"
)

// binding: the report speaks for exactly these claims, for this nonce, and for
// the other end of this connection.
func (a *appraisal) binding() {
	if a.report != nil {
		want := attest.Bytes64(attest.ReportData(a.e.Boot.Digest(), a.e.Session.Digest()))
		a.judge(want == a.report.ReportData, attest.Check{
			Name: "report_data", Expected: want.String(), Found: attest.Bytes64(a.report.ReportData).String(),
			Words: "the report binds the boot claims and the session statement",
		}, "the report is about other claims: something was changed, or taken from other evidence")
	}
	n := &a.e.Nonce
	a.judge(n.Nonce == a.p.Nonce && a.p.Nonce != [32]byte{} && n.Holds(&a.e.Session), attest.Check{
		Name: "nonce", Expected: attest.Bytes32(a.p.Nonce).String(), Found: n.Nonce.String(),
		Words: "the evidence was made for this question",
	}, "the evidence was made for another question: it is old, or somebody replays it")
	if a.p.TLSKey == nil {
		a.say("tls_key", "the evidence was read from a file, so it says nothing about any connection")
		return
	}
	a.judge(a.e.Boot.TLSKey == *a.p.TLSKey && *a.p.TLSKey != [32]byte{}, attest.Check{
		Name: "tls_key", Expected: attest.Bytes32(*a.p.TLSKey).String(), Found: a.e.Boot.TLSKey.String(),
		Words: "the TLS connection ends inside of this platform",
	}, "the TLS connection does not end inside of this platform: somebody stands between, or relays another platform's evidence")
}

// launch: what was launched is the release, and what the host said at launch is
// what the guest read.
func (a *appraisal) launch() {
	var found attest.Bytes48
	if a.report != nil {
		found = a.report.Measurement
	} else {
		found = a.p.Known.Measurement
	}
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
	if a.emulated && a.report != nil {
		a.say("firmware", fmt.Sprintf("the digest stands for the pinned SNP firmware; %q really ran", cstring(a.report.ImageID)))
	}
	if a.hostData.IsZero() {
		a.say("host_data", "unbound: HOST_DATA is zero, so the host could choose the launch config freely; the guest read "+configName(a.e.Boot.ConfigDigest))
		return
	}
	a.compare(a.e.Boot.ConfigDigest == a.hostData, attest.Check{
		Name: "host_data", Expected: a.hostData.String(), Found: a.e.Boot.ConfigDigest.String(),
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
	if a.e.Boot.Profile == devProfile {
		a.compare(a.p.AllowDevProfile, attest.Check{
			Name: "dev", Expected: "an image", Found: devProfile, Words: "these are processes of somebody's machine: nothing was measured",
		})
	}
	a.compare(a.e.Boot.SVN == r.SVN && r.SVN >= a.p.MinSVN, attest.Check{
		Name: "svn", Expected: fmt.Sprintf("%d, at least %d", r.SVN, a.p.MinSVN), Found: fmt.Sprint(a.e.Boot.SVN),
		Words: "the release's security version",
	})
	if a.p.Now.After(r.Expires) {
		a.refuse(refusal(ErrSignature, "the manifest expired on "+r.Expires.Format(time.RFC3339), a.p.Now.UTC().Format(time.RFC3339), "a time up to that"), attest.Check{Name: "expiry"})
		return
	}
	a.add(attest.Check{Name: "expiry", Status: attest.Proven, Found: r.Expires.Format(time.RFC3339), Words: "the manifest has not expired"})
}

// log: the checkpoint is this boot's log's, under this boot's key.
func (a *appraisal) log() {
	b := &a.e.Boot
	origin := "omega/" + hex.EncodeToString(b.BootID[:])
	c := attest.Check{Name: "log", Expected: "a checkpoint of " + origin, Words: "the provenance log's head is signed by this boot's log key; every entry below it is fixed"}
	head, err := openCheckpoint(a.e.Session.Checkpoint, origin, b.LogKey)
	if err != nil {
		first, _, _ := strings.Cut(string(a.e.Session.Checkpoint), "\n")
		c.Words, c.Found = err.Error(), fmt.Sprintf("%.100q", first)
	} else {
		c.Found = fmt.Sprintf("%d entries, root %s", head.size, head.root)
	}
	a.compare(err == nil && b.LogOrigin == origin, c)
}

// revoked holds every part that is shown against the revocation list.
func (a *appraisal) revoked() {
	if a.p.Revoked == nil {
		if a.p.Policy != nil && a.p.Policy.Revocation.Required {
			a.refuse(refusal(ErrCollateral, "the appraisal policy demands a revocation list: give one with --revoked", "", "a revocation list"), attest.Check{Name: "revoked"})
			return
		}
		a.say("revoked", "no revocation list was given, so a component or key that was revoked is not noticed")
		return
	}
	if err := a.p.Revoked.Current(a.p.Now); err != nil {
		a.refuse(err, attest.Check{Name: "revoked", Expected: "a revocation list that is good at " + a.p.Now.UTC().Format(time.RFC3339),
			Found: fmt.Sprintf("list %d, good until %s", a.p.Revoked.Serial, a.p.Revoked.Expires.UTC().Format(time.RFC3339))})
		return
	}
	c := attest.Check{Name: "revoked", Expected: "no component and no key of the revocation list", Words: fmt.Sprintf("nothing that is shown is on revocation list %d", a.p.Revoked.Serial)}
	for i := range a.e.Agents {
		g := &a.e.Agents[i]
		why := ""
		if a.p.Revoked.Refused(g.Bundle, attest.Bytes32{}) {
			why = "agent bundle sha256:" + g.Bundle.String() + " is revoked"
		}
		for n := range g.Components {
			if w := a.p.Revoked.RefusedPart(&g.Components[n]); w != "" {
				why = w
			}
		}
		if why != "" {
			c.Found, c.Words = title(g)+": "+why, "an agent carries what was revoked"
			a.compare(false, c)
			return
		}
	}
	a.compare(true, c)
}

// notProven says what no evidence of this form can prove.
func (a *appraisal) notProven() {
	a.say("time", "every wall-clock time of the platform is the host's claim")
	a.say("rollback", "no witness saw the log: a reboot or a second copy starts a new one, and resets budgets, counts and approvals")
	a.say("remote", "remote tools and models are known by their descriptors and TLS names only; what they do is not attested")
	a.say("agents_behaviour", "an agent is identified, not judged: it can do whatever the policy permits it")
	switch {
	case a.emulated:
	case a.p.CRL != nil && a.report != nil:
		a.add(attest.Check{Name: "revocation", Status: attest.Proven, Found: a.p.CRL.Words(), Words: "AMD has revoked no certificate of the chain"})
	default:
		a.say("revocation", "AMD's revocation lists were not checked")
	}
}

// cstring is text up to the first zero byte, safe to print.
func cstring(b [16]byte) string {
	text, _, _ := bytes.Cut(b[:], []byte{0})
	return string(text)
}
