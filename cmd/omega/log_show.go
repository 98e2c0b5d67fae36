package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"unicode"

	"omega/policy/provenance"
)

// logLine is one entry as `omega log show --json` prints it.
type logLine struct {
	Index uint64            `json:"index"`
	Epoch uint64            `json:"epoch"`
	Size  int               `json:"size"`
	Entry *provenance.Entry `json:"entry"` // null: sealed for others
}

// runLogShow is `omega log show`: the log as a time line, once it is verified.
func runLogShow(ctx context.Context, e *env, args []string) error {
	f := newLogFlags(e)
	agent := f.set.String("agent", "", "only this agent instance")
	kind := f.set.String("kind", "", "only entries of this kind")
	denied := f.set.Bool("denied", false, "only what was denied or refused")
	o, err := f.options(ctx, e, args)
	if err != nil {
		return err
	}
	lines := []logLine{}
	o.Each = func(item provenance.Item) error {
		if item.Header || !wanted(item.Entry, *agent, *kind, *denied) {
			return nil
		}
		lines = append(lines, logLine{item.Index, item.Epoch, item.Size, item.Entry})
		return nil
	}
	sum, err := verifyLog(ctx, e, o)
	if err != nil {
		return err
	}
	if *f.json {
		enc := json.NewEncoder(e.Stdout)
		for _, l := range lines {
			if err := enc.Encode(l); err != nil {
				return err
			}
		}
	} else {
		printLines(e.Stdout, lines)
		printWords(e, sum, o)
	}
	return judge(sum, o.Auditor != nil)
}

// wanted applies show's filters. A sealed entry passes only where there are none.
func wanted(entry *provenance.Entry, agent, kind string, denied bool) bool {
	if entry == nil {
		return agent == "" && kind == "" && !denied
	}
	refused := entry.Decision == provenance.Deny || entry.Kind == provenance.KindRefusal
	return (agent == "" || entry.Agent == agent) && (kind == "" || entry.Kind == kind) && (!denied || refused)
}

// printLines writes the time line as a table.
func printLines(out io.Writer, lines []logLine) {
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "INDEX\tTIME\tKIND\tAGENT\tACTION\tRESOURCE\tDECISION\tRULE\tWHAT")
	for _, l := range lines {
		if l.Entry == nil {
			fmt.Fprintf(t, "%d\t-\tsealed\t\t\t\t\t\t%d bytes for the auditors of epoch %d\n", l.Index, l.Size, l.Epoch)
			continue
		}
		x := l.Entry
		fmt.Fprintf(t, "%d\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", l.Index, x.Time.Format("15:04:05.000"), x.Kind,
			plain(x.Agent), plain(x.Action), plain(x.Resource), plain(x.Decision), plain(x.Rule), plain(what(x)))
	}
	_ = t.Flush()
}

// what says in one cell what else an entry holds.
func what(x *provenance.Entry) string {
	var parts []string
	if x.Intent != nil {
		parts = append(parts, fmt.Sprintf("of intent %d", *x.Intent))
	}
	if args := arguments(x); args != "" {
		parts = append(parts, args)
	}
	parts = append(parts, x.Reasons...)
	if len(x.Result) > 0 {
		parts = append(parts, string(x.Result))
	}
	return strings.Join(parts, "; ")
}

// arguments are what the policy decided on, as the agent gave them.
func arguments(x *provenance.Entry) string {
	var input struct {
		Args json.RawMessage `json:"args"`
	}
	// An entry without them, or of another form, has none to show.
	if x.Kind != provenance.KindIntent || json.Unmarshal(x.Input, &input) != nil || string(input.Args) == "{}" {
		return ""
	}
	return string(input.Args)
}

// plain makes text from an agent safe for a terminal and short enough for a line.
func plain(s string) string {
	const limit = 200
	var b strings.Builder
	for _, r := range s {
		if b.Len() >= limit {
			return b.String() + "…"
		}
		if !unicode.IsPrint(r) {
			r = '\ufffd'
		}
		b.WriteRune(r)
	}
	return b.String()
}

// logResult is `omega log verify --json`.
func logResult(sum *provenance.Summary) any {
	anomalies := sum.Anomalies
	if anomalies == nil {
		anomalies = []provenance.Anomaly{}
	}
	return struct {
		Origin     string               `json:"origin"`
		Size       uint64               `json:"size"`
		Root       string               `json:"root"`
		Entries    int                  `json:"entries"`
		Readable   int                  `json:"readable"`
		Epochs     int                  `json:"epochs"`
		Auditors   int                  `json:"auditors"`
		Violations int                  `json:"violations"`
		Anomalies  []provenance.Anomaly `json:"anomalies"`
	}{
		sum.Checkpoint.Origin, sum.Checkpoint.Size, sum.Checkpoint.Root.String(), sum.Entries, sum.Readable,
		sum.Epochs, sum.Recipients, sum.Violations(), anomalies,
	}
}

// printSummary says on stdout what verify proved.
func printSummary(e *env, sum *provenance.Summary, o logOptions) {
	c := sum.Checkpoint
	fmt.Fprintf(e.Stdout, "log %s: %d leaves, root %s\n", c.Origin, c.Size, c.Root)
	fmt.Fprintln(e.Stdout, "proven: the checkpoint is signed by the log key; every tile and every leaf is what was signed for; no leaf is missing or out of order")
	for _, seen := range o.Previous {
		fmt.Fprintf(e.Stdout, "proven: it continues the checkpoint of %d leaves that was seen before\n", seen.Size)
	}
	if o.Auditor != nil && sum.Readable > 0 {
		fmt.Fprintf(e.Stdout, "proven: %d of %d entries open with the auditor's key and match their commitments\n", sum.Readable, sum.Entries)
	}
	printWords(e, sum, o)
}

// printWords says on stderr what was not proven, and what looks odd.
func printWords(e *env, sum *provenance.Summary, o logOptions) {
	switch {
	case sum.Recipients == 0:
		e.sayf("not proven: what the entries say; the policy names no auditor, so nobody can read them")
	case o.Auditor == nil:
		e.sayf("not proven: what the entries say; they are sealed for %d auditor(s), --key opens them", sum.Recipients)
	}
	if len(o.Previous) == 0 && o.MinSize == 0 {
		e.sayf("not proven: that this is the newest state; compare with fresh evidence, or pass --previous or --min-size")
	}
	for _, a := range sum.Anomalies {
		word := "note"
		if a.Violation {
			word = "VIOLATION"
		}
		e.sayf("%s: entry %d: %s", word, a.Index, plain(a.Words))
	}
}
