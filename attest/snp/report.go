// Package snp reads AMD SEV-SNP attestation reports: bytes to fields and back,
// the report's signature, and the chain from AMD's root keys to the key that
// signed it. It fetches nothing, and it does not say whether a machine is the
// right one: attest/verifier does.
//
// Offsets and bits are those of the SNP firmware ABI (AMD publication 56860),
// table "ATTESTATION_REPORT Structure".
package snp

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Sizes of a report.
const (
	ReportSize = 0x4a0
	// SignedSize is how much of it the signature covers.
	SignedSize = 0x2a0
	// coordinate is the room of R and of S, little-endian; P-384 needs 48.
	coordinate = 72
)

// algorithmP384 is ECDSA P-384 with SHA-384 (table "Encoding for Signing Algorithm").
const algorithmP384 = 1

// SigningKey is SIGNING_KEY: which kind of key signed the report.
type SigningKey uint32

// Kinds of signing keys.
const (
	VCEK SigningKey = 0
	VLEK SigningKey = 1
)

// String is AMD's name of the key.
func (k SigningKey) String() string {
	switch k {
	case VCEK:
		return "VCEK"
	case VLEK:
		return "VLEK"
	}
	return fmt.Sprintf("signing key %d", uint32(k))
}

// Report is a parsed report. Fields have AMD's names.
type Report struct {
	Version, GuestSVN uint32
	GuestPolicy       GuestPolicy // POLICY
	FamilyID, ImageID [16]byte
	VMPL              uint32
	CurrentTCB        TCB
	PlatformInfo      PlatformInfo
	AuthorKeyEn       bool
	MaskChipKey       bool
	SigningKey        SigningKey
	ReportData        [64]byte
	Measurement       [48]byte
	HostData          [32]byte
	IDKeyDigest       [48]byte
	AuthorKeyDigest   [48]byte
	ReportID          [32]byte
	ReportIDMA        [32]byte
	ReportedTCB       TCB
	// Family, Model and Stepping are CPUID_FAM_ID and its like, from version 3.
	Family, Model, Stepping      byte
	ChipID                       [64]byte
	CommittedTCB                 TCB
	CurrentBuild, CommittedBuild Firmware
	LaunchTCB                    TCB
	// LaunchMitVector and CurrentMitVector exist from version 5.
	LaunchMitVector, CurrentMitVector uint64
	// R and S are the signature, little-endian.
	R, S [coordinate]byte
}

// Firmware is a version of the SNP firmware.
type Firmware struct{ Build, Minor, Major byte }

// ParseReport reads one report. Reserved bytes must be zero: what they mean in
// a later version is not known here.
func ParseReport(b []byte) (*Report, error) {
	if len(b) != ReportSize {
		return nil, fmt.Errorf("report of %d bytes, want %d", len(b), ReportSize)
	}
	r := &Report{}
	if err := r.check(b); err != nil {
		return nil, err
	}
	le := binary.LittleEndian
	r.Version, r.GuestSVN, r.VMPL = le.Uint32(b[0x00:]), le.Uint32(b[0x04:]), le.Uint32(b[0x30:])
	r.GuestPolicy = GuestPolicy(le.Uint64(b[0x08:]))
	r.PlatformInfo = PlatformInfo(le.Uint64(b[0x40:]))
	flags := le.Uint32(b[0x48:])
	r.AuthorKeyEn, r.MaskChipKey, r.SigningKey = flags&1 != 0, flags&2 != 0, SigningKey(flags>>2&7)
	r.CurrentTCB, r.ReportedTCB = TCB(le.Uint64(b[0x38:])), TCB(le.Uint64(b[0x180:]))
	r.CommittedTCB, r.LaunchTCB = TCB(le.Uint64(b[0x1e0:])), TCB(le.Uint64(b[0x1f0:]))
	r.Family, r.Model, r.Stepping = b[0x188], b[0x189], b[0x18a]
	r.CurrentBuild = Firmware{b[0x1e8], b[0x1e9], b[0x1ea]}
	r.CommittedBuild = Firmware{b[0x1ec], b[0x1ed], b[0x1ee]}
	r.LaunchMitVector, r.CurrentMitVector = le.Uint64(b[0x1f8:]), le.Uint64(b[0x200:])
	for _, f := range r.blocks() {
		copy(f.field, b[f.at:])
	}
	return r, nil
}

// Marshal writes the report with its signature.
func (r *Report) Marshal() []byte {
	b := make([]byte, ReportSize)
	le := binary.LittleEndian
	le.PutUint32(b[0x00:], r.Version)
	le.PutUint32(b[0x04:], r.GuestSVN)
	le.PutUint64(b[0x08:], uint64(r.GuestPolicy))
	le.PutUint32(b[0x30:], r.VMPL)
	le.PutUint32(b[0x34:], algorithmP384)
	le.PutUint64(b[0x38:], uint64(r.CurrentTCB))
	le.PutUint64(b[0x40:], uint64(r.PlatformInfo))
	le.PutUint32(b[0x48:], bit(r.AuthorKeyEn)|bit(r.MaskChipKey)<<1|uint32(r.SigningKey)<<2)
	le.PutUint64(b[0x180:], uint64(r.ReportedTCB))
	copy(b[0x188:], []byte{r.Family, r.Model, r.Stepping})
	le.PutUint64(b[0x1e0:], uint64(r.CommittedTCB))
	copy(b[0x1e8:], []byte{r.CurrentBuild.Build, r.CurrentBuild.Minor, r.CurrentBuild.Major})
	copy(b[0x1ec:], []byte{r.CommittedBuild.Build, r.CommittedBuild.Minor, r.CommittedBuild.Major})
	le.PutUint64(b[0x1f0:], uint64(r.LaunchTCB))
	le.PutUint64(b[0x1f8:], r.LaunchMitVector)
	le.PutUint64(b[0x200:], r.CurrentMitVector)
	for _, f := range r.blocks() {
		copy(b[f.at:], f.field)
	}
	return b
}

// block is a field of plain bytes.
type block struct {
	at    int
	field []byte
}

func (r *Report) blocks() []block {
	return []block{
		{0x010, r.FamilyID[:]},
		{0x020, r.ImageID[:]},
		{0x050, r.ReportData[:]},
		{0x090, r.Measurement[:]},
		{0x0c0, r.HostData[:]},
		{0x0e0, r.IDKeyDigest[:]},
		{0x110, r.AuthorKeyDigest[:]},
		{0x140, r.ReportID[:]},
		{0x160, r.ReportIDMA[:]},
		{0x1a0, r.ChipID[:]},
		{0x2a0, r.R[:]},
		{0x2a0 + coordinate, r.S[:]},
	}
}

// check refuses versions, algorithms and reserved bits that are not known.
func (r *Report) check(b []byte) error {
	le := binary.LittleEndian
	version := le.Uint32(b)
	if version < 2 || version > 5 {
		return fmt.Errorf("report version %d is not known", version)
	}
	if a := le.Uint32(b[0x34:]); a != algorithmP384 {
		return fmt.Errorf("signature algorithm %d is not known", a)
	}
	if le.Uint64(b[0x08:])&policyReservedOne == 0 || le.Uint64(b[0x08:])>>26 != 0 {
		return fmt.Errorf("guest policy %#x: reserved bits", le.Uint64(b[0x08:]))
	}
	if le.Uint32(b[0x48:])>>5 != 0 {
		return errors.New("key flags: reserved bits")
	}
	reserved := [][2]int{{0x4c, 0x50}, {0x18b, 0x1a0}, {0x1eb, 0x1ec}, {0x1ef, 0x1f0}, {0x208, SignedSize}, {0x2a0 + 2*coordinate, ReportSize}}
	if version < 3 {
		reserved = append(reserved, [2]int{0x188, 0x18b})
	}
	if version < 5 {
		reserved = append(reserved, [2]int{0x1f8, 0x208})
	}
	for _, span := range reserved {
		for i := span[0]; i < span[1]; i++ {
			if b[i] != 0 {
				return fmt.Errorf("reserved byte %#x is %#x", i, b[i])
			}
		}
	}
	return nil
}

func bit(b bool) uint32 {
	if b {
		return 1
	}
	return 0
}
