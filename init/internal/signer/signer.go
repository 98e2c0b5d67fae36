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

	"golang.org/x/mod/sumdb/tlog"

	"omega/attest"
	"omega/policy/provenance"
)

// MaxAgents bounds the agent table that evidence carries.
const MaxAgents = 1024

// maxWaiting bounds how many evidence requests may wait for the device; more
// are refused at once, so that a flood costs memory to nobody.
const maxWaiting = 64

// ErrBusy reports that too many evidence requests wait already; try again later.
var ErrBusy = errors.New("evidence: too many requests are waiting")

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
	waiting     chan struct{}
	deviceTurn  chan struct{}

	mu         sync.Mutex // guards what follows
	claims     *attest.BootClaims
	frontKnown bool
	agents     []attest.Agent
	head       head
}

// head is the last checkpoint that this signer signed.
type head struct {
	size uint64
	root tlog.Hash
	note []byte
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
		waiting:     make(chan struct{}, maxWaiting),
		deviceTurn:  make(chan struct{}, 1),
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
// by SetFrontKeys. It may be called once.
func (s *Signer) SetClaims(c attest.BootClaims) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.claims != nil {
		return errors.New("boot claims: already set")
	}
	if c.TLSKey != ([32]byte{}) || c.HPKEKey != ([32]byte{}) {
		return errors.New("boot claims: the front's keys come from the front")
	}
	keys := s.Keys()
	c.AttestationKey, c.LogKey = keys.Attestation, keys.Log
	c.LogOrigin = s.origin
	s.claims = &c
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
	return nil
}

// Claims returns the boot claims once they are complete.
func (s *Signer) Claims() (attest.BootClaims, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.frontKnown {
		return attest.BootClaims{}, errors.New("boot claims: not complete yet")
	}
	return *s.claims, nil
}

// SetAgents replaces the table of agents that the next session statements name.
func (s *Signer) SetAgents(agents []attest.Agent) error {
	if len(agents) > MaxAgents {
		return fmt.Errorf("agents: %d is more than %d", len(agents), MaxAgents)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.agents = agents
	return nil
}

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

// Evidence returns evidence that is fresh for nonce.
func (s *Signer) Evidence(ctx context.Context, nonce [32]byte) (*attest.Evidence, error) {
	select {
	case s.waiting <- struct{}{}:
		defer func() { <-s.waiting }()
	default:
		return nil, ErrBusy
	}
	e, err := s.statement(nonce)
	if err != nil {
		return nil, err
	}
	e.Report, e.Certificates, err = s.report(ctx, attest.ReportData(e.Boot.Digest(), e.Session.Digest()))
	if err != nil {
		return nil, err
	}
	return e, nil
}

// statement joins the boot claims with a session statement for nonce.
func (s *Signer) statement(nonce [32]byte) (*attest.Evidence, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.claims == nil || !s.frontKnown {
		return nil, errors.New("evidence: the boot claims are not complete yet")
	}
	if s.head.note == nil {
		return nil, errors.New("evidence: the log has no checkpoint yet")
	}
	return &attest.Evidence{
		Version: attest.EvidenceVersion,
		Boot:    *s.claims,
		Session: attest.Session{
			Version:    attest.SessionVersion,
			Nonce:      nonce,
			Checkpoint: s.head.note,
			AgentsRoot: attest.AgentsRoot(s.agents),
			AgentCount: uint32(len(s.agents)),
		},
		Agents: s.agents,
	}, nil
}

// report asks the device; it serves one request at a time.
func (s *Signer) report(ctx context.Context, data [64]byte) (report, certs []byte, err error) {
	select {
	case s.deviceTurn <- struct{}{}:
		defer func() { <-s.deviceTurn }()
	case <-ctx.Done():
		return nil, nil, fmt.Errorf("waiting for the report device: %w", ctx.Err())
	}
	report, certs, err = s.device.Report(ctx, data)
	if err != nil {
		return nil, nil, fmt.Errorf("attestation report: %w", err)
	}
	return report, certs, nil
}

// maxCheckpoint bounds a checkpoint body; ours has an origin of 38 bytes, a
// decimal size and 44 bytes of base64.
const maxCheckpoint = 256

// SignCheckpoint signs a C2SP checkpoint body (origin, size, root hash, each on
// a line, nothing else) and returns the signed note. The log must not shrink,
// and one size must keep one root.
func (s *Signer) SignCheckpoint(text []byte) ([]byte, error) {
	if len(text) > maxCheckpoint {
		return nil, fmt.Errorf("checkpoint: %d bytes are more than %d", len(text), maxCheckpoint)
	}
	c, err := provenance.ParseCheckpoint(text)
	if err != nil {
		return nil, err
	}
	if c.Origin != s.origin {
		return nil, fmt.Errorf("checkpoint: origin is not %s", s.origin)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.Size < s.head.size {
		return nil, fmt.Errorf("checkpoint: size %d is less than the signed %d", c.Size, s.head.size)
	}
	if s.head.note != nil && c.Size == s.head.size && c.Root != s.head.root {
		return nil, fmt.Errorf("checkpoint: size %d has another root already", c.Size)
	}
	signed, err := provenance.SignCheckpoint(text, s.logKey)
	if err != nil {
		return nil, err
	}
	s.head = head{size: c.Size, root: c.Root, note: signed}
	return signed, nil
}
