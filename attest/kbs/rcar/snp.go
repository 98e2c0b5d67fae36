package rcar

import (
	"errors"
	"fmt"

	"omega/attest/snp"
)

// snpReport is an SNP report as Trustee's Attestation Service reads it: the
// serde form of AttestationReport in virtee/sev d487809, which it pins. Byte
// strings are arrays of numbers, and what a version lacks is null.
type snpReport struct {
	Version          uint32     `json:"version"`
	GuestSVN         uint32     `json:"guest_svn"`
	Policy           uint64     `json:"policy"`
	FamilyID         numbers    `json:"family_id"`
	ImageID          numbers    `json:"image_id"`
	VMPL             uint32     `json:"vmpl"`
	SigAlgo          uint32     `json:"sig_algo"`
	CurrentTCB       snpTCB     `json:"current_tcb"`
	PlatInfo         uint64     `json:"plat_info"`
	KeyInfo          uint32     `json:"key_info"`
	ReportData       numbers    `json:"report_data"`
	Measurement      numbers    `json:"measurement"`
	HostData         numbers    `json:"host_data"`
	IDKeyDigest      numbers    `json:"id_key_digest"`
	AuthorKeyDigest  numbers    `json:"author_key_digest"`
	ReportID         numbers    `json:"report_id"`
	ReportIDMA       numbers    `json:"report_id_ma"`
	ReportedTCB      snpTCB     `json:"reported_tcb"`
	Family           *byte      `json:"cpuid_fam_id"`
	Model            *byte      `json:"cpuid_mod_id"`
	Stepping         *byte      `json:"cpuid_step"`
	ChipID           numbers    `json:"chip_id"`
	CommittedTCB     snpTCB     `json:"committed_tcb"`
	Current          snpVersion `json:"current"`
	Committed        snpVersion `json:"committed"`
	LaunchTCB        snpTCB     `json:"launch_tcb"`
	LaunchMitVector  *uint64    `json:"launch_mit_vector"`
	CurrentMitVector *uint64    `json:"current_mit_vector"`
	Signature        struct {
		R numbers `json:"r"`
		S numbers `json:"s"`
	} `json:"signature"`
}

type snpTCB struct {
	FMC        *byte `json:"fmc"`
	Bootloader byte  `json:"bootloader"`
	TEE        byte  `json:"tee"`
	SNP        byte  `json:"snp"`
	Microcode  byte  `json:"microcode"`
}

type snpVersion struct {
	Major byte `json:"major"`
	Minor byte `json:"minor"`
	Build byte `json:"build"`
}

type snpCertificate struct {
	Type string  `json:"cert_type"`
	Data numbers `json:"data"`
}

// numbers is a byte string that is written as an array of numbers.
type numbers []byte

// MarshalJSON writes it so.
func (n numbers) MarshalJSON() ([]byte, error) {
	out := []byte{'['}
	for i, b := range n {
		if i > 0 {
			out = append(out, ',')
		}
		out = fmt.Appendf(out, "%d", b)
	}
	return append(out, ']'), nil
}

// snpEvidence is the primary evidence: the report, and the certificates that the
// host passed along; without them the service asks AMD's.
func snpEvidence(raw, table []byte) (any, error) {
	r, err := snp.ParseReport(raw)
	if err != nil {
		return nil, err
	}
	report, err := reportOf(r)
	if err != nil {
		return nil, err
	}
	t, err := snp.ParseTable(table)
	if err != nil {
		return nil, err
	}
	var chain []snpCertificate
	for _, c := range []snpCertificate{{"VCEK", t.VCEK}, {"VLEK", t.VLEK}, {"ASK", t.ASK}, {"ARK", t.ARK}} {
		if len(c.Data) > 0 {
			chain = append(chain, c)
		}
	}
	return map[string]any{"attestation_report": report, "cert_chain": chain}, nil
}

// minReport is the first version that names the CPU, which the service demands.
const minReport = 3

func reportOf(r *snp.Report) (*snpReport, error) {
	if r.Version < minReport {
		return nil, fmt.Errorf("report version %d: the Attestation Service reads %d and later", r.Version, minReport)
	}
	product, err := r.Product()
	if err != nil {
		return nil, err
	}
	out := &snpReport{
		Version: r.Version, GuestSVN: r.GuestSVN, Policy: uint64(r.GuestPolicy), FamilyID: r.FamilyID[:], ImageID: r.ImageID[:],
		VMPL: r.VMPL, SigAlgo: 1, PlatInfo: uint64(r.PlatformInfo), KeyInfo: keyInfo(r), // 1: ECDSA P-384 with SHA-384
		ReportData: r.ReportData[:], Measurement: r.Measurement[:], HostData: r.HostData[:],
		IDKeyDigest: r.IDKeyDigest[:], AuthorKeyDigest: r.AuthorKeyDigest[:], ReportID: r.ReportID[:], ReportIDMA: r.ReportIDMA[:],
		Family: &r.Family, Model: &r.Model, Stepping: &r.Stepping, ChipID: r.ChipID[:],
		Current: versionOf(r.CurrentBuild), Committed: versionOf(r.CommittedBuild),
	}
	out.Signature.R, out.Signature.S = r.R[:], r.S[:]
	if r.Version >= 5 { // the version that has mitigation vectors
		out.LaunchMitVector, out.CurrentMitVector = &r.LaunchMitVector, &r.CurrentMitVector
	}
	for _, t := range []struct {
		to   *snpTCB
		from snp.TCB
	}{{&out.CurrentTCB, r.CurrentTCB}, {&out.ReportedTCB, r.ReportedTCB}, {&out.CommittedTCB, r.CommittedTCB}, {&out.LaunchTCB, r.LaunchTCB}} {
		if err := t.to.set(t.from, product); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func versionOf(f snp.Firmware) snpVersion { return snpVersion{f.Major, f.Minor, f.Build} }

// keyInfo is AUTHOR_KEY_EN, MASK_CHIP_KEY and SIGNING_KEY at their places
// (SNP ABI, ATTESTATION_REPORT, offset 48h).
func keyInfo(r *snp.Report) uint32 {
	n := uint32(r.SigningKey) << 2
	if r.AuthorKeyEn {
		n |= 1
	}
	if r.MaskChipKey {
		n |= 2
	}
	return n
}

// set names the parts of a TCB. A reserved part that is not zero has no name,
// and the report's signature would not hold over what is left.
func (t *snpTCB) set(v snp.TCB, p snp.Product) error {
	parts, err := v.Parts(p)
	if err != nil {
		return err
	}
	for name, n := range parts {
		switch name {
		case "fmc":
			t.FMC = &n
		case "bl":
			t.Bootloader = n
		case "tee":
			t.TEE = n
		case "snp":
			t.SNP = n
		case "microcode":
			t.Microcode = n
		default:
			if n != 0 {
				return errors.New("TCB with a reserved part that is not zero")
			}
		}
	}
	return nil
}
