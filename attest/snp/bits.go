package snp

// GuestPolicy is POLICY, the rules that the guest was launched under (SNP ABI,
// table "Guest Policy").
type GuestPolicy uint64

// Bits of the guest policy.
const (
	PolicySMT         GuestPolicy = 1 << 16 // SMT may be on
	policyReservedOne             = 1 << 17 // always one
	PolicyMigrateMA   GuestPolicy = 1 << 18 // a migration agent may move the guest
	PolicyDebug       GuestPolicy = 1 << 19 // the host may decrypt its memory
	PolicySingle      GuestPolicy = 1 << 20
	PolicyCXL         GuestPolicy = 1 << 21
	PolicyAES256XTS   GuestPolicy = 1 << 22
	PolicyRAPLDis     GuestPolicy = 1 << 23
	PolicyCiphertext  GuestPolicy = 1 << 24
	PolicyPageSwapDis GuestPolicy = 1 << 25
)

// PolicyStrict is the guest policy that Omega launches with: SMT may be on, no
// debugging, no migration.
const PolicyStrict = PolicySMT | policyReservedOne

// EmulatedFamilyID is FAMILY_ID of every report of an emulated PSP.
var EmulatedFamilyID = [16]byte{'o', 'm', 'e', 'g', 'a', '-', 'e', 'm', 'u', 'l', 'a', 't', 'e', 'd'}

// PlatformInfo is PLATFORM_INFO, the state of the machine (SNP ABI, table
// "PLATFORM_INFO Field").
type PlatformInfo uint64

// Bits of the platform info that an appraisal acts on.
const (
	PlatformSMT        PlatformInfo = 1 << 0
	PlatformTSME       PlatformInfo = 1 << 1
	PlatformECC        PlatformInfo = 1 << 2
	PlatformRAPLDis    PlatformInfo = 1 << 3
	PlatformCiphertext PlatformInfo = 1 << 4
	PlatformAliasCheck PlatformInfo = 1 << 5
	PlatformTIO        PlatformInfo = 1 << 7
)

// policyNames and platformNames are the names of bits in an appraisal policy.
var policyNames = map[string]GuestPolicy{
	"smt": PolicySMT, "single-socket": PolicySingle, "cxl": PolicyCXL, "aes-256-xts": PolicyAES256XTS,
	"rapl-disabled": PolicyRAPLDis, "ciphertext-hiding": PolicyCiphertext, "page-swap-disabled": PolicyPageSwapDis,
}

var platformNames = map[string]PlatformInfo{
	"smt": PlatformSMT, "tsme": PlatformTSME, "ecc": PlatformECC, "rapl-disabled": PlatformRAPLDis,
	"ciphertext-hiding": PlatformCiphertext, "alias-check": PlatformAliasCheck, "tio": PlatformTIO,
}

// platformWords says what each bit means to a relying party.
var platformWords = []struct {
	bit     PlatformInfo
	on, off string
}{
	{PlatformSMT, "SMT is on, so hyperthreads may leak through shared caches", "SMT is off"},
	{PlatformTSME, "TSME is on", "TSME is off; the guest's own memory is encrypted either way"},
	{PlatformECC, "memory has ECC", "memory has no ECC, so bit flips pass unseen"},
	{PlatformRAPLDis, "power meters are off", "power meters are on, a known side channel"},
	{PlatformCiphertext, "the host cannot read ciphertext", "the host can read ciphertext, a known side channel"},
	{PlatformAliasCheck, "memory was checked for aliases", "memory was not checked for aliases (BadRAM, AMD-SB-3015)"},
	{PlatformTIO, "trusted I/O is on", "trusted I/O is off"},
}

// Words says what the platform info means, one sentence a bit.
func (p PlatformInfo) Words() []string {
	var out []string
	for _, w := range platformWords {
		if p&w.bit != 0 {
			out = append(out, w.on)
		} else {
			out = append(out, w.off)
		}
	}
	return out
}
