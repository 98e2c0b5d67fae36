package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"

	"omega/attest"
	"omega/attest/attester"
	"omega/attest/eat"
	"omega/init/internal/signer"
	"omega/internal/wire"
)

// signerChild holds the attestation key, the log key and the report device. It
// has no network; what each peer may ask stands in its handler tables.
type signerChild struct {
	mu     sync.Mutex // guards what follows
	signer *signer.Signer

	writing sync.Mutex // evidence of a thousand agents is written one at a time: it takes megabytes
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
		"front":    {opEvidence: s.evidence, opFrontKeys: handle(s.frontKeys), opCertificate: handle(s.certificate)},
		"fetcher":  s.brokerHandlers(),
		"gateway":  joined(s.brokerHandlers(), opInvocation, handle(s.invocation)),
		"sandboxd": {opAdmit: handle(s.admit), opState: handle(s.state)},
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
	return nothing{}, k.SetClaims(req.Claims, req.GPU)
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

// evidence answers with a memory file: with many agents it is larger than a
// message.
func (s *signerChild) evidence(ctx context.Context, body json.RawMessage, files []*os.File) (any, []*os.File, error) {
	for _, f := range files {
		_ = f.Close()
	}
	req, err := wire.Body[evidenceRequest](body)
	if err != nil {
		return nil, nil, err
	}
	k, err := s.get()
	if err != nil {
		return nil, nil, err
	}
	view := attest.View{Have: req.Have, Open: req.Open, Visible: func(name string) bool {
		return req.All || slices.Contains(req.Visible, name)
	}}
	e, err := k.Evidence(ctx, req.Nonce, view)
	if errors.Is(err, attest.ErrNoSuchPart) {
		return evidenceReply{}, nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	s.writing.Lock()
	defer s.writing.Unlock()
	b, err := e.Marshal()
	if err != nil {
		return nil, nil, err
	}
	f, err := memoryFile("evidence", b)
	if err != nil {
		return nil, nil, err
	}
	return evidenceReply{Found: true}, []*os.File{f}, nil
}

func (s *signerChild) invocation(_ context.Context, req invocationRequest) (attest.SignedInvocation, error) {
	k, err := s.get()
	if err != nil {
		return attest.SignedInvocation{}, err
	}
	proof := make([][32]byte, len(req.Proof))
	for i := range req.Proof {
		proof[i] = req.Proof[i]
	}
	signed, err := k.Invocation(req.Statement, req.Size, proof)
	if err != nil {
		return attest.SignedInvocation{}, err
	}
	return *signed, nil
}

func (s *signerChild) frontKeys(_ context.Context, req frontKeys) (nothing, error) {
	k, err := s.get()
	if err != nil {
		return nothing{}, err
	}
	return nothing{}, k.SetFrontKeys(req.TLSKey, req.HPKEKey)
}

func (s *signerChild) admit(_ context.Context, req admitRequest) (admitReply, error) {
	k, err := s.get()
	if err != nil {
		return admitReply{}, err
	}
	index, err := k.Admit(req.Agent)
	return admitReply{Index: index}, err
}

func (s *signerChild) state(_ context.Context, req stateRequest) (nothing, error) {
	k, err := s.get()
	if err != nil {
		return nothing{}, err
	}
	return nothing{}, k.SetState(req.Index, req.State)
}

// certificate is the evidence for the front's TLS certificate, as a token.
func (s *signerChild) certificate(ctx context.Context, _ nothing) (certificateReply, error) {
	k, err := s.get()
	if err != nil {
		return certificateReply{}, err
	}
	c, err := k.Certificate(ctx, time.Now())
	if err != nil {
		return certificateReply{}, err
	}
	token, err := eat.MarshalCertificate(c)
	return certificateReply{Token: token}, err
}
