// Package signer holds the two keys that speak for this boot, the attestation
// key and the log key, and the device that makes attestation reports. It signs
// typed statements only: REPORT_DATA is computed here from the boot claims and
// a session statement, never taken from a caller, and a checkpoint is signed
// only for this boot's log and only if the log did not shrink or change at one
// size. That what was added follows what was there is for readers to check: a
// log child that was taken over could fork it, and every proof would show that.
//
// It has no network and reads no files: the init child around it does that.
package signer

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"omega/attest"
)

// A Device makes an SNP report over 64 bytes of REPORT_DATA.
type Device interface {
	Report(ctx context.Context, reportData [64]byte) (report, certs []byte, err error)
}

// A Signer is the holder of the attestation key and the log key.
type Signer struct {
	device      Device
	attestation ed25519.PrivateKey
	logKey      ed25519.PrivateKey
	origin      string
	deviceTurn  chan struct{}
	pace        time.Duration
	lastReport  time.Time // held with deviceTurn

	mu         sync.Mutex // guards what follows
	claims     *attest.BootClaims
	gpu        []attest.GPUEvidence
	boot       [32]byte // the claims' digest, once they are complete
	frontKnown bool
	agents     attest.AgentSet
	agentBytes int
	head       head
	heads      [keptHeads]head // the latest, by size
	waiting    []*ticket
	recent     []*answer
	used       map[uint64]bool // log indexes that have an invocation statement
}

// New makes fresh keys from random for the boot bootID.
func New(device Device, random io.Reader, bootID [16]byte) (*Signer, error) {
	_, attestation, err := ed25519.GenerateKey(random)
	if err != nil {
		return nil, fmt.Errorf("attestation key: %w", err)
	}
	_, logKey, err := ed25519.GenerateKey(random)
	if err != nil {
		return nil, fmt.Errorf("log key: %w", err)
	}
	return &Signer{
		device:      device,
		attestation: attestation,
		logKey:      logKey,
		origin:      "omega/" + hex.EncodeToString(bootID[:]),
		deviceTurn:  make(chan struct{}, 1),
		pace:        pace,
		used:        map[uint64]bool{},
	}, nil
}

// Keys are the public halves of the signer's keys.
type Keys struct {
	Attestation, Log [32]byte // Ed25519
}

// Keys returns the public keys.
func (s *Signer) Keys() Keys {
	return Keys{
		Attestation: [32]byte(s.attestation.Public().(ed25519.PublicKey)),
		Log:         [32]byte(s.logKey.Public().(ed25519.PublicKey)),
	}
}

// Origin returns the origin line of this boot's log.
func (s *Signer) Origin() string { return s.origin }

// SetClaims fixes the boot claims but for the keys, which are filled in here and
// by SetFrontKeys, and the GPUs' evidence that they name. It may be called once.
func (s *Signer) SetClaims(c attest.BootClaims, gpu []attest.GPUEvidence) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.claims != nil {
		return errors.New("boot claims: already set")
	}
	if c.TLSKey != ([32]byte{}) || c.HPKEKey != ([32]byte{}) {
		return errors.New("boot claims: the front's keys come from the front")
	}
	if c.GPUEvidence != attest.GPUDigest(gpu) {
		return errors.New("boot claims: the GPU's evidence is another")
	}
	keys := s.Keys()
	c.AttestationKey, c.LogKey = keys.Attestation, keys.Log
	c.LogOrigin = s.origin
	s.claims, s.gpu = &c, gpu
	return nil
}

// SetFrontKeys adds the front's keys to the boot claims: the SHA-256 of its TLS
// key's SubjectPublicKeyInfo and its X25519 public key. It may be called once,
// so that a front that is taken over later cannot speak with another key.
func (s *Signer) SetFrontKeys(tlsKey, hpkeKey [32]byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.claims == nil {
		return errors.New("front keys: no boot claims yet")
	}
	if s.frontKnown {
		return errors.New("front keys: already set")
	}
	if tlsKey == ([32]byte{}) || hpkeKey == ([32]byte{}) {
		return errors.New("front keys: a key is missing")
	}
	s.claims.TLSKey, s.claims.HPKEKey = tlsKey, hpkeKey
	s.frontKnown = true
	s.boot = s.claims.Digest()
	return nil
}

// Claims returns the boot claims once they are complete.
func (s *Signer) Claims() (attest.BootClaims, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.frontKnown {
		return attest.BootClaims{}, errIncomplete
	}
	return *s.claims, nil
}

var errIncomplete = errors.New("boot claims: not complete yet")

// HostData returns the HOST_DATA of a report of this machine. The report's
// REPORT_DATA is a labelled constant, so that it can stand for no claim.
func (s *Signer) HostData(ctx context.Context) ([32]byte, error) {
	var zero [32]byte
	report, _, err := s.report(ctx, attest.ReportData(sha256.Sum256([]byte("omega/host-data-probe/v1")), zero))
	if err != nil {
		return zero, err
	}
	// HOST_DATA is at offset 0xC0 of the report (AMD SNP ABI, table ATTESTATION_REPORT).
	const offset = 0xC0
	if len(report) < offset+32 {
		return zero, fmt.Errorf("report: %d bytes are too few", len(report))
	}
	return [32]byte(report[offset:]), nil
}

// pace is the shortest time between two reports: the secure processor serves
// the whole machine and answers who asks too often ever more slowly. Those who
// ask meanwhile share the next report.
const pace = 20 * time.Millisecond

// report asks the device; it serves one request at a time.
func (s *Signer) report(ctx context.Context, data [64]byte) (report, certs []byte, err error) {
	select {
	case s.deviceTurn <- struct{}{}:
		defer func() { <-s.deviceTurn }()
	case <-ctx.Done():
		return nil, nil, fmt.Errorf("waiting for the report device: %w", ctx.Err())
	}
	return s.ask(ctx, data)
}

// ask asks the device, whose turn the caller has.
func (s *Signer) ask(ctx context.Context, data [64]byte) (report, certs []byte, err error) {
	select {
	case <-time.After(time.Until(s.lastReport.Add(s.pace))):
	case <-ctx.Done():
		return nil, nil, fmt.Errorf("waiting for the report device: %w", ctx.Err())
	}
	defer func() { s.lastReport = time.Now() }()
	report, certs, err = s.device.Report(ctx, data)
	if err != nil {
		return nil, nil, fmt.Errorf("attestation report: %w", err)
	}
	return report, certs, nil
}
