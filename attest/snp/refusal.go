package snp

import (
	"fmt"

	"omega/attest"
)

// Parts of what is verified, for a Refusal.
const (
	PartReport      = "report"      // the bytes of the report are none
	PartChain       = "chain"       // a certificate does not lead to the root
	PartExpiry      = "expiry"      // a certificate is not valid at the time
	PartRevocation  = "revocation"  // AMD's list, or what it names
	PartCertificate = "certificate" // of another machine, or another TCB
	PartSignature   = "signature"   // of the report
)

// A Refusal is why Verify refuses: which part, what was expected and what was
// found. It is an attest.ErrSignature.
type Refusal struct {
	Part, Words     string
	Expected, Found string // may be empty
}

// Error is the refusal in words.
func (r *Refusal) Error() string {
	s := fmt.Sprintf("%s: %s", attest.ErrSignature, r.Words)
	if r.Expected != "" {
		s += fmt.Sprintf(": found %s, expected %s", r.Found, r.Expected)
	}
	return s
}

// wanted is what each part has to be.
var wanted = map[string]string{
	PartReport:      "an attestation report as AMD specifies it",
	PartChain:       "certificates that lead to the product's root key",
	PartExpiry:      "certificates that are valid at this time",
	PartRevocation:  "a list of AMD's that is current and names none of the chain",
	PartCertificate: "the certificate of this chip, for the TCB that the report names",
	PartSignature:   "a signature by the key of the certificate",
}

// Wanted is what was expected, never empty.
func (r *Refusal) Wanted() string {
	if r.Expected != "" {
		return r.Expected
	}
	return wanted[r.Part]
}

// Unwrap is the class of the refusal.
func (r *Refusal) Unwrap() error { return attest.ErrSignature }

func refuse(part, words string, args ...any) error {
	return &Refusal{Part: part, Words: fmt.Sprintf(words, args...)}
}

// but says what was expected in place of what was found.
func but(part, words string, found, expected any) error {
	return &Refusal{Part: part, Words: words, Found: fmt.Sprint(found), Expected: fmt.Sprint(expected)}
}

// refusal is err as a Refusal of a part, if it is none yet.
func refusal(part string, err error) error {
	if err == nil {
		return nil
	}
	return refuse(part, "%s", err.Error())
}
