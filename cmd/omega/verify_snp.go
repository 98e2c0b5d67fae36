package main

import (
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"time"

	"omega/attest"
	"omega/attest/snp"
	"omega/attest/verifier"
)

// verifySNPUsage is the one line of `omega verify snp`'s arguments.
const verifySNPUsage = "--report F (--vcek F|--vlek F) [--ask F --ark F] [--policy F] [--crl F] [--at RFC3339] [--allow-emulated ROOT] [--json]"

// snpOptions say which raw report is verified, by which certificates.
type snpOptions struct {
	Report, VCEK, VLEK, ASK, ARK string
	Policy, At, Emulated, CRL    string
}

// snpOutcome is what `omega verify snp` prints.
type snpOutcome struct {
	Verdict string `json:"verdict"`
	// What follows is nothing where nobody is known to have signed.
	Product snp.Product    `json:"product,omitempty"`
	Expires time.Time      `json:"certificates_expire,omitzero"`
	Report  *snpFields     `json:"report,omitempty"`
	TCB     map[string]int `json:"reported_tcb_parts,omitempty"`
	Checks  []attest.Check `json:"checks"`
}

// snpFields are the fields of a report under AMD's names.
type snpFields struct {
	Version         uint32         `json:"version"`
	GuestSVN        uint32         `json:"guest_svn"`
	Policy          string         `json:"policy"`
	FamilyID        attest.Bytes16 `json:"family_id"`
	ImageID         attest.Bytes16 `json:"image_id"`
	VMPL            uint32         `json:"vmpl"`
	SigningKey      string         `json:"signing_key"`
	PlatformInfo    string         `json:"platform_info"`
	CurrentTCB      snp.TCB        `json:"current_tcb"`
	ReportedTCB     snp.TCB        `json:"reported_tcb"`
	CommittedTCB    snp.TCB        `json:"committed_tcb"`
	LaunchTCB       snp.TCB        `json:"launch_tcb"`
	Measurement     attest.Bytes48 `json:"measurement"`
	ReportData      attest.Bytes64 `json:"report_data"`
	HostData        attest.Bytes32 `json:"host_data"`
	IDKeyDigest     attest.Bytes48 `json:"id_key_digest"`
	AuthorKeyDigest attest.Bytes48 `json:"author_key_digest"`
	ChipID          attest.Bytes64 `json:"chip_id"`
}

// runVerifySNP is `omega verify snp`: one raw report against AMD's roots.
func runVerifySNP(e *env, args []string) error {
	var o snpOptions
	flags := e.flags("verify snp")
	flags.StringVar(&o.Report, "report", "", "the raw report")
	flags.StringVar(&o.VCEK, "vcek", "", "certificate of the chip's key (PEM or DER)")
	flags.StringVar(&o.VLEK, "vlek", "", "certificate of the cloud provider's key (PEM or DER)")
	flags.StringVar(&o.ASK, "ask", "", "the ASK or ASVK above it (default: AMD's, known)")
	flags.StringVar(&o.ARK, "ark", "", "the ARK above that; it must be AMD's")
	flags.StringVar(&o.Policy, "policy", "", "appraisal policy (JSON); without it, only signature, chain and certificate are checked")
	flags.StringVar(&o.At, "at", "", "the time at which certificates must be valid (default now)")
	flags.StringVar(&o.Emulated, "allow-emulated", "", "accept an emulated PSP under this root instead of AMD's")
	flags.StringVar(&o.CRL, "crl", "", "AMD's list of revoked certificates (DER or PEM); it must name none of the chain")
	asJSON := flags.Bool("json", false, "print JSON")
	rest, err := parseMixed(flags, args)
	if err != nil {
		return err
	}
	if len(rest) != 0 || o.Report == "" {
		return fmt.Errorf("verify snp: want %s", verifySNPUsage)
	}
	out, err := verifySNP(o)
	if out != nil {
		if err := out.print(e.Stdout, *asJSON); err != nil {
			return err
		}
	}
	return advised(verifyExit(err))
}

func verifySNP(o snpOptions) (*snpOutcome, error) {
	raw, err := readBounded(o.Report, 64<<10)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	if o.At != "" {
		if now, err = time.Parse(time.RFC3339, o.At); err != nil {
			return nil, fmt.Errorf("--at: %w", err)
		}
	}
	chain, err := o.chain()
	switch refused := new(snp.Refusal); {
	case errors.Is(err, attest.ErrCollateral):
		return refusedSNP("collateral", err)
	case errors.As(err, &refused):
		return refusedSNP("signature", err)
	case errors.Is(err, attest.ErrSignature):
		return refusedSNP("certificate", err)
	case err != nil:
		return nil, err
	}
	roots, err := o.roots()
	if err != nil {
		return nil, err
	}
	v, err := snp.Verify(raw, chain, roots, now)
	if err != nil {
		return refusedSNP("signature", err)
	}
	fields := fieldsOf(v.Report)
	out := &snpOutcome{Verdict: attest.VerdictVerified, Product: v.Product, Expires: v.Expires, Report: &fields, TCB: map[string]int{}}
	if o.Emulated != "" {
		out.Verdict = attest.VerdictEmulated
	}
	parts, err := v.Report.ReportedTCB.Parts(v.Product)
	if err != nil {
		return nil, err
	}
	for name, svn := range parts {
		out.TCB[name] = int(svn)
	}
	return out, o.appraise(out, v)
}

// refusedSNP is the outcome of a report that does not verify.
func refusedSNP(check string, err error) (*snpOutcome, error) {
	out := &snpOutcome{Verdict: attest.VerdictRefused, Checks: []attest.Check{verifier.FailedCheck(check, err)}}
	return out, advise(out.Checks, err)
}

// chain reads the certificates, one or several in each file. One that is not
// there is missing collateral.
func (o *snpOptions) chain() (c snp.Chain, err error) {
	leaf := o.VCEK
	if leaf == "" {
		leaf = o.VLEK
	}
	if leaf == "" {
		return c, noCertificate("the certificate of the signing key", "none: give it with --vcek or --vlek")
	}
	if o.VCEK != "" && o.VLEK != "" {
		return c, errors.New("--vcek and --vlek: a report has one signing key")
	}
	var all []*x509.Certificate
	for _, path := range []string{leaf, o.ASK, o.ARK} {
		if path == "" {
			continue
		}
		certs, err := readCertificates(path)
		if errors.Is(err, fs.ErrNotExist) {
			return c, noCertificate("a certificate in "+path, "no such file")
		}
		if err != nil {
			return c, err
		}
		all = append(all, certs...)
	}
	if c, err = snp.NewChain(all); err != nil {
		return c, err
	}
	if c.CRL, err = readCRL(o.CRL); errors.Is(err, fs.ErrNotExist) {
		err = noCertificate("a list of revoked certificates in "+o.CRL, "no such file")
	}
	return c, err
}

func noCertificate(expected, found string) error {
	return &verifier.Refusal{Class: attest.ErrCollateral, Words: "what the report is to be held against is not there", Expected: expected, Found: found}
}

func (o *snpOptions) roots() ([]snp.Root, error) {
	if o.Emulated == "" {
		return snp.AMDRoots()
	}
	ark, err := readEmulatedRoot(o.Emulated)
	if err != nil {
		return nil, err
	}
	return []snp.Root{{Product: snp.Milan, ARK: ark}}, nil
}

// appraise holds a verified report against the appraisal policy, if any.
func (o *snpOptions) appraise(out *snpOutcome, v *snp.Verified) error {
	if o.Policy == "" {
		out.Checks = []attest.Check{{Name: "appraisal", Status: attest.NotProven, Words: "no policy was given: the fields of the report were not held against anything"}}
		return nil
	}
	b, err := readBounded(o.Policy, 64<<10)
	if err != nil {
		return err
	}
	p, err := snp.ParsePolicy(b)
	if err != nil {
		return err
	}
	out.Checks = p.Check(v)
	for _, words := range p.Relaxations() {
		out.Checks = append(out.Checks, attest.Check{Name: "relaxed", Status: attest.NotProven, Words: words})
	}
	_ = advise(out.Checks, nil) // each check its step
	for _, c := range out.Checks {
		if c.Status == attest.Failed {
			out.Verdict = attest.VerdictRefused
			return fmt.Errorf("%w: %s: found %s, expected %s; next: %s", attest.ErrMismatch, c.Name, c.Found, c.Expected, c.Next)
		}
	}
	return nil
}

func fieldsOf(r *snp.Report) snpFields {
	return snpFields{
		Version: r.Version, GuestSVN: r.GuestSVN, VMPL: r.VMPL,
		Policy: fmt.Sprintf("%#x", uint64(r.GuestPolicy)), PlatformInfo: fmt.Sprintf("%#x", uint64(r.PlatformInfo)),
		FamilyID: r.FamilyID, ImageID: r.ImageID, SigningKey: r.SigningKey.String(),
		CurrentTCB: r.CurrentTCB, ReportedTCB: r.ReportedTCB, CommittedTCB: r.CommittedTCB, LaunchTCB: r.LaunchTCB,
		Measurement: r.Measurement, ReportData: r.ReportData, HostData: r.HostData,
		IDKeyDigest: r.IDKeyDigest, AuthorKeyDigest: r.AuthorKeyDigest, ChipID: r.ChipID,
	}
}

func (o *snpOutcome) print(w io.Writer, asJSON bool) error {
	if asJSON {
		enc := json.NewEncoder(w)
		enc.SetIndent("", "  ")
		return enc.Encode(o)
	}
	r := o.Report
	if r == nil {
		fmt.Fprintf(w, "%s\n", strings.ToUpper(o.Verdict))
		printChecks(w, o.Checks)
		return nil
	}
	fmt.Fprintf(w, "%s: report version %d of %s, signed by a %s\n", strings.ToUpper(o.Verdict), r.Version, o.Product, r.SigningKey)
	for _, f := range []struct {
		name  string
		value any
	}{
		{"measurement", r.Measurement}, {"report_data", r.ReportData}, {"host_data", r.HostData},
		{"policy", r.Policy}, {"vmpl", r.VMPL}, {"guest_svn", r.GuestSVN}, {"platform_info", r.PlatformInfo},
		{"reported_tcb", r.ReportedTCB}, {"chip_id", r.ChipID},
	} {
		fmt.Fprintf(w, "  %-16s %v\n", f.name, f.value)
	}
	printChecks(w, o.Checks)
	return nil
}
