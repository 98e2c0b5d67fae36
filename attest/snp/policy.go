package snp

import (
	"fmt"
	"slices"
	"strings"

	"omega/attest"
	"omega/internal/strictjson"
)

// PolicyVersion is the format of an appraisal policy for reports.
const PolicyVersion = "omega/snp-policy/v1"

// Policy is an appraisal policy for one report. The zero value is strict: no
// debugging, no migration, VMPL 0, and no TCB floor known, so nothing passes.
type Policy struct {
	Version string `json:"version"`
	// Measurements, HostData and ReportData are checked where they are given.
	Measurements []attest.Bytes48 `json:"measurements,omitempty"`
	HostData     *attest.Bytes32  `json:"host_data,omitempty"`
	ReportData   *attest.Bytes64  `json:"report_data,omitempty"`
	VMPL         uint32           `json:"vmpl"`
	MinGuestSVN  uint32           `json:"min_guest_svn"`
	// AllowDebug, AllowMigration and AllowNoAliasCheck give up what they name.
	AllowDebug        bool `json:"allow_debug"`
	AllowMigration    bool `json:"allow_migration"`
	AllowNoAliasCheck bool `json:"allow_no_alias_check"`
	// GuestPolicy and Platform demand named bits of POLICY and PLATFORM_INFO to
	// be set or clear, beyond what the rest of the policy demands.
	GuestPolicy Bits `json:"guest_policy,omitzero"`
	Platform    Bits `json:"platform_info,omitzero"`
	// IDKeys and AuthorKeys, if given, are the SHA-384 of keys one of which must
	// have signed the ID block, or that key (ID_KEY_DIGEST, AUTHOR_KEY_DIGEST).
	IDKeys     []attest.Bytes48 `json:"id_keys,omitempty"`
	AuthorKeys []attest.Bytes48 `json:"author_keys,omitempty"`
	// MinTCB are the lowest TCBs accepted; a CPU that no floor covers is refused.
	MinTCB []Floor `json:"min_tcb"`
}

// Floor is the lowest accepted TCB of the CPUs of a product whose model is
// from First to Last.
type Floor struct {
	Product Product `json:"product"`
	First   byte    `json:"first_model"`
	Last    byte    `json:"last_model"`
	TCB     TCB     `json:"tcb"`
}

// DefaultPolicy is strict, with the floors at what patched machines of each
// product reported in February 2026. Microcode of Zen 4c counts on its own, and
// none of its machines was at hand, so only its SNP firmware is held to a floor.
func DefaultPolicy() Policy {
	return Policy{Version: PolicyVersion, MinTCB: []Floor{
		{Milan, 0x00, 0x0f, 0xdb18000000000004},
		{Genoa, 0x10, 0x1f, 0x541700000000000a},
		{Genoa, 0xa0, 0xaf, 0x0017000000000000},
		{Turin, 0x00, 0x1f, 0x5100000004010101},
	}}
}

// ParsePolicy reads an appraisal policy from strict JSON. Where it names no
// TCB floor the default ones hold.
func ParsePolicy(b []byte) (*Policy, error) {
	p := Policy{}
	if err := strictjson.Decode(b, &p, strictjson.Limits{}); err != nil {
		return nil, fmt.Errorf("appraisal policy: %w", err)
	}
	if p.Version != PolicyVersion {
		return nil, fmt.Errorf("appraisal policy: version %.40q, want %q", p.Version, PolicyVersion)
	}
	for _, f := range p.MinTCB {
		if _, err := lineOf(f.Product); err != nil || f.First > f.Last {
			return nil, fmt.Errorf("appraisal policy: TCB floor for %q, models %d to %d", f.Product, f.First, f.Last)
		}
	}
	if err := p.checkBits(); err != nil {
		return nil, fmt.Errorf("appraisal policy: %w", err)
	}
	if len(p.MinTCB) == 0 {
		p.MinTCB = DefaultPolicy().MinTCB
	}
	return &p, nil
}

// Check appraises a verified report, one check for each rule.
func (p *Policy) Check(v *Verified) []attest.Check {
	r := v.Report
	out := []attest.Check{
		attest.Compare(r.VMPL == p.VMPL, attest.Check{
			Name: "vmpl", Expected: fmt.Sprint(p.VMPL), Found: fmt.Sprint(r.VMPL),
			Words: "the report was asked for at this privilege level; 0 is the highest",
		}),
		p.guestPolicy(r),
		attest.Compare(r.GuestSVN >= p.MinGuestSVN, attest.Check{
			Name: "guest_svn", Expected: fmt.Sprint("at least ", p.MinGuestSVN), Found: fmt.Sprint(r.GuestSVN),
			Words: "the guest's security version",
		}),
		p.tcb(v),
		attest.Compare(p.AllowNoAliasCheck || r.PlatformInfo&PlatformAliasCheck != 0, attest.Check{
			Name: "platform", Expected: fmt.Sprintf("bit 5 of PLATFORM_INFO (%#x) set: memory was checked for aliases", uint64(PlatformAliasCheck)), Found: fmt.Sprintf("%#x", uint64(r.PlatformInfo)),
			Words: strings.Join(r.PlatformInfo.Words(), "; "),
		}),
	}
	out = append(out, p.bitChecks(r)...)
	out = append(out, p.keyChecks(r)...)
	if len(p.Measurements) > 0 {
		out = append(out, attest.Compare(slices.Contains(p.Measurements, attest.Bytes48(r.Measurement)), attest.Check{
			Name: "measurement", Expected: fmt.Sprint(p.Measurements), Found: attest.Bytes48(r.Measurement).String(),
			Words: "the launch digest",
		}))
	}
	if p.HostData != nil {
		out = append(out, attest.Compare(*p.HostData == r.HostData, attest.Check{
			Name: "host_data", Expected: p.HostData.String(), Found: attest.Bytes32(r.HostData).String(),
			Words: "what the host bound at launch",
		}))
	}
	if p.ReportData != nil {
		out = append(out, attest.Compare(*p.ReportData == r.ReportData, attest.Check{
			Name: "report_data", Expected: p.ReportData.String(), Found: attest.Bytes64(r.ReportData).String(),
			Words: "what the guest bound",
		}))
	}
	return out
}

func (p *Policy) guestPolicy(r *Report) attest.Check {
	denied := PolicyDebug | PolicyMigrateMA
	words := "the host can neither debug nor migrate the guest (bits 19 and 18)"
	switch {
	case p.AllowDebug && p.AllowMigration:
		denied, words = 0, "debugging and migration are allowed by the appraisal policy"
	case p.AllowDebug:
		denied, words = PolicyMigrateMA, "the host cannot migrate the guest (bit 18); debugging is allowed by the appraisal policy"
	case p.AllowMigration:
		denied, words = PolicyDebug, "the host cannot debug the guest (bit 19); migration is allowed by the appraisal policy"
	}
	return attest.Compare(r.GuestPolicy&denied == 0, attest.Check{
		Name: "guest_policy", Expected: fmt.Sprintf("none of %#x", uint64(denied)), Found: fmt.Sprintf("%#x", uint64(r.GuestPolicy)),
		Words: words,
	})
}

// tcb holds all four TCBs of the report to the floor: a machine that may be
// rolled back below it (committed), or was below it at launch, is refused too.
func (p *Policy) tcb(v *Verified) attest.Check {
	r := v.Report
	c := attest.Check{
		Name: "tcb", Found: r.ReportedTCB.String(),
		Words: "firmware and microcode reach the floor, now, at launch, and after every possible roll-back",
	}
	var floors []string
	for _, f := range p.MinTCB {
		if !f.covers(v) {
			continue
		}
		floors = append(floors, "at least "+f.TCB.String())
		for _, t := range []TCB{r.ReportedTCB, r.CommittedTCB, r.LaunchTCB, r.CurrentTCB} {
			if !t.AtLeast(f.TCB) {
				c.Expected, c.Found = "at least "+f.TCB.String(), t.String()
				return attest.Compare(false, c)
			}
		}
	}
	c.Expected = strings.Join(floors, ", ")
	if len(floors) == 0 {
		c.Expected = fmt.Sprintf("a TCB floor for %s model %#x", v.Product, r.Model)
	}
	return attest.Compare(len(floors) > 0, c)
}

// covers reports whether the floor is for the report's CPU. A report of version
// 2 does not say its model; it must reach every floor of its product.
func (f *Floor) covers(v *Verified) bool {
	r := v.Report
	return f.Product == v.Product && (r.Version < 3 || r.Model >= f.First && r.Model <= f.Last)
}
