package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"omega/policy/provenance"
)

// benchAgent is the demo's agent that runs to its end.
const benchAgent = "planner"

// benchAgents starts agents on this machine and in a virtual one.
func benchAgents(ctx context.Context, e *env, o benchOptions) ([]benchRow, error) {
	rows, err := benchSandbox(ctx, e, o.Runs)
	if err != nil {
		return nil, err
	}
	for _, inside := range []func() ([]benchRow, error){
		func() ([]benchRow, error) { return benchPlatformMemory(ctx, e) },
		func() ([]benchRow, error) { return benchAgentsInside(ctx, e, o) },
	} {
		more, err := inside()
		if err != nil {
			return nil, err
		}
		rows = append(rows, more...)
	}
	return rows, nil
}

// benchAgentsInside boots the demo's world and reads from the provenance log how long
// an agent took from its admission to its first call: sandbox, the agent's own
// runtime, and the way through the gateway are all in it.
func benchAgentsInside(ctx context.Context, e *env, o benchOptions) (rows []benchRow, err error) {
	bar := e.progress("starting agents")
	defer bar.Done()
	// The demo's words are not this verb's.
	d := &demo{e: &env{Stdin: strings.NewReader(""), Stdout: io.Discard, Stderr: io.Discard}, yes: os.Getenv("YES") == "1"}
	if err := d.open(ctx); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, d.close()) }()
	for _, step := range []func(context.Context) error{d.build, d.publish} {
		if err := step(ctx); err != nil {
			return nil, err
		}
	}
	var times []float64
	accel := ""
	for n := range o.Runs {
		bar.Set(int64(n), int64(o.Runs))
		if err := d.boot(ctx); err != nil {
			return nil, err
		}
		accel = d.machine.Accel
		ms, err := d.coldStart(ctx, filepath.Join(d.run, fmt.Sprintf("bench-log-%d", n)))
		if err != nil {
			return nil, err
		}
		times = append(times, ms)
		if err := d.powerOff(ctx); err != nil {
			return nil, err
		}
	}
	return []benchRow{{
		Name: "agents/admitted-to-first-call/" + accel, Ours: median(times), Unit: "ms",
		Published: publishedStart + "; a VM for each agent: omega bench boot",
	}}, nil
}

// coldStart waits until the agent is done and reads its times from the log.
func (d *demo) coldStart(ctx context.Context, copyTo string) (float64, error) {
	exited, err := d.hear(ctx, "agent "+benchAgent+" exited")
	if err != nil {
		return 0, err
	}
	if exited.words != "agent "+benchAgent+" exited 0" {
		return 0, fmt.Errorf("guest: %s", exited.words)
	}
	if _, err := exportLog(ctx, d.e, d.url(), copyTo, caller{}); err != nil {
		return 0, err
	}
	ev, err := readEvidence(filepath.Join(copyTo, evidenceFile))
	if err != nil {
		return 0, err
	}
	auditor, err := readAuditorKey(d.keys.path("auditor.pem"))
	if err != nil {
		return 0, err
	}
	var admitted, called time.Time
	_, err = verifyLog(ctx, d.e, logOptions{
		From: copyTo, LogKey: ev.key, Origin: ev.origin, Auditor: auditor,
		Each: func(item provenance.Item) error {
			x := item.Entry
			switch {
			case x == nil || x.Agent != benchAgent:
			case x.Kind == provenance.KindAdmission:
				admitted = x.Time
			case x.Kind == provenance.KindIntent && called.IsZero():
				called = x.Time
			}
			return nil
		},
	})
	if err != nil {
		return 0, err
	}
	if admitted.IsZero() || called.IsZero() {
		return 0, fmt.Errorf("the log names no admission or no call of %s", benchAgent)
	}
	return float64(called.Sub(admitted).Milliseconds()), nil
}
