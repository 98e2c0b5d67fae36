package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"omega/images"
	"omega/internal/cache"
)

// demoUsage is the one line of `omega demo`'s arguments.
const demoUsage = "[--yes] [--json]"

// demoTimeout ends a demo in which something hangs. A first build takes most
// of it.
const demoTimeout = 40 * time.Minute

// A demo is one performance of the whole story on this machine. What lasts
// from run to run lies in dir; what belongs to this run lies in run.
type demo struct {
	e      *env
	source string // the checkout
	dir    string
	run    string
	yes    bool

	keys      *demoKeys
	artifacts *images.Artifacts
	world     *world
	config    string // launch config file
	second    bundleRef
	machine   *vm
	console   *transcript
	report    demoReport
	unlock    func()
}

// A demoStep is one step of the story.
type demoStep struct {
	name string
	run  func(ctx context.Context) error
}

// steps is the story, in order. The first step that does not go as it must
// ends it.
func (d *demo) steps() []demoStep {
	return []demoStep{
		{"build the image and what it will be measured as", d.build},
		{"publish three signed agent bundles in a local registry", d.publish},
		{"boot the image in QEMU", d.boot},
		{"the guest's phases, until it serves evidence and is ready", d.phases},
		{"deploy agent two over the network", d.deploy},
		{"agent one is refused one call, agent two works, agent three is refused altogether", d.agents},
		{"verify the platform from outside, two agents with every principal", d.verify},
		{"change, replay and relay that evidence", d.refuse},
		{"stop agent two by a signed removal", d.remove},
		{"prove the provenance log, then tamper with a copy", d.log},
		{"power off", d.powerOff},
	}
}

func runDemo(ctx context.Context, e *env, args []string) error {
	fs := e.flags("demo")
	asJSON := fs.Bool("json", false, "print the closing table as JSON")
	yes := fs.Bool("yes", os.Getenv("YES") == "1", "answer every question with yes; so does YES=1")
	if err := fs.Parse(args); err != nil {
		return err
	}
	d := &demo{e: e, yes: *yes}
	if err := d.open(ctx); err != nil {
		return errors.Join(err, d.close())
	}
	ctx, cancel := context.WithTimeout(ctx, demoTimeout)
	defer cancel()
	err := errors.Join(d.play(ctx), d.close())
	d.report.OK = err == nil
	if *asJSON {
		err = errors.Join(err, d.report.json(e.Stdout))
	} else {
		d.report.table(e.Stdout)
	}
	return err
}

// open finds the checkout and prepares the demo's folders.
func (d *demo) open(ctx context.Context) error {
	var err error
	if d.source, err = sourceRoot(); err != nil {
		return err
	}
	c, err := cache.Open("")
	if err != nil {
		return err
	}
	d.dir = filepath.Join(c.Root(), "demo")
	d.run = filepath.Join(d.dir, "run")
	if err := os.MkdirAll(d.dir, 0o700); err != nil {
		return err
	}
	// One demo at a time: a second one waits for the first.
	if d.unlock, err = cache.Lock(ctx, filepath.Join(d.dir, "lock")); err != nil {
		return err
	}
	if err := os.RemoveAll(d.run); err != nil {
		return err
	}
	if err := os.MkdirAll(d.run, 0o700); err != nil {
		return err
	}
	d.keys, err = openDemoKeys(filepath.Join(d.dir, "policy", "keys"))
	return err
}

// play runs the steps and times them.
func (d *demo) play(ctx context.Context) error {
	d.e.sayf("The whole path on one machine: everything below runs the real code. Only two things stand in for others:")
	d.e.sayf("the language model is a script, and where there is no SEV-SNP the PSP is emulated, outside of the VM.")
	for i, step := range d.steps() {
		d.e.sayf("\n%d. %s", i+1, step.name)
		begin := time.Now()
		err := step.run(ctx)
		took := time.Since(begin)
		d.report.Steps = append(d.report.Steps, stepReport{step.name, took.Seconds(), err == nil})
		if err != nil {
			if d.console != nil {
				d.console.tellAll()
			}
			return fmt.Errorf("step %d, %s: %w", i+1, step.name, err)
		}
		d.e.sayf("   done in %s", took.Round(100*time.Millisecond))
	}
	d.e.sayf("\nWhat was made for this run stays in %s until the next one.", d.run)
	return nil
}

// close stops whatever still runs.
func (d *demo) close() error {
	var err error
	if d.machine != nil {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		err = d.machine.Stop(ctx)
		d.machine = nil
	}
	if d.world != nil {
		d.world.stop()
	}
	if d.unlock != nil {
		d.unlock()
	}
	return err
}

// sayf prints one line of the story.
func (d *demo) sayf(format string, args ...any) { d.e.sayf("   "+format, args...) }

// verb runs a verb as the command line would, showing the command and its
// words, and returns what it printed to stdout.
func (d *demo) verb(ctx context.Context, args ...string) ([]byte, error) {
	d.sayf("$ omega %s", d.short(strings.Join(args, " ")))
	var out bytes.Buffer
	sub := &env{Stdin: strings.NewReader(""), Stdout: &out, Stderr: &indenter{w: d.e.Stderr, prefix: "     "}}
	for _, v := range verbs() {
		if v.name == args[0] {
			err := v.run(ctx, sub, args[1:])
			sub.report(ctx, err)
			return out.Bytes(), err
		}
	}
	return nil, fmt.Errorf("no verb named %s", args[0])
}

// short writes paths as they are seen from the checkout and from home.
func (d *demo) short(words string) string {
	if d.source != "" {
		words = strings.ReplaceAll(words, d.source+"/", "")
	}
	if home, err := os.UserHomeDir(); err == nil && home != "/" {
		words = strings.ReplaceAll(words, home+"/", "~/")
	}
	return words
}

// exitCode is the code that the process would end with.
func exitCode(err error) int {
	var coded *exitError
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &coded):
		return coded.code
	}
	return exitUsage
}

// An indenter puts a prefix before each line.
type indenter struct {
	w      io.Writer
	prefix string
	inside bool // a line has begun
}

// Write implements io.Writer.
func (i *indenter) Write(b []byte) (int, error) {
	for line := range bytes.Lines(b) {
		if !i.inside {
			if _, err := io.WriteString(i.w, i.prefix); err != nil {
				return 0, err
			}
		}
		if _, err := i.w.Write(line); err != nil {
			return 0, err
		}
		i.inside = !bytes.HasSuffix(line, []byte("\n"))
	}
	return len(b), nil
}
