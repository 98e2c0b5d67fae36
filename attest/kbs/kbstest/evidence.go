package kbstest

import (
	"encoding/binary"
	"errors"
	"fmt"

	"omega/attest/snp"
)

// evidence is SNP evidence in the serde form of virtee/sev d487809, which
// trustee 78962cd pins: SnpEvidence, AttestationReport, CertTableEntry.
type evidence struct {
	Report report `json:"attestation_report"`
	Chain  []struct {
		Type string `json:"cert_type"`
		Data octets `json:"data"`
	} `json:"cert_chain"`
}

type octets []uint8raw

// uint8raw keeps encoding/json from reading a byte string as base64.
type uint8raw uint16

func (o octets) bytes() ([]byte, error) {
	out := make([]byte, len(o))
	for i, v := range o {
		if v > 255 {
			return nil, errors.New("not a byte")
		}
		out[i] = byte(v)
	}
	return out, nil
}

type report struct {
	Version          uint32  `json:"version"`
	GuestSVN         uint32  `json:"guest_svn"`
	Policy           uint64  `json:"policy"`
	FamilyID         octets  `json:"family_id"`
	ImageID          octets  `json:"image_id"`
	VMPL             uint32  `json:"vmpl"`
	SigAlgo          uint32  `json:"sig_algo"`
	CurrentTCB       tcb     `json:"current_tcb"`
	PlatInfo         uint64  `json:"plat_info"`
	KeyInfo          uint32  `json:"key_info"`
	ReportData       octets  `json:"report_data"`
	Measurement      octets  `json:"measurement"`
	HostData         octets  `json:"host_data"`
	IDKeyDigest      octets  `json:"id_key_digest"`
	AuthorKeyDigest  octets  `json:"author_key_digest"`
	ReportID         octets  `json:"report_id"`
	ReportIDMA       octets  `json:"report_id_ma"`
	ReportedTCB      tcb     `json:"reported_tcb"`
	Family           *uint8  `json:"cpuid_fam_id"`
	Model            *uint8  `json:"cpuid_mod_id"`
	Stepping         *uint8  `json:"cpuid_step"`
	ChipID           octets  `json:"chip_id"`
	CommittedTCB     tcb     `json:"committed_tcb"`
	Current          version `json:"current"`
	Committed        version `json:"committed"`
	LaunchTCB        tcb     `json:"launch_tcb"`
	LaunchMitVector  *uint64 `json:"launch_mit_vector"`
	CurrentMitVector *uint64 `json:"current_mit_vector"`
	Signature        struct {
		R octets `json:"r"`
		S octets `json:"s"`
	} `json:"signature"`
}

type tcb struct {
	FMC        *uint8 `json:"fmc"`
	Bootloader uint8  `json:"bootloader"`
	TEE        uint8  `json:"tee"`
	SNP        uint8  `json:"snp"`
	Microcode  uint8  `json:"microcode"`
}

// bytes lays the parts out as the SNP ABI does (table 3, TCB_VERSION): Turin's
// begins with the FMC.
func (t tcb) bytes() []byte {
	if t.FMC != nil {
		return []byte{*t.FMC, t.Bootloader, t.TEE, t.SNP, 0, 0, 0, t.Microcode}
	}
	return []byte{t.Bootloader, t.TEE, 0, 0, 0, 0, t.SNP, t.Microcode}
}

type version struct {
	Major uint8 `json:"major"`
	Minor uint8 `json:"minor"`
	Build uint8 `json:"build"`
}

func (v version) bytes() []byte { return []byte{v.Build, v.Minor, v.Major} }

// bytes writes the report as the firmware laid it out (SNP ABI, table
// ATTESTATION_REPORT), which is what its signature is over.
func (r *report) bytes() ([]byte, error) {
	out := make([]byte, snp.ReportSize)
	le := binary.LittleEndian
	le.PutUint32(out[0x00:], r.Version)
	le.PutUint32(out[0x04:], r.GuestSVN)
	le.PutUint64(out[0x08:], r.Policy)
	le.PutUint32(out[0x30:], r.VMPL)
	le.PutUint32(out[0x34:], r.SigAlgo)
	le.PutUint64(out[0x40:], r.PlatInfo)
	le.PutUint32(out[0x48:], r.KeyInfo)
	copy(out[0x38:], r.CurrentTCB.bytes())
	copy(out[0x180:], r.ReportedTCB.bytes())
	copy(out[0x1e0:], r.CommittedTCB.bytes())
	copy(out[0x1f0:], r.LaunchTCB.bytes())
	copy(out[0x1e8:], r.Current.bytes())
	copy(out[0x1ec:], r.Committed.bytes())
	for i, v := range []*uint8{r.Family, r.Model, r.Stepping} {
		if v == nil {
			return nil, errors.New("a report that does not name its CPU")
		}
		out[0x188+i] = *v
	}
	if (r.LaunchMitVector == nil) != (r.Version < 5) || (r.CurrentMitVector == nil) != (r.Version < 5) {
		return nil, errors.New("mitigation vectors do not fit the version")
	}
	if r.Version >= 5 {
		le.PutUint64(out[0x1f8:], *r.LaunchMitVector)
		le.PutUint64(out[0x200:], *r.CurrentMitVector)
	}
	for _, f := range []struct {
		at, size int
		from     octets
	}{
		{0x10, 16, r.FamilyID}, {0x20, 16, r.ImageID}, {0x50, 64, r.ReportData}, {0x90, 48, r.Measurement}, {0xc0, 32, r.HostData},
		{0xe0, 48, r.IDKeyDigest}, {0x110, 48, r.AuthorKeyDigest}, {0x140, 32, r.ReportID}, {0x160, 32, r.ReportIDMA},
		{0x1a0, 64, r.ChipID}, {0x2a0, 72, r.Signature.R}, {0x2e8, 72, r.Signature.S},
	} {
		b, err := f.from.bytes()
		if err != nil || len(b) != f.size {
			return nil, fmt.Errorf("field at %#x: %d bytes, want %d: %w", f.at, len(f.from), f.size, err)
		}
		copy(out[f.at:], b)
	}
	return out, nil
}

func (e *evidence) chain() (snp.Chain, error) {
	var c snp.Chain
	for _, entry := range e.Chain {
		der, err := entry.Data.bytes()
		if err != nil {
			return c, err
		}
		cert, err := snp.ParseCertificate(der)
		if err != nil {
			return c, err
		}
		switch entry.Type {
		case "VCEK", "VLEK":
			c.Leaf = cert
		case "ASK":
			c.Intermediate = cert
		case "ARK":
			c.ARK = cert
		default:
			return c, fmt.Errorf("certificate type %q", entry.Type)
		}
	}
	return c, nil
}

// ReportBytes reads the report in the evidence of an attestation message.
func ReportBytes(primary []byte, decode func([]byte, any) error) ([]byte, error) {
	var e evidence
	if err := decode(primary, &e); err != nil {
		return nil, err
	}
	return e.Report.bytes()
}
