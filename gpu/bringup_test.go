package gpu_test

import (
	"context"
	"encoding/hex"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"omega/gpu"
	"omega/gpu/evidence"
	"omega/gpu/probe"
	"omega/internal/vectors"
)

// recorded is a real H100's answer and what it must be held against.
func recorded(t *testing.T) (report, chain []byte, want gpu.Want, nonce string) {
	t.Helper()
	const set = "nvidia/h100-550.90.07/"
	nonce = "931d8dd0add203ac3d8b4fbde75e115278eefcdceac5b87671a748f32364dfcb"
	want.Appraisal = evidence.Params{
		Roots: evidence.NVIDIA(), Now: time.Date(2025, 10, 1, 0, 0, 0, 0, time.UTC),
		RIMs: [][]byte{
			vectors.Read(t, set+"NV_GPU_DRIVER_GH100_550.90.07.xml"),
			vectors.Read(t, set+"NV_GPU_VBIOS_1010_0200_882_96009F0001.xml"),
		},
	}
	if _, err := hex.Decode(want.Appraisal.Nonce[:], []byte(nonce)); err != nil {
		t.Fatal(err)
	}
	return vectors.Read(t, set+"test_raw_gpu_attestation_report.dat"), vectors.Read(t, set+"test_gpu_attestation_certificate_chain.dat"), want, nonce
}

// machine is one with a driver that notes what is done and fails where told.
func machine(t *testing.T, files fake, failAt string) (gpu.Machine, *[]string) {
	var done []string
	step := func(name string) error {
		done = append(done, name)
		if name == failAt {
			return errors.New("no " + name)
		}
		return nil
	}
	return gpu.Machine{
		Devices: 1,
		Load:    func(_ context.Context, module string) error { return step("load " + module) },
		Nodes:   func(context.Context, int) error { return step("nodes") },
		Persist: func(context.Context) error { return step("persist") },
		Open: func(context.Context) (gpu.Asker, error) {
			if err := step("open"); err != nil {
				return nil, err
			}
			return start(t, "new", files), nil
		},
	}, &done
}

// The whole way, over the real program, a stand-in for NVIDIA's library, and what
// a real H100 said.
func TestAGPUIsReadyOnlyAfterItWasAppraised(t *testing.T) {
	report, chain, want, nonce := recorded(t)
	m, done := machine(t, fake{"system": healthy, "chain-0": string(chain), "report-0-" + nonce: string(report)}, "")
	o := gpu.BringUp(t.Context(), m, want)
	if o.State != gpu.Ready || o.Reason != nil {
		t.Fatalf("%s: %v", o.State, o.Reason)
	}
	if d := cmp.Diff([]evidence.Evidence{{Report: report, Chain: chain}}, o.Evidence); d != "" {
		t.Errorf("what was appraised is not what is shown: %s", d)
	}
	if order := []string{"load nvidia", "load nvidia-uvm", "nodes", "persist", "open"}; !slices.Equal(*done, order) {
		t.Errorf("order %q, want %q", *done, order)
	}
	a, err := o.Asker.Ask(t.Context(), probe.Request{Op: probe.OpSystem})
	if err != nil || !a.System.Ready {
		t.Errorf("%+v, error %v", a.System, err)
	}
}

func TestAMachineWithoutAGPUHasNone(t *testing.T) {
	if o := gpu.BringUp(t.Context(), gpu.Machine{}, gpu.Want{}); o.State != gpu.Absent || o.Reason != nil {
		t.Errorf("%s: %v", o.State, o.Reason)
	}
}

func TestEachFaultRefusesTheGPUAndSaysWhy(t *testing.T) {
	report, chain, _, nonce := recorded(t)
	tests := []struct {
		name   string
		files  fake // over a healthy machine's
		failAt string
		change func(*gpu.Machine, *gpu.Want)
		reason string
	}{
		{name: "a GPU that was claimed is not there", change: func(m *gpu.Machine, w *gpu.Want) { m.Devices, w.GPUs = 0, 1 }, reason: "inventory: 0 GPUs on the bus, want 1"},
		{name: "there is one more", change: func(m *gpu.Machine, w *gpu.Want) { m.Devices, w.GPUs = 2, 1 }, reason: "inventory: 2 GPUs on the bus, want 1"},
		{name: "the driver does not load", failAt: "load nvidia", reason: "modules: nvidia: no load nvidia"},
		{name: "nor its memory manager", failAt: "load nvidia-uvm", reason: "modules: nvidia-uvm"},
		{name: "no device nodes", failAt: "nodes", reason: "device nodes"},
		{name: "no persistence", failAt: "persist", reason: "persistence"},
		{name: "no program", failAt: "open", reason: "management library"},
		{name: "the library aborts", files: fake{"misbehave": "crash"}, reason: "settings: the program for the GPU is gone"},
		{name: "the driver sees another number", files: fake{"system": "2 3 1 2 1 0 0"}, reason: "the driver sees 2 GPUs, the bus has 1"},
		{name: "the CPU has no SNP", files: fake{"system": "1 2 1 2 1 0 0"}, reason: "does not find SEV-SNP"},
		{name: "the GPU cannot", files: fake{"system": "1 3 0 2 1 0 0"}, reason: "confidential computing is off"},
		{name: "it is off", files: fake{"system": "1 3 1 2 0 0 0"}, reason: "confidential computing is off"},
		{name: "developer tools are on", files: fake{"system": "1 3 1 2 1 1 0"}, reason: "developer tools are on"},
		{name: "a simulation", files: fake{"system": "1 3 1 1 1 0 0"}, reason: "environment 1 is not production"},
		{name: "another multi-GPU mode", files: fake{"system": "1 3 1 2 1 0 1"}, reason: "multi-GPU mode 1, want 0"},
		{name: "no evidence for this nonce", change: func(_ *gpu.Machine, w *gpu.Want) { w.Appraisal.Nonce[0]++ }, reason: "evidence: GPU 0"},
		{name: "somebody else's chain", files: fake{"chain-0": "x"}, reason: "appraisal"},
		{name: "a report that was changed", files: fake{"report-0-" + nonce: report2(report)}, reason: "appraisal"},
		{name: "no reference values", change: func(_ *gpu.Machine, w *gpu.Want) { w.Appraisal.RIMs = nil }, reason: "appraisal"},
		{name: "an old driver", change: func(_ *gpu.Machine, w *gpu.Want) { w.Appraisal.Policy.MinDriver = "560" }, reason: "appraisal"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			files := fake{"system": healthy, "chain-0": string(chain), "report-0-" + nonce: string(report)}
			for k, v := range tt.files {
				files[k] = v
			}
			_, _, want, _ := recorded(t)
			m, _ := machine(t, files, tt.failAt)
			if tt.change != nil {
				tt.change(&m, &want)
			}
			o := gpu.BringUp(t.Context(), m, want)
			if o.State != gpu.Refused || !errors.Is(o.Reason, gpu.ErrRefused) || !strings.Contains(o.Reason.Error(), tt.reason) || o.Asker != nil {
				t.Errorf("%s: %v; want %q", o.State, o.Reason, tt.reason)
			}
		})
	}
}

// report2 is the report with one bit of a measurement turned.
func report2(b []byte) string {
	b = slices.Clone(b)
	b[200] ^= 1
	return string(b)
}

// turncoat answers well until it was made ready.
type turncoat struct {
	gpu.Asker
	change func(*probe.System)
	last   *probe.Request
}

func (a turncoat) Ask(ctx context.Context, q probe.Request) (probe.Answer, error) {
	*a.last = q
	answer, err := a.Asker.Ask(ctx, q)
	if err == nil && q.Op == probe.OpReady && q.Ready {
		a.change(answer.System)
	}
	return answer, err
}

// What is read back counts; and a GPU that was ready a moment ago is so no more.
func TestAGPUThatChangesWhenReadyIsTakenBack(t *testing.T) {
	report, chain, want, nonce := recorded(t)
	for name, change := range map[string]func(*probe.System){
		"it does not take the state":   func(s *probe.System) { s.Ready = false },
		"developer tools came on":      func(s *probe.System) { s.DevTools = true },
		"confidential mode went away":  func(s *probe.System) { s.Feature = false },
		"there are more GPUs than two": func(s *probe.System) { s.GPUs = 3 },
	} {
		t.Run(name, func(t *testing.T) {
			m, _ := machine(t, fake{"system": healthy, "chain-0": string(chain), "report-0-" + nonce: string(report)}, "")
			open, last := m.Open, probe.Request{}
			m.Open = func(ctx context.Context) (gpu.Asker, error) {
				a, err := open(ctx)
				return turncoat{a, change, &last}, err
			}
			if o := gpu.BringUp(t.Context(), m, want); o.State != gpu.Refused || !strings.Contains(o.Reason.Error(), "ready: ") {
				t.Errorf("%s: %v", o.State, o.Reason)
			}
			if (last != probe.Request{Op: probe.OpReady}) {
				t.Errorf("the last request was %+v, want that it is not ready", last)
			}
		})
	}
}
