package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"slices"
	"time"

	"omega/attest"
	"omega/attest/collateral"
	"omega/attest/snp"
	"omega/attest/verifier"
)

// verifyUsage is the one line of `omega verify`'s arguments.
const verifyUsage = "URL|FILE [--manifest F (--manifest-key F|--manifest-unsigned)] [--allow-emulated ROOT] [--nonce HEX] [--policy F] [--min-svn N] [--caller-key F] [--token F] [--crl] [--have F] [--instance I [--open KIND:NAME]] [--revoked F] [--invocation F [--input F] [--output F]] [--rim F]… [--offline] [--html F] [--json] | snp … | gpu … | schema"

// verifyOptions say what is verified and what it is held against.
type verifyOptions struct {
	Source      string // https URL of a platform, or a file with its evidence
	Manifest    string // empty: build/cpu/manifest.json of the current tree
	ManifestKey string
	Unsigned    bool
	Emulated    string // the emulated PSP's ark.pem, or its folder
	Nonce       string // of a file
	MinSVN      uint
	Policy      string // appraisal policy; empty: the default one
	Offline     bool   // no network for certificates
	Dev         bool   // what is verified is `omega dev` on this machine
	CallerKey   string // private key of a caller that the platform's policy names
	Token       string // where its bearer token is: a file, or env:NAME
	CRL         bool   // demand AMD's revocation list
	KDS         string // AMD's certificate service or a mirror; empty: AMD's
	KDSCache    string // empty: in the user's cache folder
	Have        string // what is remembered of platforms
	Revoked     string // revocation list
	Open        string // component to open, KIND:NAME
	Instance    string // of the agent that has it
	invocationOptions
	RIMs, OCSP []string
	// manifestKeys are the appraisal policy's, SubjectPublicKeyInfos.
	manifestKeys [][]byte
}

// verification is the outcome of `omega verify`, as it is printed.
type verification struct {
	Source         string           `json:"source"`
	Verdict        string           `json:"verdict"`
	Manifest       string           `json:"manifest"`
	ManifestSigned bool             `json:"manifest_signed"`
	Policy         string           `json:"policy,omitempty"`
	Checks         []attest.Check   `json:"checks"`
	Evidence       *attest.Evidence `json:"evidence"`
	// Invocation is the statement that was verified beside the platform.
	Invocation *attest.Invocation `json:"invocation,omitempty"`
}

// runVerify is `omega verify`: what stands behind a platform's answers.
func runVerify(ctx context.Context, e *env, args []string) error {
	if len(args) > 0 && args[0] == "snp" {
		return runVerifySNP(e, args[1:])
	}
	if len(args) > 0 && args[0] == "gpu" {
		return runVerifyGPU(e, args[1:])
	}
	if len(args) == 1 && args[0] == "schema" {
		return printEvidenceSchema(e.Stdout)
	}
	var o verifyOptions
	fs := e.flags("verify")
	o.flags(fs)
	page := fs.String("html", "", "write the outcome as one HTML page too, whatever it is")
	asJSON := fs.Bool("json", false, "print JSON")
	fs.StringVar(&o.Instance, "instance", "", "show this agent, and no other")
	fs.StringVar(&o.Open, "open", "", "show one component, KIND:NAME, of --instance, and nothing else")
	o.invocationOptions.flags(fs)
	rest, err := parseMixed(fs, args)
	if err != nil {
		return err
	}
	if len(rest) != 1 {
		return fmt.Errorf("verify: want one of %s", verifyUsage)
	}
	o.Source = rest[0]
	v, err := verifyPlatform(ctx, e, o)
	if *page != "" {
		if failed := writePage(*page, o.Source, v, err, time.Now()); failed != nil {
			return errors.Join(err, failed)
		}
	}
	if v != nil {
		if out := v.print(e.Stdout, *asJSON); out != nil {
			return out
		}
	}
	return advised(err)
}

// printEvidenceSchema is `omega verify schema`.
func printEvidenceSchema(w io.Writer) error {
	b, err := attest.Schema()
	if err != nil {
		return err
	}
	_, err = w.Write(b)
	return err
}

// flags are those of every verb that verifies a platform.
func (o *verifyOptions) flags(fs *flag.FlagSet) {
	o.releaseFlags(fs)
	fs.StringVar(&o.Nonce, "nonce", "", "nonce of an evidence file, 64 hex digits")
	fs.StringVar(&o.Policy, "policy", "", "appraisal policy (JSON): what is demanded beyond the default, or given up of it")
	fs.BoolVar(&o.CRL, "crl", false, "demand AMD's list of revoked certificates; without it, one that is kept is used")
	fs.StringVar(&o.Have, "have", "", "file that remembers what was appraised, so that a platform need not show it again")
	fs.StringVar(&o.Revoked, "revoked", "", "revocation list (DSSE); the appraisal policy names who may sign it")
	fs.Func("rim", "reference values of a GPU's driver or VBIOS; give one of each where a platform has a GPU", appendTo(&o.RIMs))
	fs.Func("ocsp", "OCSP response for the certificates of a GPU", appendTo(&o.OCSP))
}

// releaseFlags say which release a platform must run, and who asks it.
func (o *verifyOptions) releaseFlags(fs *flag.FlagSet) {
	fs.StringVar(&o.Manifest, "manifest", "", "the release's manifest.json (default build/cpu/manifest.json here)")
	fs.StringVar(&o.ManifestKey, "manifest-key", "", "public key (PEM) that signed the manifest; manifest.dsse.json lies beside it")
	fs.BoolVar(&o.Unsigned, "manifest-unsigned", false, "accept a manifest that nobody signed")
	fs.StringVar(&o.Emulated, "allow-emulated", "", "accept an emulated PSP under this root (ark.pem, or its folder); proves no hardware")
	fs.BoolFunc("dev", "accept the platform that omega dev runs on this machine; proves nothing", o.acceptDev)
	fs.UintVar(&o.MinSVN, "min-svn", 0, "lowest security version of a release that is accepted")
	fs.BoolVar(&o.Offline, "offline", false, "ask no service for certificates: only evidence and cache")
	fs.StringVar(&o.KDS, "kds", collateral.KDS, "AMD's certificate service, or a mirror of it; asked where evidence brings no certificate")
	fs.StringVar(&o.KDSCache, "kds-cache", "", "folder that its answers are kept in (default: omega/kds in the user's cache folder)")
	o.callerFlags(fs)
}

// verifyPlatform fetches evidence and appraises it. There is an outcome beside
// the error wherever there was something to appraise.
func verifyPlatform(ctx context.Context, e *env, o verifyOptions) (*verification, error) {
	m, p, err := verifyParams(o)
	if err != nil {
		return nil, err
	}
	memory, err := o.recall(p)
	if err != nil {
		return nil, err
	}
	raw, refused, err := getEvidence(ctx, e, o, p)
	if err != nil {
		return refused, err
	}
	v := &verification{Source: o.Source, Verdict: attest.VerdictRefused, Manifest: m.path, ManifestSigned: m.signed, Policy: o.Policy}
	got, err := attest.ParseEvidence(raw)
	if err != nil {
		return nil, exit(exitSignature, fmt.Errorf("%w; next: ask again, and the platform itself: this is no evidence of Omega's, or it was changed on its way", err))
	}
	v.Evidence = p.Known.Fill(got)
	if p.CRL, err = revocations(ctx, o, got, p.AMDRoots, p.Now); err != nil {
		return v, err
	}
	whole, checks, err := endorsed(ctx, e, o, got, p.AMDRoots)
	if err != nil {
		v.Checks = checks
		return v, advise(v.Checks, err)
	}
	r, err := verifier.Appraise(whole, *p)
	v.Verdict, v.Checks = r.Verdict, slices.Concat(r.Checks, checks, []attest.Check{m.check()})
	if err == nil {
		err = o.opened(got)
	}
	if err == nil {
		err = v.invocation(o)
	}
	if err != nil {
		v.Verdict = attest.VerdictRefused
		return v, verifyExit(advise(v.Checks, err))
	}
	return v, memory.keep(whole, r, p)
}

// verifyParams is what a platform is held against, without the question.
func verifyParams(o verifyOptions) (*releaseManifest, *verifier.Params, error) {
	if o.MinSVN > math.MaxUint32 {
		return nil, nil, fmt.Errorf("--min-svn %d: want at most %d", o.MinSVN, uint32(math.MaxUint32))
	}
	if o.Instance == "" && o.Open != "" {
		return nil, nil, errors.New("--open needs --instance, the agent whose component it is")
	}
	policy, err := loadPolicy(o.Policy)
	if err != nil {
		return nil, nil, err
	}
	if policy != nil {
		o.manifestKeys = policy.ManifestKeys
	}
	m, err := loadManifest(o)
	if err != nil {
		return nil, nil, err
	}
	p := &verifier.Params{AllowDevProfile: o.Dev, Policy: policy, Manifest: m.manifest, Now: time.Now(), Report: snp.DefaultPolicy(), MinSVN: uint32(o.MinSVN)}
	if p.AMDRoots, err = snp.AMDRoots(); err != nil {
		return nil, nil, err
	}
	if o.Emulated != "" {
		if p.EmulatedRoot, err = readEmulatedRoot(o.Emulated); err != nil {
			return nil, nil, err
		}
	}
	if p.GPU, err = o.gpu(p.Policy); err != nil {
		return nil, nil, err
	}
	p.Revoked, err = o.revocations(p.Policy)
	return m, p, err
}

// verifyExit gives a refusal its exit code.
func verifyExit(err error) error {
	switch {
	case errors.Is(err, attest.ErrSignature):
		return exit(exitSignature, err)
	case errors.Is(err, attest.ErrCollateral):
		return exit(exitCollateral, err)
	case errors.Is(err, attest.ErrMismatch):
		return exit(exitMismatch, err)
	}
	return err
}

// parseMixed parses flags that stand before, between and behind the arguments,
// which it returns.
func parseMixed(fs *flag.FlagSet, args []string) ([]string, error) {
	var rest []string
	for {
		if err := fs.Parse(args); err != nil {
			return nil, err
		}
		if fs.NArg() == 0 {
			return rest, nil
		}
		rest = append(rest, fs.Arg(0))
		args = fs.Args()[1:]
	}
}
