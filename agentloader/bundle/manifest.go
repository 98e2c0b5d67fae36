package bundle

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"omega/internal/strictjson"
)

// VersionManifest is the version of agent.json that this package reads and writes.
const VersionManifest = "omega/agent/v1"

// Manifest is agent.json: what one agent is made of and how it is run. It names every part by digest.
type Manifest struct {
	Version string            `json:"version"`
	Name    string            `json:"name"`
	Image   Blob              `json:"image"`
	Command []string          `json:"command"`
	Env     map[string]string `json:"env"`
	Tools   []Tool            `json:"tools"`
	Models  []string          `json:"models"`
	Limits  Limits            `json:"limits"`
	Restart *Restart          `json:"restart,omitempty"` // nil: an agent that ended stays ended
	Serve   *Serve            `json:"serve,omitempty"`   // nil: nobody can ask it anything
	Server  *MCPServer        `json:"server,omitempty"`  // nil: it is no MCP server
	Warm    *Warm             `json:"warm,omitempty"`
	// Engine says that it is an inference engine, Inference which one it uses: see manifest_engine.go.
	Engine    *Engine    `json:"engine,omitempty"`
	Inference *Inference `json:"inference,omitempty"`
	// Model, Adapters and Data are files that the agent reads: see manifest_components.go.
	Model    *File           `json:"model"`
	Adapters []File          `json:"adapters"`
	Data     []File          `json:"data,omitempty"`
	Peers    []Peer          `json:"peers"`
	Card     json.RawMessage `json:"card,omitempty"` // the A2A agent card that the agent serves
}

// Blob names something in the bundle's repository.
type Blob struct {
	Digest Digest `json:"digest"`
	Size   int64  `json:"size"`
}

// Tool is an MCP server that the agent uses and the digest of the artifact that pins its tool descriptors.
type Tool struct {
	Server      string `json:"server"`
	Descriptors Digest `json:"descriptors"`
}

// Limits bound one running instance. Zero means the platform's default.
type Limits struct {
	MemoryBytes int64 `json:"memory_bytes"`
	CPUMillis   int64 `json:"cpu_millis"`
	Processes   int64 `json:"processes"`
	IOBytes     int64 `json:"io_bytes_per_second,omitempty"` // read from each disk
}

// Restart says when an agent that ended is started again, in the same instance: what it may still do and
// the labels that it carries are those of before. Its memory and scratch files are gone.
type Restart struct {
	When string `json:"when"`
	Max  int    `json:"max"` // starts after the first
}

// When an agent is started again.
const (
	RestartFailure = "failure" // after an exit code other than 0
	RestartAlways  = "always"
)

// Bounds of agent.json's fields.
const (
	maxList     = 64
	maxString   = 4096
	maxManifest = 4 << 20 // what a registry must take as an OCI manifest (distribution-spec 1.1)
	maxMemory   = 1 << 40
	maxCPU      = 1 << 20
	maxProcs    = 1 << 16
	maxRestarts = 1000
)

var (
	namePattern = regexp.MustCompile(`^[a-z0-9](?:[a-z0-9._-]{0,61}[a-z0-9])?$`)
	// A name with a plus is no deployment's.
	instancePattern = regexp.MustCompile(`^[a-z0-9][a-z0-9._+-]{0,62}$`)
	// Model names are foreign: "org/model:tag" is usual.
	modelPattern = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._:/-]{0,127}$`)
	envPattern   = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]{0,127}$`)
)

// ValidName reports whether s may name an agent, an instance or a server.
func ValidName(s string) bool { return namePattern.MatchString(s) }

// ValidInstance reports whether s can be what an instance is called: as it was
// deployed, or, with a plus, as the platform calls what it started of that for one
// session or agent.
func ValidInstance(s string) bool { return instancePattern.MatchString(s) }

// ParseManifest reads agent.json strictly and validates it.
func ParseManifest(b []byte) (*Manifest, error) {
	m := new(Manifest)
	if err := strictjson.Decode(b, m, strictjson.Limits{MaxBytes: MaxManifest}); err != nil {
		return nil, fmt.Errorf("agent manifest: %w", err)
	}
	if err := m.Validate(); err != nil {
		return nil, fmt.Errorf("agent manifest: %w", err)
	}
	return m, nil
}

// Marshal validates m and writes it in canonical form.
func (m *Manifest) Marshal() ([]byte, error) {
	if err := m.Validate(); err != nil {
		return nil, fmt.Errorf("agent manifest: %w", err)
	}
	return strictjson.Canonical(m)
}

// Validate checks every field's form and bounds.
func (m *Manifest) Validate() error {
	if m.Version != VersionManifest {
		return fmt.Errorf("version %.40q, not %q", m.Version, VersionManifest)
	}
	if !ValidName(m.Name) {
		return fmt.Errorf("name %.80q", m.Name)
	}
	if m.Image.Digest.IsZero() || m.Image.Size <= 0 || m.Image.Size > maxManifest {
		return errors.New("image without digest or with an impossible manifest size")
	}
	for _, check := range []func() error{m.checkCommand, m.checkEnv, m.checkTools, m.checkLimits, m.checkRestart, m.checkServe, m.checkWarm, m.checkPeers, m.checkFiles, m.checkServer, m.checkEngine, m.checkInference} {
		if err := check(); err != nil {
			return err
		}
	}
	return nil
}

func (m *Manifest) checkCommand() error {
	if len(m.Command) == 0 || len(m.Command) > maxList || m.Command[0] == "" {
		return fmt.Errorf("command of %d words", len(m.Command))
	}
	for _, w := range m.Command {
		if !plain(w) {
			return fmt.Errorf("command word %.80q", w)
		}
	}
	return nil
}

func (m *Manifest) checkEnv() error {
	if len(m.Env) > maxList {
		return fmt.Errorf("%d environment variables", len(m.Env))
	}
	for k, v := range m.Env {
		if !envPattern.MatchString(k) || !plain(v) {
			return fmt.Errorf("environment variable %.80q", k)
		}
	}
	return nil
}

func (m *Manifest) checkTools() error {
	if len(m.Tools) > maxList || len(m.Models) > maxList {
		return fmt.Errorf("%d tool servers, %d models", len(m.Tools), len(m.Models))
	}
	seen := map[string]bool{}
	for _, t := range m.Tools {
		if !ValidName(t.Server) || t.Descriptors.IsZero() || seen[t.Server] {
			return fmt.Errorf("tool server %.80q", t.Server)
		}
		seen[t.Server] = true
	}
	clear(seen)
	for _, name := range m.Models {
		if !modelPattern.MatchString(name) || seen[name] {
			return fmt.Errorf("model %.80q", name)
		}
		seen[name] = true
	}
	return nil
}

func (m *Manifest) checkLimits() error {
	l := m.Limits
	if l.MemoryBytes < 0 || l.MemoryBytes > maxMemory || l.CPUMillis < 0 || l.CPUMillis > maxCPU ||
		l.Processes < 0 || l.Processes > maxProcs || l.IOBytes < 0 || l.IOBytes > maxMemory {
		return fmt.Errorf("limits out of range: %+v", l)
	}
	return nil
}

func (m *Manifest) checkRestart() error {
	r := m.Restart
	if r != nil && (r.When != RestartFailure && r.When != RestartAlways || r.Max < 1 || r.Max > maxRestarts) {
		return fmt.Errorf("restart %+v: when must be %q or %q, max 1 to %d", *r, RestartFailure, RestartAlways, maxRestarts)
	}
	return nil
}

// plain reports whether s can be an argument or an environment value.
func plain(s string) bool { return len(s) <= maxString && !strings.ContainsRune(s, 0) }
