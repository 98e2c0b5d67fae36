package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"omega/policy/gateway"
)

// platform begins to serve a platform that the front has appraised, for as long
// as its link is open.
func (g *gatewayChild) platform(life context.Context, req platformID, f *os.File) (nothing, error) {
	if f == nil {
		return nothing{}, errors.New("platform: no descriptor")
	}
	conn, err := net.FileConn(f)
	_ = f.Close()
	if err != nil {
		return nothing{}, fmt.Errorf("platform: %w", err)
	}
	g.mu.Lock()
	gw := g.gw
	g.mu.Unlock()
	if gw == nil {
		return nothing{}, errors.Join(errNotStarted, conn.Close())
	}
	go func() {
		if err := gw.ServePlatform(life, gateway.Platform{Boot: req.Boot, Policy: req.Policy}, conn); err != nil && life.Err() == nil {
			g.c.log.Warn("link of a platform", "error", err)
		}
	}()
	return nothing{}, nil
}

// maxDials bounds the connections that the front has not taken yet.
const maxDials = 64

// dialer has the front attest connections.
type dialer struct {
	wanted chan *dialing

	mu   sync.Mutex // guards what follows
	last uint64
	open map[uint64]*dialing
}

// dialing is one connection on its way.
type dialing struct {
	id    uint64
	files []*os.File // the socket, and the end of the link that the front gets
	done  chan dialedRequest
}

func newDialer() *dialer {
	return &dialer{wanted: make(chan *dialing, maxDials), open: map[uint64]*dialing{}}
}

// attest is gateway.Config.Attest: raw goes to the front, and comes back as a link
// over which the attested connection's content goes.
func (d *dialer) attest(ctx context.Context, raw net.Conn) (net.Conn, gateway.Platform, error) {
	link, files, err := handOver(raw)
	if err != nil {
		return nil, gateway.Platform{}, err
	}
	d.mu.Lock()
	d.last++
	one := &dialing{id: d.last, files: files, done: make(chan dialedRequest, 1)}
	d.open[one.id] = one
	d.mu.Unlock()
	defer d.forget(one)
	select {
	case d.wanted <- one:
	default:
		closeFiles(files)
		return nil, gateway.Platform{}, errors.Join(errors.New("too many platforms are being dialled"), link.Close())
	}
	select {
	case got := <-one.done:
		if got.Error != "" {
			return nil, gateway.Platform{}, errors.Join(errors.New(clip(got.Error, maxReason)), link.Close())
		}
		return link, gateway.Platform{Boot: got.Platform.Boot, Policy: got.Platform.Policy}, nil
	case <-ctx.Done():
		return nil, gateway.Platform{}, errors.Join(ctx.Err(), link.Close())
	}
}

func (d *dialer) forget(one *dialing) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.open, one.id)
}

// handOver gives up a socket: what is left is one end of a link, and the files
// are the socket and the other end.
func handOver(raw net.Conn) (net.Conn, []*os.File, error) {
	tcp, ok := raw.(*net.TCPConn)
	if !ok {
		return nil, nil, fmt.Errorf("a connection of type %T is not handed over", raw)
	}
	socket, err := tcp.File()
	if err != nil {
		return nil, nil, err
	}
	ours, theirs, err := streamPair()
	if err != nil {
		return nil, nil, errors.Join(err, socket.Close())
	}
	return ours, []*os.File{socket, theirs}, raw.Close()
}

// streamPair makes a connected pair: one end to use, the other to pass on.
func streamPair() (net.Conn, *os.File, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("link: %w", err)
	}
	ours, theirs := os.NewFile(uintptr(fds[0]), "link"), os.NewFile(uintptr(fds[1]), "link")
	conn, err := net.FileConn(ours)
	_ = ours.Close()
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("link: %w", err), theirs.Close())
	}
	return conn, theirs, nil
}

func closeFiles(files []*os.File) {
	for _, f := range files {
		_ = f.Close()
	}
}

// take waits for a connection that is to be attested; the files go along.
func (d *dialer) take(ctx context.Context, _ json.RawMessage, files []*os.File) (any, []*os.File, error) {
	closeFiles(files)
	select {
	case one := <-d.wanted:
		return dialsReply{ID: one.id}, one.files, nil
	case <-ctx.Done():
		return nil, nil, ctx.Err()
	}
}

// done tells who waits what came of one.
func (d *dialer) done(_ context.Context, req dialedRequest) (nothing, error) {
	d.mu.Lock()
	one := d.open[req.ID]
	delete(d.open, req.ID)
	d.mu.Unlock()
	if one != nil {
		one.done <- req
	}
	return nothing{}, nil
}
