package main

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"time"

	"omega/attest"
	"omega/gpu/evidence"
)

// verifyGPUUsage is the one line of `omega verify gpu`'s arguments.
const verifyGPUUsage = "--report F --chain F --rim F… --nonce HEX [--ocsp F]… [--require ocsp] [--at RFC3339] [--json]"

// maxGPUFile bounds each file of evidence.
const maxGPUFile = 1 << 20

// gpuOptions say which raw report is verified, by which collateral.
type gpuOptions struct {
	Report, Chain, Nonce, At string
	RIMs, OCSP, Require      []string
}

// runVerifyGPU is `omega verify gpu`: one raw report against NVIDIA's roots.
func runVerifyGPU(e *env, args []string) error {
	var o gpuOptions
	flags := e.flags("verify gpu")
	flags.StringVar(&o.Report, "report", "", "the report, request and response (raw or hex)")
	flags.StringVar(&o.Chain, "chain", "", "the attestation certificate chain (PEM, leaf first, with its root)")
	flags.StringVar(&o.Nonce, "nonce", "", "the nonce that was asked with, 64 hex digits")
	flags.StringVar(&o.At, "at", "", "the time at which certificates must be valid (default now)")
	flags.Func("rim", "a driver or VBIOS RIM; give one of each at least", appendTo(&o.RIMs))
	flags.Func("ocsp", "an OCSP response (DER or base64)", appendTo(&o.OCSP))
	flags.Func("require", "ocsp: every certificate that has a revocation status needs a current good one", appendTo(&o.Require))
	asJSON := flags.Bool("json", false, "print JSON")
	rest, err := parseMixed(flags, args)
	if err != nil {
		return err
	}
	if len(rest) != 0 || o.Report == "" {
		return fmt.Errorf("verify gpu: want %s", verifyGPUUsage)
	}
	params, ev, err := o.read()
	if err != nil {
		return gpuAdvised(err)
	}
	result, err := evidence.Appraise(ev, params)
	for i := range result.Checks {
		if c := &result.Checks[i]; c.Status == evidence.Failed {
			c.Next = gpuStep(err)
		}
	}
	if out := printGPU(e.Stdout, result, *asJSON); out != nil {
		return out
	}
	return gpuAdvised(err)
}

// gpuSteps are what can be done about GPU evidence that is refused, by the class
// of the refusal; the first that fits.
var gpuSteps = []struct {
	reason error
	step   string
}{
	{evidence.ErrMismatch, "give the nonce that it was asked with, and the RIMs of this driver and VBIOS; if values still differ, rely on nothing that this GPU does"},
	{evidence.ErrStale, "get newer OCSP responses for the GPU's certificates from NVIDIA's service, and give each with --ocsp"},
	{evidence.ErrCollateral, "give the GPU's certificates with --chain, and the RIMs of its driver and of its VBIOS, from NVIDIA's RIM service, with --rim"},
	{evidence.ErrExpired, "give --at a time at which the signers' certificates were valid, for an old report; else get RIMs and certificates anew"},
	{evidence.ErrRevoked, "rely on nothing that this GPU does: NVIDIA has revoked a certificate of its chain"},
	{evidence.ErrHold, "ask NVIDIA about this GPU: a certificate of its chain is on hold"},
	{evidence.ErrChain, "take certificates and RIMs as NVIDIA signed them, the GPU's leaf first and the root last"},
	{evidence.ErrSignature, "take report, certificates and RIMs anew and unchanged: one of them is not what was signed"},
	{evidence.ErrFormat, "take the file as NVIDIA's tools write it: the report as bytes or hex with the request before it, the chain as PEM, a RIM as XML"},
}

// gpuStep is never empty.
func gpuStep(err error) string {
	for _, s := range gpuSteps {
		if errors.Is(err, s.reason) {
			return s.step
		}
	}
	return "see that the files are those of one GPU"
}

// gpuAdvised gives a refusal its exit code and what to do next.
func gpuAdvised(err error) error {
	if code := exitCode(gpuExit(err)); code == exitOK || code == exitUsage {
		return err
	}
	return gpuExit(fmt.Errorf("%w; next: %s", err, gpuStep(err)))
}

func appendTo(list *[]string) func(string) error {
	return func(s string) error {
		*list = append(*list, s)
		return nil
	}
}

// read turns the arguments into what is appraised and what it is held against.
func (o *gpuOptions) read() (p evidence.Params, e evidence.Evidence, err error) {
	p = evidence.Params{Roots: evidence.NVIDIA(), Now: time.Now()}
	if o.At != "" {
		if p.Now, err = time.Parse(time.RFC3339, o.At); err != nil {
			return p, e, fmt.Errorf("--at: %w", err)
		}
	}
	nonce, err := hex.DecodeString(o.Nonce)
	if err != nil || len(nonce) != len(p.Nonce) {
		return p, e, errors.New("--nonce: want the 64 hex digits that were asked with")
	}
	copy(p.Nonce[:], nonce)
	for _, r := range o.Require {
		if r != "ocsp" {
			return p, e, fmt.Errorf("--require %s: only ocsp can be required", r)
		}
		p.Policy.RequireOCSP = true
	}
	if e.Report, err = readGPUBinary(o.Report); err != nil {
		return p, e, err
	}
	if o.Chain == "" {
		return p, e, fmt.Errorf("%w: give the certificates of the GPU with --chain", evidence.ErrCollateral)
	}
	chain, err := readEach([]string{o.Chain}, readGPUText)
	if err != nil {
		return p, e, err
	}
	e.Chain = chain[0]
	if p.RIMs, err = readEach(o.RIMs, readGPUText); err != nil {
		return p, e, err
	}
	p.OCSP, err = readEach(o.OCSP, readGPUBinary)
	return p, e, err
}

// readEach reads collateral. A file that is not there is missing collateral.
func readEach(paths []string, read func(string) ([]byte, error)) ([][]byte, error) {
	var out [][]byte
	for _, path := range paths {
		b, err := read(path)
		if errors.Is(err, fs.ErrNotExist) {
			err = fmt.Errorf("%w: %w", evidence.ErrCollateral, err)
		}
		if err != nil {
			return nil, err
		}
		out = append(out, b)
	}
	return out, nil
}

func readGPUText(path string) ([]byte, error) { return readBounded(path, maxGPUFile) }

// readGPUBinary reads a file that may be bytes, hex or base64.
func readGPUBinary(path string) ([]byte, error) {
	b, err := readBounded(path, maxGPUFile)
	if err != nil {
		return nil, err
	}
	if b, err = evidence.Binary(b); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return b, nil
}

// gpuExit gives a refusal of GPU evidence its exit code.
func gpuExit(err error) error {
	for _, class := range []struct {
		code    int
		reasons []error
	}{
		{exitMismatch, []error{evidence.ErrMismatch}},
		{exitCollateral, []error{evidence.ErrCollateral, evidence.ErrStale}},
		{exitSignature, []error{evidence.ErrFormat, evidence.ErrSignature, evidence.ErrChain, evidence.ErrExpired, evidence.ErrRevoked, evidence.ErrHold}},
	} {
		for _, reason := range class.reasons {
			if errors.Is(err, reason) {
				return exit(class.code, err)
			}
		}
	}
	return err
}

func printGPU(w io.Writer, r *evidence.Result, asJSON bool) error {
	if asJSON {
		enc := json.NewEncoder(w)
		enc.SetIndent("", "  ")
		return enc.Encode(r)
	}
	fmt.Fprintf(w, "%s: %s, serial %s\n", strings.ToUpper(r.Verdict), orUnknown(r.Device), orUnknown(r.Serial))
	fmt.Fprintf(w, "  %-16s %s\n  %-16s %s\n", "driver", orUnknown(r.Driver), "vbios", orUnknown(r.VBIOS))
	for _, rim := range r.RIMs {
		fmt.Fprintf(w, "  %-16s %s, sha256:%s\n", rim.Kind+" RIM", rim.Version, rim.SHA256)
	}
	var checks []attest.Check
	for _, c := range r.Checks {
		checks = append(checks, attest.Check{Name: c.Name, Status: c.Status, Expected: c.Expected, Found: c.Found, Words: c.Words, Next: c.Next})
	}
	printChecks(w, checks)
	return nil
}

func orUnknown(s string) string {
	if s == "" {
		return "unknown"
	}
	return s
}
