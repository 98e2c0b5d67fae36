// Package compile turns a policy that a person wrote in YAML into what the
// guest carries: canonical JSON, readable Rego, and the Wasm that decides. Each
// fault is reported with file, line and column. The same policy gives the same
// bytes on every machine, because their digest is measured.
//
// It decides nothing itself and is not in the guest: OPA stays on the host.
package compile

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sort"

	"omega/policy"
)

// maxSource bounds the YAML.
const maxSource = 1 << 20

// Output is one compiled policy.
type Output struct {
	Document *policy.Document
	JSON     []byte   // canonical, /etc/omega/policy.json
	Wasm     []byte   // /etc/omega/policy.wasm
	Rego     []byte   // what the Wasm was made of, for people and for opa test
	Digest   [32]byte // policy.Digest of JSON and Wasm
}

// Error is one fault of the source and its place.
type Error struct {
	File         string
	Line, Column int
	Msg          string
}

func (e *Error) Error() string {
	return fmt.Sprintf("%s:%d:%d: %s", e.File, e.Line, e.Column, e.Msg)
}

// File compiles the policy in a file; keys are found relative to it.
func File(path string) (*Output, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("policy: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxSource+1))
	if err != nil {
		return nil, fmt.Errorf("policy: %w", err)
	}
	return source{file: path, dir: filepath.Dir(path)}.compile(text)
}

// Compile compiles a policy; its keys are found relative to dir.
func Compile(yaml []byte, dir string) (*Output, error) {
	return source{file: filepath.Join(dir, "policy.yaml"), dir: dir}.compile(yaml)
}

// source is a policy being read.
type source struct{ file, dir string }

func (s source) compile(text []byte) (*Output, error) {
	doc, err := s.read(text)
	if err != nil {
		return nil, err
	}
	return Document(doc)
}

// Document compiles a policy whose keys and modules are in it already.
func Document(doc *policy.Document) (*Output, error) {
	js, err := doc.Marshal()
	if err != nil {
		return nil, err
	}
	rego, err := generate(doc)
	if err != nil {
		return nil, fmt.Errorf("policy rego: %w", err)
	}
	wasm, err := toWasm(rego, doc.Rego)
	if err != nil {
		return nil, fmt.Errorf("policy wasm: %w", err)
	}
	wasm = policy.WithDocument(wasm, js)
	out := &Output{Document: doc, JSON: js, Wasm: wasm, Rego: rego, Digest: policy.Digest(js, wasm)}
	return out, out.try()
}

// try loads the result as the guest will and asks for something nobody has.
func (o *Output) try() error {
	ctx := context.Background()
	d, err := policy.NewDecider(ctx, o.Wasm)
	if err != nil {
		return err
	}
	defer d.Close(ctx)
	text, err := policy.Input{Agent: policy.InputAgent{Name: "-", Instance: "-"}, Action: "-", Resource: "-"}.Encode()
	if err != nil {
		return err
	}
	got := d.Decide(ctx, text)
	if got.Permit || len(got.Reasons) != 1 || got.Reasons[0] != unknownAgent {
		return fmt.Errorf("compiled policy: unexpected answer %+v", got)
	}
	return nil
}

// read decodes the YAML, fetches the keys and validates.
func (s source) read(text []byte) (*policy.Document, error) {
	root, err := s.parse(text)
	if err != nil {
		return nil, err
	}
	w := &walker{file: s.file, places: map[string]place{}}
	var in sourceDocument
	w.decode(root, &in)
	if len(w.faults) > 0 {
		return nil, errors.Join(w.faults...)
	}
	doc := s.inline(w, in)
	if len(w.faults) > 0 {
		return nil, errors.Join(w.faults...)
	}
	if err := doc.Validate(); err != nil {
		return nil, w.locate(err)
	}
	w.conditions(doc)
	return doc, errors.Join(w.faults...)
}

// locate adds line and column to the faults of Validate.
func (w *walker) locate(err error) error {
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return err
	}
	var out []error
	for _, e := range joined.Unwrap() {
		var fe *policy.FieldError
		if !errors.As(e, &fe) {
			out = append(out, e)
			continue
		}
		at := w.find(fe.Path)
		out = append(out, &Error{File: w.file, Line: at.line, Column: at.column, Msg: fe.Error()})
	}
	sort.SliceStable(out, func(i, j int) bool { return lineOf(out[i]) < lineOf(out[j]) })
	return errors.Join(out...)
}

func lineOf(err error) int {
	if e, ok := err.(*Error); ok {
		return e.Line
	}
	return 0
}
