package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
)

// A verb is one subcommand. Its file holds everything it does.
type verb struct {
	name  string
	usage string // arguments, in one line
	help  string // what it does, in one sentence
	run   func(ctx context.Context, e *env, args []string) error
}

// verbs is the command line, in the order in which help shows it.
func verbs() []verb {
	return []verb{
		{"demo", demoUsage, "plays the whole story on this machine; needs no SEV hardware", runDemo},
		{"build", buildUsage, "builds the guest image and its manifest; what is unchanged comes from the cache", runBuild},
		{"convert", convertUsage, "writes a built image as one EFI program or as a disk, in the form that a cloud takes", runConvert},
		{"boot", bootUsage, "boots the guest in QEMU, as an SNP guest where the host can", runBoot},
		{"dev", devUsage, "runs the platform as ordinary processes on this machine, for writing agents; never attested", runDev},
		{"tools", "[--tests] [--yes]", "installs the Debian packages that the other verbs need; asks first", runTools},
		{"bundle", bundleUsage, "makes, signs and checks agent bundles in an OCI registry", runBundle},
		{"policy", policyUsage, "checks, compiles, explains and tries agent policies", runPolicy},
		{"measure", measureUsage, "computes the launch digest that a machine reports, or says why two manifests differ", runMeasure},
		{"manifest", manifestUsage, "signs a release's manifest, or checks who signed it and whether it still counts", runManifest},
		{"verify", verifyUsage, "appraises a platform's evidence and says in words what was and was not proven", runVerify},
		{"connect", connectUsage, "lets ordinary clients on this machine talk to a platform that is verified, and stays so", runConnect},
		{"deploy", deployUsage, "has a platform run an agent or stop one, by a signed statement, after verifying it", runDeploy},
		{"agents", agentsUsage, "shows the agents of a platform that are yours to see, after verifying it", runAgents},
		{"invoke", invokeUsage, "asks an agent of a platform, after verifying it, and checks who answered what", runInvoke},
		{"approve", approveUsage, "shows what agents ask people, and signs the answer to one question", runApprove},
		{"log", logUsage, "proves a provenance log and shows what it tells", runLog},
		{"repro", reproUsage, "builds the image twice under varied conditions and compares; or once, against a release", runRepro},
		{"vuln", vulnUsage, "looks for known vulnerabilities in what is called, but for the exceptions in openvex.json", runVuln},
		{"bench", benchUsage, "measures, and compares with references and published figures", runBench},
	}
}

// main runs one verb and returns the process's exit code.
func (e *env) main(ctx context.Context, args []string) int {
	if len(args) == 0 || args[0] == "help" || args[0] == "-h" || args[0] == "--help" {
		e.help()
		if len(args) == 0 {
			return exitUsage
		}
		return exitOK
	}
	for _, v := range verbs() {
		if v.name == args[0] {
			return e.report(ctx, v.run(ctx, e, args[1:]))
		}
	}
	return e.report(ctx, fmt.Errorf("unknown verb %q; `omega help` lists them", args[0]))
}

// report turns a verb's error into words on stderr and an exit code.
func (e *env) report(ctx context.Context, err error) int {
	switch {
	case err == nil, errors.Is(err, flag.ErrHelp):
		return exitOK
	case ctx.Err() != nil:
		fmt.Fprintln(e.Stderr, "omega: interrupted; everything that was started has been stopped")
	default:
		fmt.Fprintf(e.Stderr, "omega: %v\n", err)
	}
	var coded *exitError
	if errors.As(err, &coded) {
		return coded.code
	}
	return exitUsage
}

func (e *env) help() {
	fmt.Fprintln(e.Stderr, "omega: a measured, reproducible guest image that makes a confidential VM a platform for AI agents")
	fmt.Fprintln(e.Stderr)
	for _, v := range verbs() {
		fmt.Fprintf(e.Stderr, "  %-8s %s\n", v.name, v.help)
	}
	fmt.Fprintln(e.Stderr, "\n`omega VERB -h` shows a verb's arguments. Exit codes: 0 good; 1 usage or internal error; 2 signature,")
	fmt.Fprintln(e.Stderr, "chain or expiry not valid; 3 collateral not available; 4 values differ from what is expected, or policy says no.")
}

// flags returns the flag set of a verb; its usage line and help come from verbs.
func (e *env) flags(name string) *flag.FlagSet {
	fs := flag.NewFlagSet(name, flag.ContinueOnError)
	fs.SetOutput(e.Stderr)
	fs.Usage = func() {
		for _, v := range verbs() {
			if v.name == name {
				fmt.Fprintf(e.Stderr, "omega %s %s\n%s\n", v.name, v.usage, v.help)
			}
		}
		fs.PrintDefaults()
	}
	return fs
}
