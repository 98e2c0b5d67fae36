package evidence

import "time"

// Outcomes of one check.
const (
	Proven    = "proven"
	NotProven = "not_proven"
	Failed    = "failed"
)

// Verdicts of an appraisal.
const (
	VerdictVerified = "verified"
	VerdictRefused  = "refused"
)

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

// compare is a check that is proven where ok, else failed.
func compare(ok bool, c Check) Check {
	c.Status = Failed
	if ok {
		c.Status, c.Expected = Proven, ""
	}
	return c
}

// Result is what an appraisal found, whatever its verdict.
type Result struct {
	Verdict      string    `json:"verdict"`
	Device       string    `json:"device"` // common name of the device's certificate
	Serial       string    `json:"serial"` // of that certificate, in hex: the GPU's identity
	KeyDigest    string    `json:"device_key_sha256"`
	Driver       string    `json:"driver"`
	VBIOS        string    `json:"vbios"`
	Mode         string    `json:"mode,omitempty"`
	Matched      int       `json:"matched"`      // measurements equal to an active reference value
	Excepted     []int     `json:"excepted"`     // RIM indexes that differ by a told exception
	Unreferenced []int     `json:"unreferenced"` // RIM indexes without an active reference value
	RIMs         []UsedRIM `json:"rims"`
	Expires      time.Time `json:"expires"` // when the first certificate ends
	Checks       []Check   `json:"checks"`
}

// UsedRIM is a RIM that an appraisal went by.
type UsedRIM struct {
	Kind    string `json:"kind"`
	Version string `json:"version"`
	SHA256  string `json:"sha256"`
}
