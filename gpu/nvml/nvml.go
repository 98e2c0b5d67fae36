package main

import (
	"fmt"

	"github.com/NVIDIA/go-nvml/pkg/nvml"

	"omega/gpu/probe"
)

// library is libnvidia-ml.so.1, open.
type library struct{ nvml.Interface }

func open() (*library, error) {
	l := &library{nvml.New()}
	if r := l.Init(); r != nvml.SUCCESS {
		return nil, fmt.Errorf("opening libnvidia-ml.so.1: %s", word(r))
	}
	return l, nil
}

func (l *library) close() { _ = l.Shutdown() }

// word is a return code in words. The library's own words come through a symbol
// that is there in every version.
func word(r nvml.Return) string { return fmt.Sprintf("%s (%d)", nvml.ErrorString(r), int(r)) }

// call makes one call of the library, if the library has it.
func (l *library) call(symbol string, f func() nvml.Return) error {
	if err := l.Extensions().LookupSymbol(symbol); err != nil {
		return fmt.Errorf("this version of the library has no %s", symbol)
	}
	if r := f(); r != nvml.SUCCESS {
		return fmt.Errorf("%s: %s", symbol, word(r))
	}
	return nil
}

func (l *library) answer(q probe.Request) (probe.Answer, error) {
	switch q.Op {
	case probe.OpEvidence:
		return l.evidence(q)
	case probe.OpReady:
		if err := l.setReady(q.Ready); err != nil {
			return probe.Answer{}, err
		}
	}
	s, err := l.system()
	return probe.Answer{System: s}, err
}

// system asks for everything anew: nothing that can change is remembered.
func (l *library) system() (*probe.System, error) {
	var (
		s        probe.System
		caps     nvml.ConfComputeSystemCaps
		settings nvml.SystemConfComputeSettings
		ready    uint32
	)
	for _, c := range []struct {
		symbol string
		call   func() nvml.Return
	}{
		{"nvmlSystemGetDriverVersion", func() (r nvml.Return) { s.Driver, r = l.SystemGetDriverVersion(); return }},
		{"nvmlDeviceGetCount_v2", func() (r nvml.Return) { s.GPUs, r = l.DeviceGetCount(); return }},
		{"nvmlSystemGetConfComputeCapabilities", func() (r nvml.Return) { caps, r = l.SystemGetConfComputeCapabilities(); return }},
		{"nvmlSystemGetConfComputeSettings", func() (r nvml.Return) { settings, r = l.SystemGetConfComputeSettings(); return }},
		{"nvmlSystemGetConfComputeGpusReadyState", func() (r nvml.Return) { ready, r = l.SystemGetConfComputeGpusReadyState(); return }},
	} {
		if err := l.call(c.symbol, c.call); err != nil {
			return nil, err
		}
	}
	s.CPU, s.GPUCapable = caps.CpuCaps, caps.GpusCaps == nvml.CC_SYSTEM_GPUS_CC_CAPABLE
	s.Feature = settings.CcFeature == nvml.CC_SYSTEM_FEATURE_ENABLED
	s.Environment, s.MultiGPU = settings.Environment, settings.MultiGpuMode
	// Whatever is not plainly off is on.
	s.DevTools = settings.DevToolsMode != nvml.CC_SYSTEM_DEVTOOLS_MODE_OFF
	s.Ready = ready == nvml.CC_ACCEPTING_CLIENT_REQUESTS_TRUE
	return &s, nil
}

func (l *library) setReady(on bool) error {
	state := uint32(nvml.CC_ACCEPTING_CLIENT_REQUESTS_FALSE)
	if on {
		state = nvml.CC_ACCEPTING_CLIENT_REQUESTS_TRUE
	}
	return l.call("nvmlSystemSetConfComputeGpusReadyState", func() nvml.Return { return l.SystemSetConfComputeGpusReadyState(state) })
}

// evidence asks one GPU. A request that fails makes the driver give the GPU up
// until it is reset, so that nothing here tries twice.
func (l *library) evidence(q probe.Request) (probe.Answer, error) {
	var (
		device nvml.Device
		chain  nvml.ConfComputeGpuCertificate
		report = nvml.ConfComputeGpuAttestationReport{Nonce: q.Nonce}
	)
	for _, c := range []struct {
		symbol string
		call   func() nvml.Return
	}{
		{"nvmlDeviceGetHandleByIndex_v2", func() (r nvml.Return) { device, r = l.DeviceGetHandleByIndex(q.GPU); return }},
		{"nvmlDeviceGetConfComputeGpuCertificate", func() (r nvml.Return) { chain, r = device.GetConfComputeGpuCertificate(); return }},
		{"nvmlDeviceGetConfComputeGpuAttestationReport", func() nvml.Return { return device.GetConfComputeGpuAttestationReport(&report) }},
	} {
		if err := l.call(c.symbol, c.call); err != nil {
			return probe.Answer{}, err
		}
	}
	if int(report.AttestationReportSize) > len(report.AttestationReport) || int(chain.AttestationCertChainSize) > len(chain.AttestationCertChain) {
		return probe.Answer{}, fmt.Errorf("the library says more bytes than its buffers have")
	}
	return probe.Answer{
		Report: report.AttestationReport[:report.AttestationReportSize],
		Chain:  chain.AttestationCertChain[:chain.AttestationCertChainSize],
	}, nil
}
