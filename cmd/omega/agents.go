package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"golang.org/x/term"

	"omega/agentloader/bundle"
)

// agentsUsage is the one line of `omega agents`' arguments.
const agentsUsage = "URL [--once] [--json] [--output INSTANCE [--follow]] and the flags of verify"

// agentsEvery is how often the live table is drawn.
const agentsEvery = time.Second

// platformAgent is one agent as the platform lists it.
type platformAgent struct {
	Instance string    `json:"instance"`
	Name     string    `json:"name"`
	Bundle   string    `json:"bundle"`
	State    string    `json:"state"`
	Restarts int       `json:"restarts"`
	Health   string    `json:"health,omitempty"`
	ExitCode *int      `json:"exit_code,omitempty"`
	Since    time.Time `json:"since"`
}

// runAgents is `omega agents`: the agents of a platform that the caller may see.
func runAgents(ctx context.Context, e *env, args []string) error {
	var o verifyOptions
	fs := e.flags("agents")
	o.flags(fs)
	asJSON := fs.Bool("json", false, "print JSON, once")
	once := fs.Bool("once", false, "print the table once, also on a terminal")
	output := fs.String("output", "", "print what this `instance` wrote last, if the platform's policy lets you read it")
	follow := fs.Bool("follow", false, "with --output: go on with what it writes from now on")
	rest, err := parseMixed(fs, args)
	if err != nil {
		return err
	}
	if *follow && (*output == "" || *asJSON) {
		return errors.New("agents: --follow goes with --output and without --json")
	}
	if len(rest) != 1 {
		return fmt.Errorf("agents: want %s", agentsUsage)
	}
	if *output != "" && !bundle.ValidInstance(*output) {
		return fmt.Errorf("agents: %.80q is no instance's name", *output)
	}
	o.Source = rest[0]
	p, err := openPlatform(ctx, e, o)
	if err != nil {
		return err
	}
	defer p.close()
	switch {
	case *follow:
		return followOutput(ctx, e.Stdout, p, *output)
	case *output != "":
		return printOutput(ctx, e.Stdout, p, *output, *asJSON)
	case !*asJSON && !*once && toTerminal(e.Stdout):
		return watchAgents(ctx, e.Stdout, p)
	}
	list, err := listAgents(ctx, p)
	if err != nil {
		return err
	}
	if *asJSON {
		return json.NewEncoder(e.Stdout).Encode(map[string][]platformAgent{"agents": list})
	}
	_, err = io.WriteString(e.Stdout, agentTable(list, time.Now()))
	return err
}

// listAgents asks for the agents that the caller may see.
func listAgents(ctx context.Context, p *platformClient) ([]platformAgent, error) {
	var out struct{ Agents []platformAgent }
	err := p.get(ctx, agentsPath, &out)
	if out.Agents == nil {
		out.Agents = []platformAgent{}
	}
	return out.Agents, err
}

// agentOutput is what an agent wrote last.
type agentOutput struct {
	Instance string   `json:"instance"`
	Lines    []string `json:"lines"`
}

func readOutput(ctx context.Context, p *platformClient, instance string) (*agentOutput, error) {
	out := &agentOutput{}
	return out, p.get(ctx, agentsPath+"/"+instance+"/output", out)
}

// printOutput prints the last lines of one agent.
func printOutput(ctx context.Context, w io.Writer, p *platformClient, instance string, asJSON bool) error {
	out, err := readOutput(ctx, p, instance)
	if err != nil {
		return err
	}
	if asJSON {
		return json.NewEncoder(w).Encode(out)
	}
	return printHarmless(w, out.Lines)
}

// followOutput prints an agent's lines as they come, until ctx ends.
func followOutput(ctx context.Context, w io.Writer, p *platformClient, instance string) error {
	var seen []string
	for {
		out, err := readOutput(ctx, p, instance)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		if err := printHarmless(w, newLines(seen, out.Lines)); err != nil {
			return err
		}
		seen = out.Lines
		if !sleepFor(ctx, agentsEvery) {
			return nil
		}
	}
}

// newLines are those of now that come after what was seen: the end of the one
// is the beginning of the other.
func newLines(seen, now []string) []string {
	for n := min(len(seen), len(now)); n > 0; n-- {
		if slices.Equal(seen[len(seen)-n:], now[:n]) {
			return now[n:]
		}
	}
	return now
}

func printHarmless(w io.Writer, lines []string) error {
	for _, line := range lines {
		if _, err := fmt.Fprintln(w, harmless(line)); err != nil {
			return err
		}
	}
	return nil
}

// harmless takes out of a line what could draw on a terminal.
func harmless(line string) string {
	return strings.Map(func(r rune) rune {
		if r != '\t' && !unicode.IsPrint(r) {
			return '\ufffd'
		}
		return r
	}, line)
}

// agentTable is the agents as a table.
func agentTable(list []platformAgent, now time.Time) string {
	var b strings.Builder
	t := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "INSTANCE\tAGENT\tSTATE\tSINCE\tRESTARTS\tEXIT\tBUNDLE")
	for _, a := range list {
		code := "-"
		if a.ExitCode != nil {
			code = fmt.Sprint(*a.ExitCode)
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%d\t%s\t%.19s\n", plain(a.Instance), plain(a.Name), plain(a.condition()), ago(now.Sub(a.Since)), a.Restarts, code, plain(a.Bundle))
	}
	_ = t.Flush() // a strings.Builder takes everything
	return b.String()
}

// ago says how long something lasts. The platform's clock is the host's, so it
// may be ahead.
func ago(d time.Duration) string { return max(0, d).Round(time.Second).String() }

// watchAgents draws the table again and again until ctx ends.
func watchAgents(ctx context.Context, w io.Writer, p *platformClient) error {
	drawn := 0
	for {
		list, err := listAgents(ctx, p)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		if drawn, err = redraw(w, agentTable(list, time.Now())+"Ctrl-C ends it\n", drawn); err != nil {
			return err
		}
		if !sleepFor(ctx, agentsEvery) {
			return nil
		}
	}
}

// redraw writes text over the lines that were drawn before, and returns how many
// they are now.
func redraw(w io.Writer, text string, drawn int) (int, error) {
	if drawn > 0 {
		text = fmt.Sprintf("\x1b[%dA\x1b[J", drawn) + text
	}
	_, err := io.WriteString(w, text)
	return strings.Count(text, "\n"), err
}

// toTerminal reports whether data goes to a terminal.
func toTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// condition is the agent's state, and how it is where the platform asks it.
func (a platformAgent) condition() string {
	if a.Health == "" {
		return a.State
	}
	return a.State + ", " + a.Health
}
