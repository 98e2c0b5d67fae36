package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/open-policy-agent/opa/v1/rego"

	"omega/policy"
	"omega/policy/compile"
)

// The policy and the call that are decided: a permitted call with an argument
// that has to be normalised and compared.
const (
	benchPolicy = "policy/compile/testdata/demo.yaml"
	benchCall   = `{"path":"/data/public/a.txt"}`
	benchRules  = 1000 // compiling so many takes OPA ten seconds; with --runs 1 it is a tenth
	// Our own budgets for one decision.
	decisionBudget = 20_000 // ns
	allocBudget    = 2
)

const publishedDecision = "paper 39.8 ms, a process each (arXiv 2512.05951); Microsoft AGT 8 µs at 10 rules, 55 µs at 100, in-process Python"

// benchDecision decides one call in our Wasm, in OPA's own evaluator in this
// process, and in OPA's evaluator in a process for each check, all from JSON
// bytes; and the same call among a thousand rules.
func benchDecision(ctx context.Context, e *env, o benchOptions) ([]benchRow, error) {
	step := e.progress("deciding")
	defer step.Done()
	source, err := sourceRoot()
	if err != nil {
		return nil, err
	}
	out, err := compile.File(filepath.Join(source, benchPolicy))
	if err != nil {
		return nil, err
	}
	ours, err := timeOurs(ctx, out)
	if err != nil {
		return nil, err
	}
	step.Set(1, 4)
	topdown, err := timeOPA(ctx, out)
	if err != nil {
		return nil, err
	}
	step.Set(2, 4)
	process, err := timeProcess(ctx, out, o.Runs)
	if err != nil {
		return nil, err
	}
	step.Set(3, 4)
	rules := benchRules
	if o.Runs == 1 {
		rules /= 10
	}
	many, err := manyRules(ctx, out.Document, rules)
	if err != nil {
		return nil, err
	}
	rows := []benchRow{
		{Name: "decision/from-json", Ours: ours.median, Unit: "ns"},
		{Name: "decision/p99", Ours: ours.p99, Unit: "ns"},
		{Name: "decision/in-process", Ours: ours.median, Unit: "ns"},
		{Name: "decision/process-each", Ours: ours.median, Unit: "ns", Published: publishedDecision},
		{Name: fmt.Sprintf("decision/%d-rules", rules), Ours: many.median, Unit: "ns", Published: publishedDecision},
		{Name: "decision/allocations", Ours: ours.allocs, Unit: "allocations"},
	}
	rows[0] = rows[0].versus("budget", decisionBudget)
	rows[2] = rows[2].versus("OPA topdown, same policy", topdown)
	if process > 0 {
		rows[3] = rows[3].versus("a process with OPA topdown for each check, same policy", process)
	}
	rows[4] = rows[4].versus("the same call among 3 rules", ours.median)
	rows[5] = rows[5].versus("budget", allocBudget)
	return rows, nil
}

// benchInput is the call as the gateway states it.
func benchInput() ([]byte, error) {
	return policy.Input{
		Agent: policy.InputAgent{Name: "reporter", Instance: "reporter-1"}, Action: policy.ActionCall,
		Resource: "files/read_file", Args: []byte(benchCall),
	}.Encode()
}

type decisionTimes struct{ median, p99, allocs float64 }

func timeOurs(ctx context.Context, out *compile.Output) (decisionTimes, error) {
	d, err := policy.NewDecider(ctx, out.Wasm)
	if err != nil {
		return decisionTimes{}, err
	}
	defer d.Close(ctx)
	text, err := benchInput()
	if err != nil {
		return decisionTimes{}, err
	}
	decide := func() error {
		if got := d.Decide(ctx, text); !got.Permit {
			return fmt.Errorf("the call is denied: %s", strings.Join(got.Reasons, "; "))
		}
		return nil
	}
	if _, err := eachCall(ctx, 1000, decide); err != nil { // code and patterns are compiled
		return decisionTimes{}, err
	}
	const n = 20_000
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	times, err := eachCall(ctx, n, decide)
	runtime.ReadMemStats(&after)
	if err != nil {
		return decisionTimes{}, err
	}
	slices.Sort(times)
	return decisionTimes{median: median(times), p99: times[n*99/100], allocs: float64((after.Mallocs - before.Mallocs) / n)}, nil
}

// eachCall is how many nanoseconds each of n calls took.
func eachCall(ctx context.Context, n int, f func() error) ([]float64, error) {
	times := make([]float64, n)
	for i := range times {
		begin := time.Now()
		if err := errors.Join(f(), ctx.Err()); err != nil {
			return nil, err
		}
		times[i] = float64(time.Since(begin).Nanoseconds())
	}
	return times, nil
}

func timeOPA(ctx context.Context, out *compile.Output) (float64, error) {
	text, err := benchInput()
	if err != nil {
		return 0, err
	}
	q, err := prepareOPA(ctx, out.Rego)
	if err != nil {
		return 0, err
	}
	times, err := eachCall(ctx, 3000, func() error {
		_, err := evalOPA(ctx, q, text)
		return err
	})
	return median(times), err
}

func prepareOPA(ctx context.Context, text []byte) (rego.PreparedEvalQuery, error) {
	q, err := rego.New(rego.Query("data.omega.decision"), rego.Module("policy.rego", string(text))).PrepareForEval(ctx)
	if err != nil {
		return q, fmt.Errorf("opa: %w", err)
	}
	return q, nil
}

func evalOPA(ctx context.Context, q rego.PreparedEvalQuery, text []byte) (any, error) {
	var in any
	if err := json.Unmarshal(text, &in); err != nil {
		return nil, err
	}
	rs, err := q.Eval(ctx, rego.EvalInput(in))
	if err != nil || len(rs) != 1 {
		return nil, fmt.Errorf("opa: %d results: %w", len(rs), err)
	}
	return rs[0].Expressions[0].Value, nil
}

// timeProcess starts a process for each check: opa itself where it is
// installed, or this program as one that does the same. 0 is: neither.
func timeProcess(ctx context.Context, out *compile.Output, runs int) (float64, error) {
	dir, err := os.MkdirTemp("", "omega-decision-")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	text, err := benchInput()
	if err != nil {
		return 0, err
	}
	policyFile, inputFile := filepath.Join(dir, "policy.rego"), filepath.Join(dir, "input.json")
	if err := errors.Join(os.WriteFile(policyFile, out.Rego, 0o600), os.WriteFile(inputFile, text, 0o600)); err != nil {
		return 0, err
	}
	command := []string{"opa", "eval", "-d", policyFile, "-i", inputFile, "data.omega.decision"}
	if _, err := exec.LookPath("opa"); err != nil {
		self, err := os.Executable()
		if err != nil || strings.HasSuffix(self, ".test") {
			return 0, err // a test's program has no verbs: started so, it would run all tests
		}
		command = []string{self, "policy", "opa", "--rego", policyFile, "--input", inputFile}
	}
	times, err := eachCall(ctx, max(5*runs, 10), func() error {
		got, err := exec.CommandContext(ctx, command[0], command[1:]...).Output()
		if err == nil && !bytes.Contains(got, []byte(`"permit"`)) {
			err = fmt.Errorf("%s does not permit the call: %.200s", command[0], got)
		}
		return err
	})
	return median(times), err
}

// runPolicyOPA decides one input in OPA's own evaluator, from the Rego that
// `omega policy compile` wrote: for comparing, and as a process for each check.
func runPolicyOPA(ctx context.Context, e *env, args []string) error {
	fs := e.flags("policy")
	file := fs.String("rego", "", "policy.rego, as compiled")
	from := fs.String("input", "", "decision input in JSON")
	if err := fs.Parse(args); err != nil {
		return err
	}
	if *file == "" || *from == "" {
		return errors.New("omega policy opa: --rego and --input are needed")
	}
	text, err := os.ReadFile(*file)
	if err != nil {
		return err
	}
	input, err := os.ReadFile(*from)
	if err != nil {
		return err
	}
	q, err := prepareOPA(ctx, text)
	if err != nil {
		return err
	}
	value, err := evalOPA(ctx, q, input)
	if err != nil {
		return err
	}
	return printLine(e.Stdout, value)
}

// manyRules times the call in a policy with many rules.
func manyRules(ctx context.Context, doc *policy.Document, rules int) (decisionTimes, error) {
	var b strings.Builder
	p := doc.Principals[0]
	fmt.Fprintf(&b, "version: %s\nplatform: bench\nprincipals:\n  - {name: %s, roles: [author, tool], names: ['*'], key: %q}\n", policy.Version, p.Name, p.Keys[0].PEM)
	fmt.Fprintf(&b, "servers:\n  - {name: files, url: 'https://files.example/mcp', principal: %s}\n", p.Name)
	fmt.Fprintf(&b, "agents:\n  - name: reporter\n    requires: [{role: author, principal: %s}]\n    permits:\n", p.Name)
	fmt.Fprintf(&b, "      - {id: read-public, action: mcp.tools/call, resource: files/read_file, args: {path: {prefix: /data/public}}}\n")
	for i := range rules - 1 {
		fmt.Fprintf(&b, "      - {id: rule-%d, action: mcp.tools/call, resource: files/tool-%d, args: {n: {type: integer, max: %d}}, limit: %d}\n", i, i, i, i+1)
	}
	out, err := compile.Compile([]byte(b.String()), ".")
	if err != nil {
		return decisionTimes{}, fmt.Errorf("%d rules: %w", rules, err)
	}
	return timeOurs(ctx, out)
}
