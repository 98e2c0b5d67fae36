package main

import (
	"context"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"omega/internal/strictjson"
	"omega/policy/compile"
)

// policyUsage is the one line of `omega policy`'s arguments.
const policyUsage = "check F … | compile --policy F --out DIR | explain --policy P [--input F] | test F | eval --policy P --input F | replay [--check] --policy P --calls F.jsonl | diff A B --calls F.jsonl | schema | opa --rego F --input F"

// runPolicy is `omega policy`: what people do with an agent policy before it is
// measured, and what auditors do with it afterwards.
func runPolicy(ctx context.Context, e *env, args []string) error {
	actions := []struct {
		name string
		run  func(context.Context, *env, []string) error
	}{
		{"check", runPolicyCheck},
		{"compile", runPolicyCompile},
		{"explain", runPolicyExplain},
		{"test", runPolicyTest},
		{"eval", runPolicyEval},
		{"replay", runPolicyReplay},
		{"diff", runPolicyDiff},
		{"schema", runPolicySchema},
		{"opa", runPolicyOPA},
	}
	if len(args) > 0 {
		for _, a := range actions {
			if a.name == args[0] {
				return a.run(ctx, e, args[1:])
			}
		}
	}
	if len(args) > 0 && (args[0] == "-h" || args[0] == "--help") {
		e.flags("policy").Usage()
		return flag.ErrHelp
	}
	return fmt.Errorf("policy: want one of %s", policyUsage)
}

// runPolicyCheck compiles policies and keeps nothing.
func runPolicyCheck(_ context.Context, e *env, args []string) error {
	fs := e.flags("policy")
	file := fs.String("policy", "", "policy in YAML")
	if err := fs.Parse(args); err != nil {
		return err
	}
	files := fs.Args()
	if *file != "" {
		files = append(files, *file)
	}
	if len(files) == 0 {
		return errors.New("omega policy check: which file?")
	}
	var faults []error
	for _, f := range files {
		out, err := compile.File(f)
		if err != nil {
			faults = append(faults, err)
			continue
		}
		e.sayf("%s: %d agents, digest %x", f, len(out.Document.Agents), out.Digest)
		for _, advice := range out.Document.Advice() {
			e.sayf("%s: consider: %s", f, advice)
		}
	}
	return errors.Join(faults...)
}

// runPolicyCompile writes what the guest carries, and the Rego for people.
func runPolicyCompile(_ context.Context, e *env, args []string) error {
	fs := e.flags("policy")
	file := fs.String("policy", "", "policy in YAML")
	dir := fs.String("out", "", "folder for policy.json, policy.wasm and policy.rego")
	if err := fs.Parse(args); err != nil {
		return err
	}
	if *file == "" || *dir == "" {
		return errors.New("omega policy compile: --policy and --out are needed")
	}
	out, err := compile.File(*file)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(*dir, 0o755); err != nil {
		return err
	}
	for _, f := range []struct {
		name string
		data []byte
	}{{"policy.json", out.JSON}, {"policy.wasm", out.Wasm}, {"policy.rego", out.Rego}} {
		if err := os.WriteFile(filepath.Join(*dir, f.name), f.data, 0o644); err != nil {
			return err
		}
	}
	return printLine(e.Stdout, map[string]any{"digest": hex.EncodeToString(out.Digest[:]), "wasm_bytes": len(out.Wasm)})
}

// openDecision loads the policy and opens what it shall decide; done closes both.
func (e *env) openDecision(ctx context.Context, file, from string) (p *replayer, r io.Reader, done func(), err error) {
	if p, err = openPolicy(ctx, file); err != nil {
		return nil, nil, nil, err
	}
	r, closeInput, err := e.open(from)
	if err != nil {
		return nil, nil, nil, errors.Join(err, p.decider.Close(ctx))
	}
	return p, r, func() { closeInput(); _ = p.decider.Close(ctx) }, nil
}

// runPolicyEval decides one input. A denial is exit code 4.
func runPolicyEval(ctx context.Context, e *env, args []string) error {
	fs := e.flags("policy")
	file := fs.String("policy", "", "policy in YAML or Wasm")
	from := fs.String("input", "", "decision input or call in JSON; - is stdin")
	fs.Bool("json", true, "print JSON, which is all that is printed")
	if err := fs.Parse(args); err != nil {
		return err
	}
	if *file == "" || *from == "" {
		return errors.New("omega policy eval: --policy and --input are needed")
	}
	p, r, done, err := e.openDecision(ctx, *file, *from)
	if err != nil {
		return err
	}
	defer done()
	text, err := io.ReadAll(io.LimitReader(r, maxLine+1))
	if err != nil {
		return err
	}
	d := p.line(ctx, text)
	if err := printLine(e.Stdout, d); err != nil {
		return err
	}
	if !d.Permit {
		return exit(exitMismatch, errors.New("the policy denies this call"))
	}
	return nil
}

// runPolicySchema prints the JSON Schema of a policy's YAML, for editors.
func runPolicySchema(_ context.Context, e *env, args []string) error {
	if err := e.flags("policy").Parse(args); err != nil {
		return err
	}
	text, err := compile.Schema()
	if err != nil {
		return err
	}
	_, err = e.Stdout.Write(text)
	return err
}

// open opens a file, or stdin for "-".
func (e *env) open(path string) (io.Reader, func(), error) {
	if path == "-" {
		return e.Stdin, func() {}, nil
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, nil, err
	}
	return f, func() { _ = f.Close() }, nil
}

// printLine writes v as one line of canonical JSON.
func printLine(w io.Writer, v any) error {
	b, err := strictjson.Canonical(v)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "%s\n", b)
	return err
}
