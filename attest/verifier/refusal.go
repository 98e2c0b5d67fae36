package verifier

import (
	"errors"
	"fmt"

	"omega/attest"
	"omega/attest/snp"
)

// A Refusal is one thing that is not as it has to be: what was expected, and
// what was found. Class is one of the package's errors.
type Refusal struct {
	Class                  error
	Words, Expected, Found string

	cause error // of another package, if there is one
}

// Error is the refusal in words.
func (r *Refusal) Error() string {
	return fmt.Sprintf("%s: %s: found %s, expected %s", r.Class, r.Words, r.Found, r.Expected)
}

// Unwrap is the class of the refusal, and its cause.
func (r *Refusal) Unwrap() []error {
	if r.cause == nil {
		return []error{r.Class}
	}
	return []error{r.Class, r.cause}
}

func refusal(class error, words string, found, expected any) error {
	return &Refusal{Class: class, Words: words, Found: orNone(fmt.Sprint(found)), Expected: fmt.Sprint(expected)}
}

// Malformed refuses what is not in the form that it has to have.
func Malformed(class error, what string, err error) error {
	return &Refusal{Class: class, Words: "the " + what + " cannot be read", Found: err.Error(), Expected: "well-formed bytes of it", cause: err}
}

// FailedCheck is the check named name that ended with err.
func FailedCheck(name string, err error) attest.Check {
	c := attest.Check{Name: name, Status: attest.Failed, Words: err.Error()}
	if errors.Is(err, ErrEmulated) {
		c.Expected, c.Found = "a report under AMD's root key", "one of an emulated PSP"
	}
	if r := new(snp.Refusal); errors.As(err, &r) {
		c.Words, c.Expected, c.Found = r.Words, r.Wanted(), orNone(r.Found)
	}
	if r := new(Refusal); errors.As(err, &r) {
		c.Words, c.Expected, c.Found = r.Words, r.Expected, r.Found
	}
	return c
}
