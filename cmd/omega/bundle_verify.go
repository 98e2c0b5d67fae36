package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"omega/agentloader/bundle"
	"omega/policy"
	"omega/policy/compile"
)

// runBundleVerify checks a bundle as a platform with that policy would.
func runBundleVerify(ctx context.Context, e *env, args []string) error {
	fs := e.flags("bundle")
	file := fs.String("policy", "", "the platform's policy in YAML")
	ref, err := oneRef(fs, args)
	if err != nil {
		return err
	}
	if err := need(fs, "policy"); err != nil {
		return err
	}
	compiled, err := compile.File(*file)
	if err != nil {
		return err
	}
	checked, err := verifyRef(ctx, ref, compiled.Document)
	if err != nil {
		return err
	}
	for _, c := range checked.Components {
		for _, id := range c.KeyIDs() {
			fmt.Fprintf(e.Stdout, "%-17s %-12s %s  signed by %s %s, key %.16s\n", c.Kind, c.Name, c.Digest, c.Role, c.Principal, id)
		}
	}
	e.sayf("%s: every signature that the policy requires is there", ref)
	return nil
}

// verifyRef checks a bundle's signatures with the code that the guest uses.
func verifyRef(ctx context.Context, ref bundleRef, doc *policy.Document) (*bundle.Checked, error) {
	checker, err := bundle.NewChecker(trustOf(doc))
	if err != nil {
		return nil, err
	}
	checked, err := checker.Check(ctx, remoteSource{ref.repo}, ref.digest)
	switch {
	case errors.Is(err, bundle.ErrUnsigned):
		return nil, exit(exitSignature, err)
	case errors.Is(err, bundle.ErrUnknown), errors.Is(err, bundle.ErrMalformed), errors.Is(err, bundle.ErrSwapped):
		return nil, exit(exitMismatch, err)
	}
	return checked, err
}

// trustOf takes what a policy says about signatures.
func trustOf(doc *policy.Document) bundle.Trust {
	var t bundle.Trust
	for _, p := range doc.Principals {
		own := bundle.Principal{Name: p.Name, Threshold: p.Threshold, Roles: p.Roles, Names: p.Names}
		for _, k := range p.Keys {
			own.Keys = append(own.Keys, k.PEM)
		}
		t.Principals = append(t.Principals, own)
	}
	for _, s := range doc.Servers {
		t.Servers = append(t.Servers, bundle.Server{Name: s.Name, Principal: s.Principal})
	}
	for _, a := range doc.Agents {
		rule := bundle.AgentRule{Name: a.Name, Combine: a.Combine}
		for _, r := range a.Requires {
			rule.Requires = append(rule.Requires, bundle.Requirement{Role: r.Role, Principal: r.Principal})
		}
		t.Agents = append(t.Agents, rule)
	}
	return t
}

// inspection is what `omega bundle inspect` prints.
type inspection struct {
	Bundle     string           `json:"bundle"`
	Manifest   *bundle.Manifest `json:"manifest"`
	Signatures []claim          `json:"signatures"` // claims: nothing is verified here
}

type claim struct {
	Subject   string `json:"subject"`
	Role      string `json:"role"`
	Principal string `json:"principal"`
}

// runBundleInspect prints what a bundle says of itself, and who claims to have signed it.
func runBundleInspect(ctx context.Context, e *env, args []string) error {
	ref, err := oneRef(e.flags("bundle"), args)
	if err != nil {
		return err
	}
	source := remoteSource{ref.repo}
	m, err := bundle.ReadManifest(ctx, source, ref.digest)
	if err != nil {
		return err
	}
	out := inspection{Bundle: ref.String(), Manifest: m, Signatures: []claim{}}
	subjects := []bundle.Digest{ref.digest}
	for _, t := range m.Tools {
		subjects = append(subjects, t.Descriptors)
	}
	for _, f := range m.Files() {
		subjects = append(subjects, f.Digest)
	}
	for _, s := range subjects {
		claims, err := bundle.Claims(ctx, source, s)
		if err != nil {
			return err
		}
		for _, v := range claims {
			out.Signatures = append(out.Signatures, claim{s.String(), v.Role, v.Principal})
		}
	}
	enc := json.NewEncoder(e.Stdout)
	enc.SetIndent("", "  ")
	if err := enc.Encode(out); err != nil {
		return err
	}
	e.sayf("nothing of this was verified; `omega bundle verify --policy F` does")
	return nil
}
