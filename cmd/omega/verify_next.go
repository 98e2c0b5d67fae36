package main

import (
	"errors"
	"fmt"
	"strings"

	"omega/attest"
	"omega/attest/snp"
	"omega/attest/verifier"
)

// nextSteps is what a relying party can do about a check that failed, by the
// check's name.
var nextSteps = map[string]string{
	"signature":         "send it nothing; see that the clock here is right and ask again, and if it stays so tell the operator: report or certificates are not what they should be",
	"certificate":       certificateStep,
	"collateral":        "put the certificate where the message says, or let it be fetched, without --offline",
	"report_data":       "send it nothing; ask the platform itself and not a copy: what is shown is not what was signed",
	"nonce":             "ask the platform again; with a file, give the --nonce that it was asked with",
	"tls_key":           "send nothing over this connection; reach the platform without a proxy that opens TLS",
	"age":               "ask for evidence with a nonce of your own: omega verify",
	"measurement":       "get the manifest of the release that it should run; `omega measure --diff A B` says how two releases differ, `omega measure` computes what another machine's digest has to be",
	"host_data":         "have it launched with the launch config that you know, bound in HOST_DATA",
	"launch_config":     "have it launched with such a launch config, bound in HOST_DATA",
	"policy":            "get the manifest of the image that it should run, or have this one's launched",
	"profile":           "get the manifest of the image that it should run, or have this one's launched",
	"debug":             "have a profile without a shell launched; for a trial, allow_debug_profile in an appraisal policy accepts it",
	"svn":               "have the newer release launched",
	"expiry":            "get the manifest of a newer release, and have that launched",
	"vmpl":              "ask a platform whose image runs at this level; vmpl in an appraisal policy names another",
	"guest_policy":      "have it launched with a guest policy that denies these bits",
	"guest_policy_bits": "have it launched with the guest policy that the appraisal policy demands",
	"guest_svn":         "have a newer guest launched",
	"tcb":               "have the host's firmware and microcode updated and committed, and the guest launched anew; min_tcb in an appraisal policy sets another floor",
	"platform":          "have the host's firmware updated, so that it checks memory for aliases; allow_no_alias_check in an appraisal policy gives that up",
	"platform_bits":     "have the host's settings changed to what the appraisal policy demands",
	"id_key":            "have it launched with an ID block that such a key signed",
	"author_key":        "have it launched with an ID block whose key such an author signed",
	"agents":            "send it nothing; ask again, the platform itself and not a copy",
	"agent":             "send this agent nothing; ask its author, or the principal named, for what is signed",
	"log":               "send it nothing; ask again, the platform itself and not a copy",
	"gpu":               "have it launched on a machine whose GPU is as demanded; the reference values for driver and VBIOS are given with --rim",
	"gpu_session":       "ask again; if it stays so, have it launched on another machine",
	"gpu_identity":      "send it nothing: the GPUs were exchanged since it booted",
	"revoked":           "have what is revoked taken off the platform; get the newest list from those who sign it, and give it with --revoked",
	"must_run":          "have the agent deployed, or look at its state in `omega log show`",
	"must_not_run":      "ask a platform that was booted without it; where agents are not shown, ask with --caller-key",
	"principals":        "have the part signed by the keys that your appraisal policy names, or add the principal's key to it",
	"invocation":        "ask for the statement again, and for evidence of the boot that it is of; an agent that is not shown to you needs --caller-key or --token",
	"invocation_input":  "give the bytes that were asked, with --input, as they were sent; else rely on nothing in the answer",
	"invocation_output": "give the bytes that were answered, with --output, as they came; else rely on nothing in the answer",
}

// refusalSteps are what can be done about a report that does not verify, by the
// part that is refused.
var refusalSteps = map[string]string{
	snp.PartReport:      "take the 1184 bytes of the report as the secure processor gave them, without the driver's header, and not as text",
	snp.PartChain:       "take the certificates from AMD's key distribution service, for this product; with an emulated PSP, name its root with --allow-emulated",
	snp.PartExpiry:      "see that the clock here is right, and give --at the time of an old report; else get the chip's certificate anew",
	snp.PartRevocation:  "get AMD's newest list; where it names a certificate of the chain, rely on nothing below that: have the platform moved to another machine",
	snp.PartCertificate: "get the certificate of this very chip (CHIP_ID), at this TCB (REPORTED_TCB), from AMD's key distribution service, or the VLEK's from the cloud",
	snp.PartSignature:   "rely on nothing in it: the report was changed, or the certificate is another chip's; take both anew from one machine",
}

// nextStep is never empty.
func nextStep(name string) string {
	if strings.HasPrefix(name, "agent ") {
		name = "agent"
	}
	if step := nextSteps[name]; step != "" {
		return step
	}
	return "send it nothing, and tell the operator"
}

// trialStep is what can be done about evidence of an emulated PSP.
const trialStep = "for a trial, accept it by name with --allow-emulated ROOT, where ROOT is the ark.pem that `omega boot` names: the verdict is then \"emulated\""

// advise gives each check that failed, and the refusal itself, the next step.
func advise(checks []attest.Check, refusal error) error {
	first := ""
	for i := range checks {
		c := &checks[i]
		if c.Status != attest.Failed {
			continue
		}
		c.Next = nextStep(c.Name)
		if c.Name == "signature" {
			c.Next = signatureStep(refusal)
		}
		if first == "" {
			first = c.Next
		}
	}
	if refusal == nil || first == "" || strings.Contains(refusal.Error(), "; next: ") {
		return refusal
	}
	return fmt.Errorf("%w; next: %s", refusal, first)
}

// signatureStep is what to do where nobody can be said to have signed.
func signatureStep(refusal error) string {
	r := new(snp.Refusal)
	switch {
	case errors.Is(refusal, verifier.ErrEmulated):
		return trialStep
	case errors.Is(refusal, attest.ErrCollateral):
		return nextSteps["collateral"]
	case errors.As(refusal, &r):
		return refusalSteps[r.Part]
	}
	return nextSteps["signature"]
}

// classSteps are for refusals that are about no check, by their exit code.
var classSteps = map[int]string{
	exitSignature:  "send it nothing; get what is named here anew from who made it, and see that the clock here is right",
	exitCollateral: "get the file that is named here, or let it be fetched, and give it by the flag that takes it",
	exitMismatch:   "send it nothing; see that platform, manifest and what you asked for belong together",
}

// advised gives a refusal that does not say what to do next its class's step.
func advised(err error) error {
	code := exitCode(err)
	if err == nil || classSteps[code] == "" || strings.Contains(err.Error(), "next: ") {
		return err
	}
	return exit(code, fmt.Errorf("%w; next: %s", err, classSteps[code]))
}
