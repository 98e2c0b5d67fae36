package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/google/go-containerregistry/pkg/registry"
)

// demoHost is where a guest behind QEMU's user network finds this machine's
// loopback.
const demoHost = "10.0.2.2"

// A provider is a program of examples/ that stands outside of the platform.
type provider struct {
	name  string // of its package, and of its server in the policy
	pkg   string // in examples/
	host  string // that its certificate and the policy name
	owner string // the policy's principal who signs its tools; empty for a model
	key   string // the owner's
}

// demoProviders are everything that the demo's agents talk to.
var demoProviders = []provider{
	{"files", "./tools/files", "files.tools.omega.test", "archive", "files-owner"},
	{"notes", "./tools/notes", "notes.tools.omega.test", "notebook", "notes-owner"},
	{"scripted", "./llm/scripted", "llm.omega.test", "", ""},
}

// A demoAgent is one agent of the story.
type demoAgent struct {
	instance string
	name     string   // of the agent, as the policy has it, and of its program
	pkg      string   // in examples/
	servers  []string // that it may know
	author   string   // whose key signs for its author
	network  bool     // it is deployed over the network, and waits, once its task is done, until it is stopped
}

// weights names the model inside of the agent's bundle. What its author did not
// sign has none.
func (a demoAgent) weights() string {
	if a.author != "author" {
		return ""
	}
	return a.name + "-weights"
}

// demoAgents are the three agents. The third one says that it is the second; its
// author never signed it.
var demoAgents = []demoAgent{
	{"planner", "planner", "./agents/planner", []string{"files", "notes"}, "author", false},
	{"reporter", "reporter", "./agents/reporter", []string{"files"}, "author", true},
	{"impostor", "reporter", "./agents/reporter", []string{"files"}, "stranger", false},
}

// A world is what runs outside of the platform while the demo plays: a
// registry and the providers, all on loopback.
type world struct {
	dir      string            // records, certificates
	registry string            // host:port
	dial     map[string]string // name:443 -> address, as the guest sees it
	stops    []func()
}

// stop ends everything that was started, the latest first.
func (w *world) stop() {
	for i := len(w.stops) - 1; i >= 0; i-- {
		w.stops[i]()
	}
	w.stops = nil
}

// registryForGuest is the registry's address as the guest sees it.
func (w *world) registryForGuest() string {
	_, port, _ := net.SplitHostPort(w.registry)
	return net.JoinHostPort(demoHost, port)
}

// record returns the file in which a provider notes the calls that reach it.
func (w *world) record(name string) string { return filepath.Join(w.dir, name+".jsonl") }

// buildExamples compiles the example programs, each into a folder of its own
// in dir: an agent's folder becomes its image.
func buildExamples(ctx context.Context, e *env, source, dir string) error {
	step := e.progress("building the example agents and providers")
	defer step.Done()
	var packages []string
	for _, a := range demoAgents {
		if !slices.Contains(packages, a.pkg) {
			packages = append(packages, a.pkg)
		}
	}
	for _, p := range demoProviders {
		packages = append(packages, p.pkg)
	}
	for i, pkg := range packages {
		step.Set(int64(i), int64(len(packages)))
		cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w -buildid= -R 0x10000",
			"-o", programIn(dir, filepath.Base(pkg)), pkg)
		cmd.Dir = filepath.Join(source, "examples")
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOTOOLCHAIN=local", "GOFLAGS=", "GOOS=linux", "GOARCH=amd64")
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("building examples/%s: %w\n%s", strings.TrimPrefix(pkg, "./"), err, out)
		}
	}
	return nil
}

// programIn is where buildExamples puts a program.
func programIn(dir, name string) string { return filepath.Join(dir, name, name) }

// startWorld starts the registry and the providers.
func startWorld(ctx context.Context, keys *demoKeys, programs, dir string) (*world, error) {
	w := &world{dir: dir, dial: map[string]string{}}
	if err := w.startRegistry(); err != nil {
		return nil, err
	}
	for _, p := range demoProviders {
		if err := w.startProvider(ctx, keys, programIn(programs, p.name), p); err != nil {
			w.stop()
			return nil, fmt.Errorf("provider %s: %w", p.name, err)
		}
	}
	return w, nil
}

// startRegistry serves an empty OCI registry from memory.
func (w *world) startRegistry() error {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("registry: %w", err)
	}
	server := &http.Server{
		Handler:           registry.New(registry.WithReferrersSupport(true), registry.Logger(log.New(io.Discard, "", 0))),
		ReadHeaderTimeout: 10 * time.Second,
		ErrorLog:          log.New(io.Discard, "", 0),
	}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = server.Serve(listener) // ends when the demo closes it
	}()
	w.stops = append(w.stops, func() { server.Close(); <-served })
	w.registry = listener.Addr().String()
	return nil
}

// startProvider runs one provider and waits until it listens.
func (w *world) startProvider(ctx context.Context, keys *demoKeys, program string, p provider) error {
	cert, key, err := keys.issue(w.dir, p.host)
	if err != nil {
		return err
	}
	args := []string{"-cert", cert, "-key", key}
	if p.owner != "" {
		args = append(args, "-calls", w.record(p.name))
	}
	ready := make(chan string, 1)
	if err := w.run(ctx, ready, program, args...); err != nil {
		return err
	}
	select {
	case line := <-ready:
		_, port, err := net.SplitHostPort(strings.TrimPrefix(line, "listening "))
		if err != nil {
			return fmt.Errorf("first line %q: %w", line, err)
		}
		w.dial[net.JoinHostPort(p.host, "443")] = net.JoinHostPort(demoHost, port)
		return nil
	case <-time.After(10 * time.Second):
		return errors.New("not listening after 10 s")
	case <-ctx.Done():
		return ctx.Err()
	}
}

// run starts a program that ends with the demo, even when the demo is killed,
// and hands over the first line that it prints.
func (w *world) run(ctx context.Context, first chan<- string, program string, args ...string) error {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	started, ended := make(chan error, 1), make(chan struct{})
	go func() {
		defer close(ended)
		// The signal on death follows the thread that started the child.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err != nil {
			return
		}
		lines := bufio.NewReader(out)
		if line, err := lines.ReadString('\n'); err == nil {
			first <- strings.TrimSpace(line)
		}
		_, _ = io.Copy(io.Discard, lines)
		_ = cmd.Wait() // it was killed
	}()
	if err := <-started; err != nil {
		return err
	}
	w.stops = append(w.stops, func() { _ = cmd.Process.Kill(); <-ended })
	return nil
}
