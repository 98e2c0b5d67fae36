package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
)

const benchUsage = "[--json] [--profile cpu] [--runs N] [GROUP …]"

// A benchRow is one measured figure. A reference is something that was measured
// in the same run, or a budget of ours; published is what others say of theirs.
type benchRow struct {
	Name      string   `json:"name"`
	Ours      float64  `json:"ours"`
	Unit      string   `json:"unit"`
	Reference *float64 `json:"reference"` // null: there is none
	Ratio     *float64 `json:"ratio"`     // ours / reference: below 1 is better
	Published string   `json:"published"` // with its source; "" where nobody says

	against string // what the reference is, for the table
}

// against sets a row's reference and ratio.
func (r benchRow) versus(what string, reference float64) benchRow {
	r.against, r.Reference = what, &reference
	if reference != 0 {
		ratio := r.Ours / reference
		r.Ratio = &ratio
	}
	return r
}

// benchOptions say what to measure.
type benchOptions struct {
	Profile string
	Runs    int // of what takes seconds; the median counts
}

// A benchGroup measures one room.
type benchGroup struct {
	name  string
	about string
	run   func(ctx context.Context, e *env, o benchOptions) ([]benchRow, error)
}

func benchGroups() []benchGroup {
	return []benchGroup{
		{"image", "size of the payload", benchImage},
		{"boot", "time from power-on to ready", benchBoot},
		{"agents", "time to start an agent", benchAgents},
		{"decision", "one policy decision", benchDecision},
		{"gateway", "what mediation adds to a call", benchGateway},
		{"attest", "evidence and its appraisal", benchAttest},
		{"gpu", "appraising the evidence of a GPU", benchGPU},
		{"log", "one entry of the provenance log", benchLog},
	}
}

// runBench is `omega bench`: it measures, and prints what it measured.
func runBench(ctx context.Context, e *env, args []string) error {
	fs := e.flags("bench")
	var o benchOptions
	asJSON := fs.Bool("json", false, "one JSON array of {name, ours, unit, reference, ratio, published}")
	fs.StringVar(&o.Profile, "profile", "cpu", "image to measure; it is built if it is not there")
	fs.IntVar(&o.Runs, "runs", 3, "how often to repeat what takes seconds; the median counts")
	if err := fs.Parse(args); err != nil {
		return err
	}
	if o.Runs < 1 {
		return fmt.Errorf("bench: --runs %d", o.Runs)
	}
	groups, err := chooseGroups(fs.Args())
	if err != nil {
		return err
	}
	rows := []benchRow{}
	for _, g := range groups {
		got, err := g.run(ctx, e, o)
		if err != nil {
			return fmt.Errorf("bench %s: %w", g.name, err)
		}
		rows = append(rows, got...)
	}
	if *asJSON {
		return json.NewEncoder(e.Stdout).Encode(rows)
	}
	return printRows(e.Stdout, rows)
}

// chooseGroups finds the groups by name; none named means all.
func chooseGroups(names []string) ([]benchGroup, error) {
	all := benchGroups()
	if len(names) == 0 {
		return all, nil
	}
	var out []benchGroup
	for _, name := range names {
		i := slices.IndexFunc(all, func(g benchGroup) bool { return g.name == name })
		if i < 0 {
			var known []string
			for _, g := range all {
				known = append(known, g.name)
			}
			return nil, fmt.Errorf("bench: no group %q; there are %s", name, strings.Join(known, ", "))
		}
		out = append(out, all[i])
	}
	return out, nil
}

// printRows writes the figures as a table for people.
func printRows(out io.Writer, rows []benchRow) error {
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "NAME\tOURS\tREFERENCE\tRATIO\tPUBLISHED")
	for _, r := range rows {
		reference, ratio := "-", "-"
		if r.Reference != nil {
			reference = figure(*r.Reference, r.Unit) + " (" + r.against + ")"
		}
		if r.Ratio != nil {
			ratio = strconv.FormatFloat(*r.Ratio, 'f', 2, 64)
		}
		published := r.Published
		if published == "" {
			published = "-"
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", r.Name, figure(r.Ours, r.Unit), reference, ratio, published)
	}
	return t.Flush()
}

// figure writes a value with its unit, in the size that people read.
func figure(v float64, unit string) string {
	switch {
	case unit == "bytes":
		return fmt.Sprintf("%.2f MiB", v/(1<<20))
	case unit == "ns" && v >= 1e6:
		return fmt.Sprintf("%.2f ms", v/1e6)
	case unit == "ns" && v >= 1e3:
		return fmt.Sprintf("%.1f µs", v/1e3)
	case unit == "ms" && v >= 1e4:
		return fmt.Sprintf("%.1f s", v/1e3)
	}
	return strconv.FormatFloat(v, 'f', -1, 64) + " " + unit
}

// median is the middle value; of an even number the lower one.
func median(values []float64) float64 {
	if len(values) == 0 {
		return math.NaN()
	}
	sorted := slices.Sorted(slices.Values(values))
	return sorted[(len(sorted)-1)/2]
}
