package main

import (
	"context"
	"crypto/ecdh"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"omega/attest"
	"omega/attest/atls"
	"omega/init/internal/front"
	"omega/internal/wire"
)

// maxLogFile bounds a file of the public log: 256 entries of 64 KiB.
const maxLogFile = 256 * (64<<10 + 2)

// frontChild is the platform's listener. It makes its own TLS and HPKE keys and
// tells the signer their public halves, once.
type frontChild struct {
	c                                       *child
	signer, log, fetcher, sandboxd, gateway *wire.Client
	ready                                   atomic.Bool
	serving                                 chan error

	mu      sync.Mutex // guards what follows
	started bool
	hpke    *ecdh.PrivateKey // opens what clients seal to this boot
}

func runFront(ctx context.Context, c *child) error {
	f := &frontChild{c: c, serving: make(chan error, 1)}
	for peer, to := range map[string]**wire.Client{"signer": &f.signer, "log": &f.log, "fetcher": &f.fetcher, "sandboxd": &f.sandboxd, "gateway": &f.gateway} {
		cl, err := c.client(peer)
		if err != nil {
			return err
		}
		*to = cl
	}
	ended := make(chan error, 1)
	start := func(ctx2 context.Context, req frontStart, l *os.File) (nothing, error) {
		return f.start(ctx, ctx2, req, l)
	}
	go func() {
		ended <- serveAll(ctx, c, map[string]map[string]wire.Handler{
			"pid1": {opStart: handleFile(start), opReady: handle(f.setReady)},
		})
	}()
	select {
	case err := <-f.serving:
		return err
	case err := <-ended:
		return err
	}
}

// start makes the keys, tells the signer and begins to serve on the socket that
// PID 1 opened. It returns once clients are answered; life is how long to serve.
func (f *frontChild) start(life, ctx context.Context, req frontStart, socket *os.File) (nothing, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.started || socket == nil {
		return nothing{}, errors.New("start: already started, or no socket")
	}
	listener, err := net.FileListener(socket)
	_ = socket.Close()
	if err != nil {
		return nothing{}, fmt.Errorf("listening socket: %w", err)
	}
	callers, err := readCallers()
	if err != nil {
		return nothing{}, err
	}
	id, err := front.NewIdentity()
	if err != nil {
		return nothing{}, err
	}
	if f.hpke, err = ecdh.X25519().GenerateKey(rand.Reader); err != nil {
		return nothing{}, fmt.Errorf("HPKE key: %w", err)
	}
	keys := frontKeys{TLSKey: id.KeyDigest, HPKEKey: [32]byte(f.hpke.PublicKey().Bytes())}
	if _, err := f.signer.Call(ctx, opFrontKeys, keys, nil); err != nil {
		return nothing{}, err
	}
	if err := f.certify(ctx, id); err != nil {
		return nothing{}, err
	}
	go f.renew(life, id)
	f.started = true
	routes := &front.Front{Evidence: f.evidence, LogFile: f.logFile, Ready: f.ready.Load, Agents: f.agents, Output: f.output,
		Order: f.order, Metrics: f.observe(opMetrics), Traces: f.observe(opTraces), Invoke: f.invoke, Pending: f.pending, Approve: f.approve, Callers: callers, Log: f.c.log}
	service := &front.Service{Identity: id, Handler: routes.Handler(), Log: f.c.log}
	if service.Peers, err = f.peers(id, callers, req.Releases); err != nil {
		return nothing{}, err
	}
	go f.dialPeers(life, service.Peers)
	go func() { f.serving <- service.Serve(life, listener) }()
	return nothing{}, nil
}

// peers are the platforms that this image talks to: those that its measured
// trust roots accept. Most images have none.
func (f *frontChild) peers(id *front.Identity, callers *front.Callers, releases []json.RawMessage) (*front.Peers, error) {
	roots, err := readBounded(rootsFile)
	if err != nil {
		return nil, err
	}
	trust, err := atls.ParseTrust(roots)
	if err != nil || trust == nil {
		return nil, err
	}
	envelopes := make([][]byte, len(releases))
	for i := range releases {
		envelopes[i] = releases[i]
	}
	appraiser, skipped, err := trust.Appraiser(envelopes)
	if err != nil {
		return nil, err
	}
	for _, why := range skipped {
		f.c.log.Warn("peers: a release is left out", "error", why)
	}
	return &front.Peers{
		Own: atls.Platform{Certificate: id.Certificate, Evidence: func(ctx context.Context, nonce [32]byte) ([]byte, error) {
			return f.evidence(front.WithVisible(ctx, callers.ForPeers()), attest.Request{Version: attest.RequestVersion, Nonce: nonce})
		}},
		Appraiser: appraiser,
		Link:      f.platformLink,
		Log:       f.c.log,
	}, nil
}

// certify gives the TLS key a certificate with evidence as of now.
func (f *frontChild) certify(ctx context.Context, id *front.Identity) error {
	var reply certificateReply
	if _, err := f.signer.Call(ctx, opCertificate, nothing{}, &reply); err != nil {
		return err
	}
	return id.Issue(reply.Token)
}

// renewPause is the wait after a certificate that could not be renewed.
const renewPause = time.Minute

// renew certifies the TLS key again and again, before the evidence is too old.
// Where that fails, the old certificate stays: verifiers refuse it in time.
func (f *frontChild) renew(life context.Context, id *front.Identity) {
	for wait := attest.CertificateMaxAge / 2; ; {
		select {
		case <-life.Done():
			return
		case <-time.After(wait):
		}
		wait = attest.CertificateMaxAge / 2
		ctx, cancel := context.WithTimeout(life, renewPause)
		if err := f.certify(ctx, id); err != nil {
			f.c.log.Warn("renewing the certificate", "error", err)
			wait = renewPause
		}
		cancel()
	}
}

func (f *frontChild) setReady(context.Context, nothing) (nothing, error) {
	f.ready.Store(true)
	return nothing{}, nil
}

// evidence asks the signer for what the asker in ctx may see.
func (f *frontChild) evidence(ctx context.Context, r attest.Request) ([]byte, error) {
	var reply evidenceReply
	req := evidenceRequest{Nonce: r.Nonce, Visible: front.Visible(ctx), Have: r.Have, Open: r.Open}
	files, err := f.signer.Call(ctx, opEvidence, req, &reply)
	return oneFile(files, reply.Found, err)
}

func (f *frontChild) logFile(ctx context.Context, path string) ([]byte, error) {
	var reply readReply
	files, err := f.log.Call(ctx, opRead, readRequest{Path: path}, &reply)
	return oneFile(files, reply.Found, err)
}

// oneFile reads the one file that a sibling's answer came with, and closes it.
func oneFile(files []*os.File, found bool, err error) ([]byte, error) {
	defer func() {
		for _, f := range files {
			_ = f.Close()
		}
	}()
	switch {
	case err != nil:
		return nil, err
	case !found:
		return nil, front.ErrNotFound
	case len(files) != 1:
		return nil, errors.New("an answer without its file")
	}
	return readFile(files[0])
}

// readFile reads a file of the log. The writer left its offset at its end.
func readFile(f *os.File) ([]byte, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("log file: %w", err)
	}
	if info.Size() > maxLogFile {
		return nil, fmt.Errorf("log file of %d bytes is over %d", info.Size(), maxLogFile)
	}
	b := make([]byte, info.Size()) // at once: several may be read, and growing takes twice the memory
	if _, err := f.ReadAt(b, 0); err != nil {
		return nil, fmt.Errorf("log file: %w", err)
	}
	return b, nil
}
