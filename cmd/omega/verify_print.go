package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"omega/attest"
)

// print writes the outcome as JSON or as text for people.
func (v *verification) print(w io.Writer, asJSON bool) error {
	if asJSON {
		enc := json.NewEncoder(w)
		enc.SetIndent("", "  ")
		return enc.Encode(v)
	}
	fmt.Fprintf(w, "%s: %s\n", v.Source, strings.ToUpper(v.Verdict))
	if v.Verdict == attest.VerdictEmulated {
		fmt.Fprintln(w, "An emulated PSP signed this report. It proves the path of evidence, no hardware.")
	}
	printChecks(w, v.Checks)
	for i := range v.Evidence.Agents {
		printAgent(w, &v.Evidence.Agents[i])
	}
	return nil
}

// printAgent writes an agent with who vouches for each of its parts, as far as
// it is shown.
func printAgent(w io.Writer, a *attest.Agent) {
	switch {
	case !a.Hidden.IsZero():
		fmt.Fprintf(w, "\nagent #%d is not shown to you\n", a.Index)
		return
	case !a.Shown():
		fmt.Fprintf(w, "\nagent #%d, one component opened\n", a.Index)
	default:
		fmt.Fprintf(w, "\nagent %s (%s), %s, bundle sha256:%s\n", a.Instance, a.Name, a.State, a.Bundle)
	}
	for i := range a.Components {
		c := &a.Components[i]
		if !c.Shown() {
			fmt.Fprintf(w, "  %-16s %s\n", "not shown", c.Commitment())
			continue
		}
		fmt.Fprintf(w, "  %-16s %s  %s", c.Kind, c.Digest, c.Name)
		switch n := len(c.Signatures); {
		case c.Measured():
			fmt.Fprint(w, "  brought by the measured image")
		case n == 1:
			fmt.Fprintf(w, "  signed by %s as %s, key %.16s", c.Principal, c.Role, c.KeyIDs()[0])
		case n > 1:
			fmt.Fprintf(w, "  signed by %s as %s, %d keys", c.Principal, c.Role, n)
		}
		fmt.Fprintln(w)
	}
}

// printChecks writes what failed, what was proven and what was not.
func printChecks(w io.Writer, checks []attest.Check) {
	for _, group := range []struct{ status, title string }{
		{attest.Failed, "Failed"}, {attest.Proven, "Proven"}, {attest.NotProven, "Not proven"},
	} {
		title := group.title
		for _, c := range checks {
			if c.Status != group.status {
				continue
			}
			if title != "" {
				fmt.Fprintf(w, "\n%s\n", title)
				title = ""
			}
			fmt.Fprintf(w, "  %-16s %s\n", c.Name, c.Words)
			if c.Expected != "" {
				fmt.Fprintf(w, "  %-16s expected %s\n", "", c.Expected)
			}
			if c.Found != "" {
				fmt.Fprintf(w, "  %-16s found %s\n", "", c.Found)
			}
			if c.Next != "" {
				fmt.Fprintf(w, "  %-16s next: %s\n", "", c.Next)
			}
		}
	}
}
