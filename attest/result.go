package attest

// Verdicts of an appraisal. The zero value is none of them.
const (
	// VerdictVerified stands for a report signed by AMD's hardware.
	VerdictVerified = "verified"
	// VerdictEmulated stands for a report signed by an emulated PSP that the
	// caller chose to allow. It proves the chain of checks, no hardware.
	VerdictEmulated = "emulated"
	VerdictRefused  = "refused"
)

// Outcomes of one check.
const (
	Proven    = "proven"
	NotProven = "not_proven"
	Failed    = "failed"
)

// Result is the attestation result: the outcome in one word and every check
// in words.
type Result struct {
	Verdict string  `json:"verdict"`
	Checks  []Check `json:"checks"`
}

// Check is one thing that was, or was not, proven.
type Check struct {
	Name     string `json:"name"`
	Status   string `json:"status"`
	Expected string `json:"expected,omitempty"`
	Found    string `json:"found,omitempty"`
	Words    string `json:"words"`
	// Next is what to do about a check that failed; who shows it says so.
	Next string `json:"next,omitempty"`
}

// Compare is a check that is proven where ok, else failed. Words say what is
// proven; what was expected is told only where something else was found.
func Compare(ok bool, c Check) Check {
	c.Status = Failed
	if ok {
		c.Status, c.Expected = Proven, ""
	}
	return c
}
