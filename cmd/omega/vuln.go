package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

const vulnUsage = "[--db URL] [--vex F] [--json]"

// govulncheck is the scanner; go.sum of its own module pins what it is made of.
const govulncheck = "golang.org/x/vuln/cmd/govulncheck@v1.9.0"

// vulnModules are the modules that are looked at: folder, which packages of it,
// and name.
var vulnModules = []struct{ dir, packages, product string }{
	{".", "./...", "pkg:golang/omega"},
	{"images/runsc", "./...", "pkg:golang/omega/images/runsc"},
	{"images/debug", "tool", "pkg:golang/omega/images/debug"}, // it has no packages of its own
	{"examples", "./...", "pkg:golang/omega/examples"},
	{"gpu/nvml", "./...", "pkg:golang/omega/gpu/nvml"},
}

// A scanner returns what govulncheck says of the packages of the module in dir,
// in JSON.
type scanner func(ctx context.Context, dir, packages, db string) ([]byte, error)

// errNoDatabase reports that the vulnerability database cannot be reached.
var errNoDatabase = errors.New("the vulnerability database cannot be reached, so nothing was checked")

// runVuln is `omega vuln`: known vulnerabilities in what we call.
func runVuln(ctx context.Context, e *env, args []string) error {
	fs := e.flags("vuln")
	db := fs.String("db", "", "another vulnerability database, such as file:///a/copy")
	vex := fs.String("vex", "", "the exceptions (default: openvex.json in the source tree)")
	asJSON := fs.Bool("json", false, "print JSON")
	if err := fs.Parse(args); err != nil {
		return err
	}
	if fs.NArg() > 0 {
		return fmt.Errorf("vuln: want %s", vulnUsage)
	}
	source, err := sourceRoot()
	if err != nil {
		return err
	}
	if *vex == "" {
		*vex = filepath.Join(source, "openvex.json")
	}
	raw, err := readBounded(*vex, maxVEX)
	if err != nil {
		return err
	}
	exceptions, err := parseVEX(raw)
	if err != nil {
		return fmt.Errorf("%s: %w", *vex, err)
	}
	return e.vuln(ctx, source, *db, exceptions, *asJSON, scan)
}

// A vulnerability is one known hole in what one of our modules calls.
type vulnerability struct {
	ID      string   `json:"id"`
	Aliases []string `json:"aliases,omitempty"`
	Product string   `json:"product"`
	Module  string   `json:"module"`
	Version string   `json:"version"`
	Fixed   string   `json:"fixed,omitempty"`
	Summary string   `json:"summary"`
	Calls   []string `json:"calls"`
	// Exception is why it does not count; "" is that it does.
	Exception string `json:"exception,omitempty"`
}

// vulnResult is what --json prints.
type vulnResult struct {
	Found  []vulnerability `json:"found"`
	Unused []string        `json:"unused_exceptions"`
}

// vuln scans every module and holds what is found against the exceptions.
func (e *env) vuln(ctx context.Context, source, db string, exceptions *vexDocument, asJSON bool, scan scanner) error {
	out := vulnResult{Found: []vulnerability{}, Unused: []string{}}
	for _, m := range vulnModules {
		step := e.progress("scanning " + m.product)
		raw, err := scan(ctx, filepath.Join(source, m.dir), m.packages, db)
		step.Done()
		if err != nil {
			return fmt.Errorf("%s: %w", m.dir, err)
		}
		found, err := parseFindings(raw, m.product)
		if err != nil {
			return fmt.Errorf("%s: %w", m.dir, err)
		}
		out.Found = append(out.Found, found...)
	}
	open := exceptions.apply(out.Found)
	out.Unused = append(out.Unused, exceptions.unused()...)
	for _, u := range out.Unused {
		e.sayf("exception without a use: %s; remove it", u)
	}
	if asJSON {
		if err := json.NewEncoder(e.Stdout).Encode(out); err != nil {
			return err
		}
	} else {
		showVulnerabilities(e.Stdout, out.Found)
	}
	if open > 0 {
		return exit(exitMismatch, fmt.Errorf("%d vulnerabilities without an exception", open))
	}
	return nil
}

func showVulnerabilities(w io.Writer, list []vulnerability) {
	if len(list) == 0 {
		fmt.Fprintln(w, "no known vulnerability in what is called")
	}
	for _, v := range list {
		fixed := "no version fixes it"
		if v.Fixed != "" {
			fixed = "fixed in " + v.Fixed
		}
		fmt.Fprintf(w, "%s in %s: %s %s (%s): %s\n", v.ID, v.Product, v.Module, v.Version, fixed, v.Summary)
		for _, c := range v.Calls {
			fmt.Fprintf(w, "  calls %s\n", c)
		}
		if v.Exception != "" {
			fmt.Fprintf(w, "  does not count: %s\n", v.Exception)
		}
	}
}

// scan runs govulncheck.
func scan(ctx context.Context, dir, packages, db string) ([]byte, error) {
	if _, err := os.Stat(dir); err != nil {
		return nil, err
	}
	args := []string{"run", govulncheck, "-format", "json"}
	if db != "" {
		args = append(args, "-db", db)
	}
	cmd := exec.CommandContext(ctx, "go", append(args, packages)...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-buildvcs=false")
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.Output()
	switch {
	case err == nil:
		return out, nil
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case strings.Contains(said.String(), "fetching vulnerabilities"):
		return nil, exit(exitCollateral, fmt.Errorf("%w: %s", errNoDatabase, lastLine(said.String())))
	}
	return nil, fmt.Errorf("govulncheck: %w\n%s", err, said.Bytes())
}

// lastLine is the last line of what a program said, but for go's own remark on
// its exit status.
func lastLine(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	lines = slices.DeleteFunc(lines, func(l string) bool { return strings.HasPrefix(l, "exit status") })
	if len(lines) == 0 {
		return ""
	}
	return lines[len(lines)-1]
}

// A scanMessage is one message of govulncheck's JSON (protocol v1.0.0).
type scanMessage struct {
	Config *struct {
		Protocol string `json:"protocol_version"`
		Level    string `json:"scan_level"`
	} `json:"config"`
	OSV *struct {
		ID, Summary string
		Aliases     []string
	} `json:"osv"`
	Finding *struct {
		OSV   string `json:"osv"`
		Fixed string `json:"fixed_version"`
		Trace []struct{ Module, Version, Package, Function, Receiver string }
	} `json:"finding"`
}

// parseFindings reads which vulnerable functions are called. A scan that does
// not say what it was is no scan.
func parseFindings(raw []byte, product string) ([]vulnerability, error) {
	known := map[string]*vulnerability{}
	var order []string
	begun := false
	for d := json.NewDecoder(bytes.NewReader(raw)); ; {
		var m scanMessage
		if err := d.Decode(&m); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, fmt.Errorf("govulncheck's output: %w", err)
		}
		switch {
		case m.Config != nil:
			if begun = m.Config.Protocol == "v1.0.0" && m.Config.Level == "symbol"; !begun {
				return nil, fmt.Errorf("govulncheck's output: protocol %q, level %q", m.Config.Protocol, m.Config.Level)
			}
		case m.OSV != nil:
			known[m.OSV.ID] = &vulnerability{ID: m.OSV.ID, Aliases: m.OSV.Aliases, Summary: m.OSV.Summary, Product: product}
			order = append(order, m.OSV.ID)
		case m.Finding != nil:
			f := m.Finding
			v := known[f.OSV]
			if v == nil || len(f.Trace) == 0 {
				return nil, fmt.Errorf("govulncheck's output: a finding of %q without its description", f.OSV)
			}
			at := f.Trace[0]
			v.Module, v.Version, v.Fixed = at.Module, at.Version, f.Fixed
			if at.Function != "" { // else the function is not called
				v.Calls = append(v.Calls, strings.TrimLeft(at.Package+"."+strings.TrimPrefix(at.Receiver+"."+at.Function, "."), "."))
			}
		}
	}
	if !begun {
		return nil, errors.New("govulncheck's output: nothing was scanned")
	}
	var out []vulnerability
	for _, id := range order {
		if v := known[id]; len(v.Calls) > 0 {
			slices.Sort(v.Calls)
			v.Calls = slices.Compact(v.Calls)
			out = append(out, *v)
		}
	}
	return out, nil
}
