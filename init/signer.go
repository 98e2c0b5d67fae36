package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"sync"

	"omega/attest/attester"
	"omega/init/internal/signer"
	"omega/internal/wire"
)

// signerChild holds the attestation key, the log key and the report device. It
// has no network; what each peer may ask stands in its handler tables.
type signerChild struct {
	mu     sync.Mutex // guards what follows
	signer *signer.Signer
}

func runSigner(ctx context.Context, c *child) error {
	s := new(signerChild)
	return serveAll(ctx, c, map[string]map[string]wire.Handler{
		"pid1": {
			opStart:      handleFile(s.start),
			opHostData:   handle(s.hostData),
			opBootClaims: handle(s.bootClaims),
			opClaims:     handle(s.claims),
		},
		"log":      {opSign: handle(s.sign)},
		"front":    {opEvidence: handle(s.evidence), opFrontKeys: handle(s.frontKeys)},
		"sandboxd": {opAgents: handle(s.agents)},
	})
}

// start makes this boot's keys. The device was opened by PID 1.
func (s *signerChild) start(_ context.Context, req signerStart, device *os.File) (signerStarted, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.signer != nil || device == nil {
		return signerStarted{}, errors.New("start: already started, or no device")
	}
	d, err := reportDevice(req.Device, device)
	if err != nil {
		_ = device.Close()
		return signerStarted{}, err
	}
	made, err := signer.New(d, rand.Reader, req.BootID)
	if err != nil {
		return signerStarted{}, err
	}
	s.signer = made
	k := made.Keys()
	return signerStarted{AttestationKey: k.Attestation, LogKey: k.Log, LogOrigin: made.Origin()}, nil
}

// reportDevice says how to speak to the device that PID 1 opened.
func reportDevice(kind string, f *os.File) (signer.Device, error) {
	switch kind {
	case deviceSNP:
		return attester.FromGuestDevice(f), nil
	case devicePSP:
		return attester.FromPort(f), nil
	}
	return nil, fmt.Errorf("report device: unknown kind %.20q", kind)
}

func (s *signerChild) get() (*signer.Signer, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.signer == nil {
		return nil, errNotStarted
	}
	return s.signer, nil
}

func (s *signerChild) hostData(ctx context.Context, _ nothing) (hostData, error) {
	k, err := s.get()
	if err != nil {
		return hostData{}, err
	}
	d, err := k.HostData(ctx)
	return hostData{HostData: d}, err
}

func (s *signerChild) bootClaims(_ context.Context, req bootClaims) (nothing, error) {
	k, err := s.get()
	if err != nil {
		return nothing{}, err
	}
	return nothing{}, k.SetClaims(req.Claims)
}

func (s *signerChild) claims(context.Context, nothing) (bootClaims, error) {
	k, err := s.get()
	if err != nil {
		return bootClaims{}, err
	}
	c, err := k.Claims()
	return bootClaims{Claims: c}, err
}

func (s *signerChild) sign(_ context.Context, req signRequest) (signReply, error) {
	k, err := s.get()
	if err != nil {
		return signReply{}, err
	}
	note, err := k.SignCheckpoint(req.Text)
	return signReply{Note: note}, err
}

func (s *signerChild) evidence(ctx context.Context, req evidenceRequest) (evidenceReply, error) {
	k, err := s.get()
	if err != nil {
		return evidenceReply{}, err
	}
	e, err := k.Evidence(ctx, req.Nonce)
	if err != nil {
		return evidenceReply{}, err
	}
	b, err := e.Marshal()
	return evidenceReply{Evidence: b}, err
}

func (s *signerChild) frontKeys(_ context.Context, req frontKeys) (nothing, error) {
	k, err := s.get()
	if err != nil {
		return nothing{}, err
	}
	return nothing{}, k.SetFrontKeys(req.TLSKey, req.HPKEKey)
}

func (s *signerChild) agents(_ context.Context, req agentTable) (nothing, error) {
	k, err := s.get()
	if err != nil {
		return nothing{}, err
	}
	return nothing{}, k.SetAgents(req.Agents)
}
