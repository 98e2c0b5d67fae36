package sandbox

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strconv"
	"syscall"

	"omega/internal/strictjson"
)

// Native has a sandbox run on the guest's own kernel in the place of gVisor: for inference engines, whose
// programs the platform does not share a secret with, and which have to be fast and near a device. What
// confines them is the Stage's: namespaces, a read-only root, no network, Landlock, seccomp.
type Native struct {
	UID     int      // user and group id, which no other process has
	Devices []string // nodes of the machine that it may use
}

// Plan is what the stage is told, as JSON on its standard input.
type Plan struct {
	Root     string   `json:"root"` // an empty folder to mount on
	Files    []File   `json:"files"`
	Devices  []string `json:"devices"`
	Command  []string `json:"command"` // with the shim
	Env      []string `json:"env"`
	Dir      string   `json:"dir"`
	Hostname string   `json:"hostname"`
	UID      int      `json:"uid"`
	Scratch  int64    `json:"scratch"` // bytes of /tmp
	Tasks    int64    `json:"tasks"`
	Ports    []int    `json:"ports"` // of its own loopback that it may serve on and dial
}

// maxPlan bounds a plan's JSON: command and environment are at most a megabyte.
const maxPlan = 4 << 20

// ParsePlan reads a plan strictly.
func ParsePlan(b []byte) (*Plan, error) {
	p := new(Plan)
	if err := strictjson.Decode(b, p, strictjson.Limits{MaxBytes: maxPlan}); err != nil {
		return nil, fmt.Errorf("plan: %w", err)
	}
	for _, name := range []string{p.Root, p.Dir} {
		if !path.IsAbs(name) {
			return nil, fmt.Errorf("plan: path %.80q", name)
		}
	}
	for _, f := range p.Files {
		if !path.IsAbs(f.Path) || path.Clean(f.Path) != f.Path || path.Dir(f.Path) == "/" || path.Dir(path.Dir(f.Path)) != "/" || !path.IsAbs(f.Source) {
			return nil, fmt.Errorf("plan: file %.80q", f.Path)
		}
	}
	if len(p.Command) == 0 || p.UID < minUID || p.Scratch <= 0 || p.Tasks <= 0 {
		return nil, errors.New("plan: no command, user or bounds")
	}
	return p, nil
}

// minUID is above the users of the platform's own processes and of agents.
const minUID = 10_000

// gatewayPort is where the shim listens (Env has the same).
const gatewayPort = 3128

// The descriptors that the stage of a native sandbox gets beside its plan, in order of ExtraFiles. It closes
// that of the EROFS image and hands the others on.
const (
	nativeLinkFD = hostFD + iota
	nativeGateFD
	NativeImageFD
	nativeInboundFD
	NativeEndFD // none from here on
)

// plan says how the sandbox is to be confined.
func (s *Sandbox) plan() Plan {
	spec := s.spec
	limits := spec.Limits.withDefaults()
	p := Plan{
		Root:  filepath.Join(s.runner.cfg.bundle(s.box), "root"),
		Files: append([]File{}, spec.Files...), Devices: append([]string{}, spec.Native.Devices...),
		Command: append([]string{shimPath, "--"}, spec.Command...), Env: append([]string{}, spec.Env...),
		Dir: spec.Dir, Hostname: spec.Hostname, UID: spec.Native.UID,
		Scratch: limits.MemoryBytes / 2, Tasks: limits.Processes + shimTasks, Ports: []int{gatewayPort},
	}
	if p.Dir == "" {
		p.Dir = "/"
	}
	p.Env = append(p.Env, linkVariable+"="+strconv.Itoa(nativeLinkFD), gateVariable+"="+strconv.Itoa(nativeGateFD))
	if spec.Inbound != nil {
		p.Env = append(p.Env, inboundVariable+"="+strconv.Itoa(nativeInboundFD), portVariable+"="+strconv.Itoa(spec.Port))
		p.Ports = append(p.Ports, spec.Port)
	}
	return p
}

// namespaces are those of a native sandbox's own. It has no user namespace: nothing in it has a capability in
// any, and one of its own would give it some.
const namespaces = syscall.CLONE_NEWNS | syscall.CLONE_NEWPID | syscall.CLONE_NEWNET | syscall.CLONE_NEWIPC |
	syscall.CLONE_NEWUTS | syscall.CLONE_NEWCGROUP

// bootNative starts the stage, which becomes the shim.
func (s *Sandbox) bootNative(gate, out *os.File) error {
	if len(s.runner.cfg.Stage) == 0 || s.spec.Stdio {
		return errors.Join(errors.New("this runner has no native sandboxes of that kind"), s.output.Close())
	}
	plan, err := json.Marshal(s.plan())
	if err != nil {
		return errors.Join(fmt.Errorf("plan: %w", err), s.output.Close())
	}
	image, err := os.Open(s.spec.Image)
	if err != nil {
		return errors.Join(err, s.output.Close())
	}
	defer image.Close()
	stage := s.runner.cfg.Stage
	s.runsc = exec.Command(stage[0], stage[1:]...)
	s.runsc.Stdin = bytes.NewReader(plan)
	s.runsc.ExtraFiles = []*os.File{s.spec.Link, gate, image}
	if s.spec.Inbound != nil {
		s.runsc.ExtraFiles = append(s.runsc.ExtraFiles, s.spec.Inbound)
	}
	s.runsc.Env = []string{"GOTRACEBACK=none"}
	s.runsc.Stdout, s.runsc.Stderr = out, out
	s.runsc.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Cloneflags: namespaces}
	return s.launch()
}

// nativeOutcome waits for the shim, whose end is that of all in its PID namespace.
func (s *Sandbox) nativeOutcome() (int, error) {
	s.mu.Lock()
	s.sentry = s.runsc.Process
	s.mu.Unlock()
	close(s.booted)
	err := s.runsc.Wait()
	var exited *exec.ExitError
	if err != nil && !errors.As(err, &exited) {
		return -1, fmt.Errorf("waiting for %s: %w", s.box, err)
	}
	return exitCode(s.runsc.ProcessState), nil
}
