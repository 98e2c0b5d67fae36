package main

import (
	"context"
	"crypto/ecdh"
	"crypto/ed25519"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"

	"omega/policy/provenance"
)

// logUsage is the one line of `omega log`'s arguments.
const logUsage = "verify|show|export|replay DIR|URL|DISK … | keygen --out DIR"

// runLog is `omega log`: what people do with a provenance log.
func runLog(ctx context.Context, e *env, args []string) error {
	actions := []struct {
		name string
		run  func(context.Context, *env, []string) error
	}{
		{"verify", runLogVerify},
		{"show", runLogShow},
		{"export", runLogExport},
		{"replay", runLogReplay},
		{"keygen", runLogKeygen},
	}
	if len(args) > 0 {
		for _, a := range actions {
			if a.name == args[0] {
				return a.run(ctx, e, args[1:])
			}
		}
	}
	if len(args) > 0 && (args[0] == "-h" || args[0] == "--help") {
		e.flags("log").Usage()
		return flag.ErrHelp
	}
	return fmt.Errorf("log: want one of %s", logUsage)
}

// logOptions say which log is meant, by what key, and who reads it.
type logOptions struct {
	From     string // folder or URL
	LogKey   ed25519.PublicKey
	Origin   string // empty: whatever the checkpoint's signature names
	Auditor  *ecdh.PrivateKey
	MinSize  uint64
	Previous []provenance.Checkpoint
	Each     func(provenance.Item) error
	Caller   caller // who asks a platform
}

// verifyLog proves a whole log. Its error carries the exit code.
func verifyLog(ctx context.Context, e *env, o logOptions) (*provenance.Summary, error) {
	src, err := logSource(ctx, o.From, o.Origin, o.Caller)
	if err != nil {
		return nil, err
	}
	bar := e.progress("verifying the log")
	defer bar.Done()
	sum, err := provenance.Verify(ctx, src, provenance.Options{
		LogKey: o.LogKey, Origin: o.Origin, Auditor: o.Auditor,
		MinSize: o.MinSize, Previous: o.Previous, Each: o.Each,
		Progress: func(done, total uint64) { bar.Set(int64(done), int64(total)) },
	})
	return sum, logExit(err)
}

// logExit gives a refused log the exit code of DESIGN section 12.
func logExit(err error) error {
	for _, target := range []error{
		provenance.ErrSignature, provenance.ErrTampered, provenance.ErrFraming, provenance.ErrSealed,
	} {
		if errors.Is(err, target) {
			return exit(exitSignature, err)
		}
	}
	switch {
	case errors.Is(err, provenance.ErrFork):
		return exit(exitMismatch, err)
	case errors.Is(err, errUnreachable):
		return exit(exitCollateral, err)
	}
	return err
}

// logFlags are the arguments that verify, show and replay share.
type logFlags struct {
	set      *flag.FlagSet
	logKey   *string
	evidence *string
	key      *string
	origin   *string
	minSize  *uint64
	previous *string
	verify   verifyOptions
	json     *bool
}

func newLogFlags(e *env) *logFlags {
	fs := e.flags("log")
	f := &logFlags{
		set:      fs,
		logKey:   fs.String("log-key", "", "the log's Ed25519 public key in hex, from evidence that was verified"),
		evidence: fs.String("evidence", "", "evidence `file` that names the log key; verify it with `omega verify`"),
		key:      fs.String("key", "", "auditor's private key, PEM `file`; without it entries stay sealed"),
		origin:   fs.String("origin", "", "the log's origin, omega/<boot id>"),
		minSize:  fs.Uint64("min-size", 0, "refuse a log with fewer entries than were seen before"),
		previous: fs.String("previous", "", "`file` with a checkpoint that was seen before; the log must continue it"),
		json:     fs.Bool("json", false, "data as JSON"),
	}
	f.verify.releaseFlags(fs)
	fs.StringVar(&f.verify.Policy, "appraisal-policy", "", "appraisal policy (JSON) that a platform is held against")
	return f
}

// options reads the arguments and finds out by what key the log is judged.
func (f *logFlags) options(ctx context.Context, e *env, args []string) (logOptions, error) {
	from, err := oneArgument(f.set, args)
	if err != nil {
		return logOptions{}, err
	}
	o := logOptions{From: from, Origin: *f.origin, MinSize: *f.minSize}
	if o.Caller, err = f.verify.caller(); err != nil {
		return logOptions{}, err
	}
	if err := f.findKey(ctx, e, &o); err != nil {
		return logOptions{}, err
	}
	if *f.key != "" {
		if o.Auditor, err = readAuditorKey(*f.key); err != nil {
			return logOptions{}, err
		}
	}
	if *f.previous != "" {
		b, err := os.ReadFile(*f.previous)
		if err != nil {
			return logOptions{}, err
		}
		seen, err := provenance.OpenCheckpoint(b, o.Origin, o.LogKey)
		if err != nil {
			return logOptions{}, logExit(fmt.Errorf("%s: %w", *f.previous, err))
		}
		o.Previous = append(o.Previous, seen)
	}
	return o, nil
}

// findKey takes the log key from --log-key, from --evidence, from the evidence
// beside an exported log, or from the platform that serves the log, which is
// then verified, and says what that is worth.
func (f *logFlags) findKey(ctx context.Context, e *env, o *logOptions) error {
	given := *f.logKey != "" || *f.evidence != ""
	if strings.HasPrefix(o.From, "https://") && (!given || o.Caller.token != "") {
		ev, err := f.verify.logPlatform(ctx, e, o.From, &o.Caller)
		if err != nil {
			return err
		}
		if !given {
			return o.judgedBy(ev, "the platform's evidence")
		}
	}
	if *f.logKey != "" {
		b, err := hex.DecodeString(*f.logKey)
		if err != nil || len(b) != ed25519.PublicKeySize {
			return fmt.Errorf("--log-key: want %d bytes in hex", ed25519.PublicKeySize)
		}
		o.LogKey = b
		return nil
	}
	path := *f.evidence
	if path == "" {
		path = besideLog(o.From)
	}
	if path == "" {
		return errors.New("log: --log-key HEX or --evidence FILE is needed, from evidence that you verified, or the https URL of the platform")
	}
	ev, err := readEvidence(path)
	if err != nil {
		return fmt.Errorf("log key: %w", err)
	}
	e.sayf("log key from %s: worth what that evidence is; verify it with `omega verify %s`", path, path)
	return o.judgedBy(ev, path)
}

// judgedBy takes the log's key and origin from evidence, and the checkpoint that
// the log must continue.
func (o *logOptions) judgedBy(ev *logEvidence, from string) error {
	o.LogKey = ev.key
	if o.Origin == "" {
		o.Origin = ev.origin
	}
	seen, err := provenance.OpenCheckpoint(ev.checkpoint, ev.origin, ev.key)
	if err != nil {
		return exit(exitSignature, fmt.Errorf("%s: its checkpoint: %w", from, err))
	}
	o.Previous = append(o.Previous, seen)
	return nil
}

// oneArgument parses flags that may stand before and after the one argument.
func oneArgument(fs *flag.FlagSet, args []string) (string, error) {
	if err := fs.Parse(args); err != nil {
		return "", err
	}
	if fs.NArg() == 0 {
		return "", errors.New("log: a folder or URL is needed")
	}
	one := fs.Arg(0)
	if err := fs.Parse(fs.Args()[1:]); err != nil {
		return "", err
	}
	if fs.NArg() != 0 {
		return "", fmt.Errorf("unexpected argument %q", fs.Arg(0))
	}
	return one, nil
}

// runLogVerify is `omega log verify`.
func runLogVerify(ctx context.Context, e *env, args []string) error {
	f := newLogFlags(e)
	o, err := f.options(ctx, e, args)
	if err != nil {
		return err
	}
	sum, err := verifyLog(ctx, e, o)
	if err != nil {
		return err
	}
	if *f.json {
		err = json.NewEncoder(e.Stdout).Encode(logResult(sum))
	} else {
		printSummary(e, sum, o)
	}
	if err != nil {
		return err
	}
	return judge(sum, o.Auditor != nil)
}

// judge turns what the entries say into an exit code: a log whose hashes hold
// can still tell of something that must not happen.
func judge(sum *provenance.Summary, wanted bool) error {
	if n := sum.Violations(); n > 0 {
		return exit(exitMismatch, fmt.Errorf("%d entries break the log's rules", n))
	}
	if wanted && sum.Entries > 0 && sum.Readable == 0 {
		return exit(exitMismatch, errors.New("no epoch of this log is sealed for that auditor's key"))
	}
	return nil
}
