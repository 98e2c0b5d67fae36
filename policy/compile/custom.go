package compile

import (
	"errors"
	"fmt"

	"github.com/open-policy-agent/opa/v1/ast"

	"omega/policy"
)

// customPackage is where a document's own Rego lives. Permits name its rules as
// conditions that must be true: it can take away, and never give.
const customPackage = "data.omega.custom"

// custom reads one module of a document.
func custom(m policy.Module) (*ast.Module, error) {
	caps, err := wider()
	if err != nil {
		return nil, err
	}
	file := m.Name + ".rego"
	parsed, err := ast.ParseModuleWithOpts(file, m.Text, ast.ParserOptions{Capabilities: caps, RegoVersion: ast.RegoV1})
	if err != nil {
		return nil, placed(file, err)
	}
	if parsed == nil || parsed.Package == nil || parsed.Package.Path.String() != customPackage {
		return nil, &Error{file, 1, 1, "the package must be omega.custom"}
	}
	var foreign error
	ast.WalkRefs(parsed, func(r ast.Ref) bool {
		if r[0].Equal(ast.DefaultRootDocument) && !r.HasPrefix(ast.MustParseRef(customPackage)) {
			foreign = &Error{file, r[0].Location.Row, r[0].Location.Col, fmt.Sprintf("refers to %s, outside of its package", r)}
		}
		return foreign != nil
	})
	return parsed, foreign
}

// placed gives OPA's errors the form of the others.
func placed(file string, err error) error {
	var list ast.Errors
	if !errors.As(err, &list) {
		return err
	}
	var out []error
	for _, e := range list {
		at := &Error{file, 1, 1, e.Message}
		if e.Location != nil {
			at.Line, at.Column = max(e.Location.Row, 1), max(e.Location.Col, 1)
			if e.Location.File != "" {
				at.File = e.Location.File
			}
		}
		out = append(out, at)
	}
	return errors.Join(out...)
}

// conditions checks that every condition is a rule of some module.
func (w *walker) conditions(doc *policy.Document) {
	rules := map[string]bool{}
	for _, m := range doc.Rego {
		parsed, err := custom(m)
		if err != nil {
			w.faults = append(w.faults, err)
			continue
		}
		for _, r := range parsed.Rules {
			rules[string(r.Head.Name)] = len(r.Head.Args) == 0
		}
	}
	for i, a := range doc.Agents {
		for j, p := range a.Permits {
			for k, c := range p.Conditions {
				if !rules[c] && len(w.faults) == 0 {
					w.fault(fmt.Sprintf("agents[%d].permits[%d].conditions[%d]", i, j, k), "no module has a rule %q", c)
				}
			}
		}
	}
}
