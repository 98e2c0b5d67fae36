package bundle

import (
	"slices"
	"strings"
	"testing"
)

func engineManifest() *Manifest {
	d := DigestOf([]byte("x"))
	return &Manifest{Version: VersionManifest, Name: "llama", Image: Blob{Digest: d, Size: 1}, Command: []string{"/server"},
		Serve: &Serve{Port: 8080}, Model: &File{Name: "small", Digest: d, Size: 1, Root: d}, Engine: &Engine{AdapterArgs: []string{"--lora", "{path}"}}}
}

func TestAnEngineIsNothingElseBeside(t *testing.T) {
	d := DigestOf([]byte("x"))
	for name, change := range map[string]func(*Manifest){
		"no port":                func(m *Manifest) { m.Serve = nil },
		"no model":               func(m *Manifest) { m.Model = nil },
		"a stdio server":         func(m *Manifest) { m.Server = &MCPServer{Transport: TransportStdio} },
		"started again":          func(m *Manifest) { m.Restart = &Restart{When: RestartAlways, Max: 1} },
		"spares":                 func(m *Manifest) { m.Warm = &Warm{Spares: 1} },
		"tools":                  func(m *Manifest) { m.Tools = []Tool{{Server: "files", Descriptors: d}} },
		"models":                 func(m *Manifest) { m.Models = []string{"small"} },
		"peers":                  func(m *Manifest) { m.Peers = []Peer{{Name: "desk", Bundle: d}} },
		"adapters of its own":    func(m *Manifest) { m.Adapters = []File{*m.Model} },
		"an engine of its own":   func(m *Manifest) { m.Inference = &Inference{Engine: "other", Bundle: d} },
		"processes below none":   func(m *Manifest) { m.Engine.Processes = -1 },
		"too many processes":     func(m *Manifest) { m.Engine.Processes = maxProcessesOfEngine + 1 },
		"two processes on a GPU": func(m *Manifest) { m.Engine.GPU, m.Engine.Processes = true, 2 },
		"words without a place":  func(m *Manifest) { m.Engine.AdapterArgs = []string{"--lora"} },
	} {
		t.Run(name, func(t *testing.T) {
			m := engineManifest()
			if err := m.Validate(); err != nil {
				t.Fatalf("as it is: %v", err)
			}
			change(m)
			if err := m.Validate(); err == nil {
				t.Error("accepted")
			}
		})
	}
}

func TestAnAgentOfAnEngineSaysWhichModel(t *testing.T) {
	d := DigestOf([]byte("x"))
	agent := func() *Manifest {
		m := engineManifest()
		m.Engine, m.Models, m.Inference = nil, []string{"small"}, &Inference{Engine: "llama", Bundle: d}
		return m
	}
	if err := agent().Validate(); err != nil {
		t.Fatalf("as it is: %v", err)
	}
	for name, change := range map[string]func(*Manifest){
		"no model file":       func(m *Manifest) { m.Model = nil },
		"no model's name":     func(m *Manifest) { m.Models = nil },
		"no bundle":           func(m *Manifest) { m.Inference.Bundle = Digest{} },
		"a name that is none": func(m *Manifest) { m.Inference.Engine = "../llama" },
	} {
		t.Run(name, func(t *testing.T) {
			m := agent()
			change(m)
			if err := m.Validate(); err == nil {
				t.Error("accepted")
			}
		})
	}
}

func TestAdaptersBecomeWordsOfTheEnginesCommand(t *testing.T) {
	e := &Engine{AdapterArgs: []string{"--lora-modules", "{name}={path}"}}
	got, err := e.Words([]string{"/serve"}, []string{"a", "b"}, []string{"/adapters/a", "/adapters/b"})
	want := "/serve --lora-modules a=/adapters/a --lora-modules b=/adapters/b"
	if err != nil || strings.Join(got, " ") != want {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := new(Engine).Words([]string{"/serve"}, []string{"a"}, []string{"/adapters/a"}); err == nil {
		t.Error("an engine without words for adapters takes one")
	}
	if got, err := new(Engine).Words([]string{"/serve"}, nil, nil); err != nil || !slices.Equal(got, []string{"/serve"}) {
		t.Errorf("without adapters: %q, %v", got, err)
	}
}
