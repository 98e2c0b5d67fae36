package evidence

import (
	"crypto/sha256"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// What a policy may ask of CC mode.
const (
	CCAny       = ""           // the mode is told, not judged
	CCIfCarried = "if-carried" // a report that carries another mode is refused
	CCRequired  = "required"   // so is one that carries none (drivers before 580)
)

// Policy is the appraisal policy. The zero value demands everything that needs no
// choice: signatures, chains valid now, nonce, firmware, every measurement.
type Policy struct {
	MinDriver string   // lowest driver version; empty: any
	VBIOS     []string // allowed VBIOS versions; empty: any
	CC        string   // CCAny, CCIfCarried or CCRequired
	GPUs      int      // how many AppraiseAll must find; zero: any number

	// Pinned are RIMs whose signer's chain was checked once: it must have been
	// valid then, not now. No other way around an expired signer exists.
	Pinned     []PinnedRIM
	PinnedOnly bool // refuse RIMs that are not pinned

	// Exceptions are RIM indexes that may differ. Each that does is told.
	Exceptions []int

	RequireOCSP bool          // a current good status of every certificate that has one
	OCSPMaxAge  time.Duration // zero: until the next update that a response names
	AllowHold   bool          // accept certificates on hold, and tell them
}

// PinnedRIM names a RIM by the digest of its file.
type PinnedRIM struct {
	SHA256     [sha256.Size]byte
	VerifiedAt time.Time
}

// signerTime is the time at which a RIM's signer must be valid.
func (p *Policy) signerTime(r *RIM, now time.Time) (time.Time, error) {
	i := slices.IndexFunc(p.Pinned, func(pin PinnedRIM) bool { return pin.SHA256 == r.SHA256 })
	if i >= 0 {
		return p.Pinned[i].VerifiedAt, nil
	}
	if p.PinnedOnly {
		return now, fmt.Errorf("%w: RIM %s, SHA-256 %x, is not pinned", ErrMismatch, r.Version, r.SHA256)
	}
	return now, nil
}

// check holds the versions and the mode of a report against the policy.
func (p *Policy) check(o *Opaque) []Check {
	var out []Check
	if p.MinDriver != "" {
		out = append(out, compare(notOlder(o.Driver, p.MinDriver), Check{Name: "minimal driver",
			Expected: p.MinDriver + " or newer", Found: o.Driver, Words: "the driver is not older than the policy asks for"}))
	}
	if len(p.VBIOS) > 0 {
		ok := slices.ContainsFunc(p.VBIOS, func(v string) bool { return strings.EqualFold(v, o.VBIOS) })
		out = append(out, compare(ok, Check{Name: "VBIOS allowed",
			Expected: strings.Join(p.VBIOS, ", "), Found: o.VBIOS, Words: "the policy allows this VBIOS"}))
	}
	return append(out, p.checkMode(o))
}

func (p *Policy) checkMode(o *Opaque) Check {
	c := Check{Name: "CC mode", Status: NotProven, Expected: "CC on", Found: o.Mode}
	on := (o.Mode == ModeSPT || o.Mode == ModeMPT) && !o.PPCIe
	switch {
	case p.CC != CCAny && p.CC != CCIfCarried && p.CC != CCRequired:
		c.Status, c.Words = Failed, fmt.Sprintf("the policy asks for an unknown rule %q", p.CC)
	case p.CC == CCRequired && !on, p.CC == CCIfCarried && !on && (o.Mode != ModeUnknown || o.PPCIe):
		c.Status, c.Words = Failed, "the report does not say that CC mode is on"
		if o.PPCIe {
			c.Found = ModePPCIe
		}
	case o.Mode == ModeUnknown:
		c.Expected, c.Words = "", "the report does not carry the mode (drivers before 580); only the driver in the guest knows it"
	default:
		c.Status, c.Expected, c.Words = Proven, "", "the report says in which mode the GPU is"
	}
	return c
}

// notOlder compares versions number by number. What is not a number is older.
func notOlder(version, floor string) bool {
	have, okHave := numbers(version)
	want, okWant := numbers(floor)
	return okHave && okWant && slices.Compare(have, want) >= 0
}

func numbers(version string) ([]uint64, bool) {
	var out []uint64
	for part := range strings.SplitSeq(version, ".") {
		n, err := strconv.ParseUint(part, 10, 32)
		if err != nil {
			return nil, false
		}
		out = append(out, n)
	}
	return out, true
}
