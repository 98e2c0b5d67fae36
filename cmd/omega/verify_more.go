package main

import (
	"errors"
	"fmt"

	"omega/attest"
	"omega/attest/verifier"
	"omega/gpu/evidence"
)

// request is the question that a platform is asked.
func (o *verifyOptions) request(p *verifier.Params) attest.Request {
	ask := attest.Request{Version: attest.RequestVersion, Nonce: p.Nonce}
	if p.Known != nil {
		ask.Have = p.Known.Have()
	}
	if o.Instance != "" {
		if o.Open != "" { // of a platform that is asked for one component nothing else is named
			ask.Have = ask.Have[:min(len(ask.Have), 1)]
		}
		ask.Open, _ = attest.ParseOpen(o.Instance, o.Open)
	}
	return ask
}

// opened demands that evidence which was asked to show one agent, or one
// component, shows it.
func (o *verifyOptions) opened(e *attest.Evidence) error {
	if o.Instance == "" {
		return nil
	}
	want, ok := attest.ParseOpen(o.Instance, o.Open)
	if !ok {
		return fmt.Errorf("--open %q: want KIND:NAME", o.Open)
	}
	for i := range e.Agents {
		if want.Kind == "" && e.Agents[i].Shown() && e.Agents[i].Instance == want.Instance {
			return nil
		}
		for _, c := range e.Agents[i].Components {
			if want.Kind != "" && c.Shown() && c.Kind == want.Kind && c.Name == want.Name {
				return nil
			}
		}
	}
	return fmt.Errorf("%w: the evidence does not show %s; next: ask the platform itself, with `omega verify URL`, which agents it runs", attest.ErrMismatch, o.opening())
}

// opening is what is opened, in words.
func (o *verifyOptions) opening() string {
	if o.Open == "" {
		return "agent " + o.Instance
	}
	return "component " + o.Open + " of agent " + o.Instance
}

// revocations reads the revocation list. Whether it has expired, the verifier
// says.
func (o *verifyOptions) revocations(p *verifier.Policy) (*attest.Revocations, error) {
	if o.Revoked == "" {
		return nil, nil
	}
	if p == nil || len(p.Revocation.Keys) == 0 {
		return nil, errors.New("--revoked needs an appraisal policy (--policy) whose revocation.keys name who may sign the list")
	}
	b, err := readBounded(o.Revoked, 2*attest.MaxRevocations)
	if err != nil {
		return nil, exit(exitCollateral, err)
	}
	by, err := p.RevocationKeys()
	if err != nil {
		return nil, err
	}
	r, err := attest.ParseRevocations(b, by)
	if err != nil {
		return nil, exit(exitSignature, fmt.Errorf("%s: %w", o.Revoked, err))
	}
	return r, nil
}

// gpu is what GPU evidence is held against; nil without reference values.
func (o *verifyOptions) gpu(p *verifier.Policy) (*verifier.GPU, error) {
	if len(o.RIMs) == 0 {
		return nil, nil
	}
	g := &verifier.GPU{Roots: evidence.NVIDIA()}
	var err error
	if g.RIMs, err = readEach(o.RIMs, readGPUText); err != nil {
		return nil, gpuExit(err)
	}
	if g.OCSP, err = readEach(o.OCSP, readGPUBinary); err != nil {
		return nil, gpuExit(err)
	}
	if p != nil {
		r := p.GPUReport
		g.Policy = evidence.Policy{MinDriver: r.MinDriver, VBIOS: r.VBIOS, CC: r.CC, GPUs: r.GPUs, RequireOCSP: r.RequireOCSP}
	}
	return g, nil
}
