package main

import (
	"errors"
	"flag"
	"fmt"
	"strings"

	"omega/attest"
	"omega/attest/verifier"
)

// maxExchange bounds the input and the output that a statement is held against.
const maxExchange = 16 << 20

// invocationOptions say which statement is verified, about what.
type invocationOptions struct {
	Invocation    string // the statement
	Input, Output string // what was asked, and what was answered
}

func (o *invocationOptions) flags(fs *flag.FlagSet) {
	fs.StringVar(&o.Invocation, "invocation", "", "verify this invocation statement against the platform's evidence")
	fs.StringVar(&o.Input, "input", "", "file with the input that the invocation statement must be about")
	fs.StringVar(&o.Output, "output", "", "file with the output that the invocation statement must be about")
}

// invocation verifies the statement that was named against the evidence, which
// is appraised already, and against the input and output that are at hand.
func (v *verification) invocation(o verifyOptions) error {
	if o.Invocation == "" {
		if o.Input != "" || o.Output != "" {
			return errors.New("--input and --output need --invocation, the statement about them")
		}
		return nil
	}
	b, err := readBounded(o.Invocation, attest.MaxInvocation)
	if err != nil {
		return err
	}
	s, err := attest.ParseInvocation(b)
	if err != nil {
		return exit(exitSignature, fmt.Errorf("%s: %w; next: %s", o.Invocation, err, nextStep("invocation")))
	}
	i := &s.Statement
	c := attest.Check{Name: "invocation", Words: fmt.Sprintf("agent %s gave this output for this input; entry %d of its log speaks of it%s", i.Instance, i.LogIndex, labelled(i.Labels))}
	v.Invocation = i
	if err := verifier.Invocation(s, v.Evidence); err != nil {
		v.Checks = append(v.Checks, verifier.FailedCheck("invocation", err))
		return err
	}
	v.Checks = append(v.Checks, attest.Compare(true, c))
	for _, half := range []struct {
		name, path string
		found      attest.Bytes32
		commit     func([]byte) attest.Bytes32
	}{
		{"input", o.Input, i.Input, func(b []byte) attest.Bytes32 { return attest.CommitInput(s.InputSalt, b) }},
		{"output", o.Output, i.Output, func(b []byte) attest.Bytes32 { return attest.CommitOutput(s.OutputSalt, b) }},
	} {
		if err := v.exchanged(half.name, half.path, half.found, half.commit); err != nil {
			return err
		}
	}
	return nil
}

// exchanged holds one half of an exchange against what the statement says of it.
func (v *verification) exchanged(name, path string, found attest.Bytes32, commit func([]byte) attest.Bytes32) error {
	c := attest.Check{Name: "invocation_" + name, Found: found.String()}
	if path == "" {
		c.Status, c.Words = attest.NotProven, "no "+name+" was given to hold the statement against: --"+name+" FILE"
		v.Checks = append(v.Checks, c)
		return nil
	}
	b, err := readBounded(path, maxExchange)
	if err != nil {
		return err
	}
	want := commit(b)
	c.Expected, c.Words = want.String(), "the statement is about this "+name
	if want != found {
		c.Words = "the statement is about another " + name + ", or brings another salt"
	}
	c = attest.Compare(want == found, c)
	v.Checks = append(v.Checks, c)
	if want != found {
		return fmt.Errorf("%w: %s: found %s, expected %s (%s)", attest.ErrMismatch, c.Name, c.Found, c.Expected, c.Words)
	}
	return nil
}

func labelled(labels []string) string {
	if len(labels) == 0 {
		return ""
	}
	return "; labels: " + strings.Join(labels, ", ")
}
