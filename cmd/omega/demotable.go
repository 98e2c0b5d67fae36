package main

import (
	"encoding/json"
	"fmt"
	"io"
	"text/tabwriter"
)

// A demoReport is what the demo found out, as data.
type demoReport struct {
	OK    bool         `json:"ok"`
	Steps []stepReport `json:"steps"`
	// Sizes are in bytes, by the name of the artifact.
	Sizes        map[string]int64 `json:"sizes"`
	LaunchDigest string           `json:"launch_digest"`
	Boot         bootReport       `json:"boot"`
	Verdict      string           `json:"verdict"`
	LogEntries   uint64           `json:"log_entries"`
}

// A stepReport is one step of the story.
type stepReport struct {
	Name    string  `json:"name"`
	Seconds float64 `json:"seconds"`
	OK      bool    `json:"ok"`
}

// A bootReport tells when the machine reached a point: by the guest's own
// clock, which starts with its kernel, and seen from outside since QEMU was
// started, firmware included.
type bootReport struct {
	PID1    bootTime `json:"pid1"`
	Serving bootTime `json:"serving"`
	Ready   bootTime `json:"ready"`
}

// A bootTime is in milliseconds.
type bootTime struct {
	Guest int64 `json:"guest_ms"`
	Wall  int64 `json:"wall_ms"`
}

func (r *demoReport) json(w io.Writer) error {
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	return encoder.Encode(r)
}

// table prints the report for people.
func (r *demoReport) table(out io.Writer) {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	defer w.Flush()
	row := func(name, value, more string) { fmt.Fprintf(w, "%s\t%10s\t%s\n", name, value, more) }
	fmt.Fprintln(out)
	for i, step := range r.Steps {
		outcome := "ok"
		if !step.OK {
			outcome = "FAILED"
		}
		row(fmt.Sprintf("%d. %s", i+1, step.Name), fmt.Sprintf("%.1f s", step.Seconds), outcome)
	}
	for _, name := range []string{"kernel", "initrd"} {
		if size, ok := r.Sizes[name]; ok {
			row("size of "+name, fmt.Sprintf("%.2f MiB", float64(size)/(1<<20)), "")
		}
	}
	if len(r.Sizes) > 0 {
		row("payload (kernel and initramfs)", fmt.Sprintf("%.2f MiB", float64(r.Sizes["kernel"]+r.Sizes["initrd"])/(1<<20)), "")
	}
	for _, t := range []struct {
		name string
		bootTime
	}{{"boot to PID 1", r.Boot.PID1}, {"boot to serving", r.Boot.Serving}, {"boot to ready", r.Boot.Ready}} {
		if t.Wall > 0 {
			row(t.name, fmt.Sprintf("%.2f s", float64(t.Wall)/1000), fmt.Sprintf("%.2f s by the guest", float64(t.Guest)/1000))
		}
	}
	if r.Verdict != "" {
		row("verdict on the evidence", r.Verdict, "")
	}
	if r.LogEntries > 0 {
		row("log entries proven", fmt.Sprint(r.LogEntries), "")
	}
}
