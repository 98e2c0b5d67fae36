package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"omega/attest/atls"
	"omega/init/internal/front"
)

func platformOf(p *atls.Peer) platformID {
	return platformID{Boot: p.Evidence.Boot.BootID, Policy: p.Evidence.Boot.PolicyDigest}
}

// platformLink opens the link to the gateway for what a peer sends here.
func (f *frontChild) platformLink(ctx context.Context, p *atls.Peer) (net.Conn, error) {
	conn, theirs, err := streamPair()
	if err != nil {
		return nil, err
	}
	_, err = f.gateway.Call(ctx, opPlatform, platformOf(p), nil, theirs)
	_ = theirs.Close()
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return conn, nil
}

// dialPause is the wait after the gateway could not be asked.
const dialPause = time.Second

// dialPeers attests what the gateway wants attested, until life ends. A platform
// without peers says so each time.
func (f *frontChild) dialPeers(life context.Context, p *front.Peers) {
	var all sync.WaitGroup
	defer all.Wait()
	for life.Err() == nil {
		var reply dialsReply
		files, err := f.gateway.Call(life, opDials, nothing{}, &reply)
		if err != nil || len(files) != 2 {
			closeFiles(files)
			select {
			case <-life.Done():
			case <-time.After(dialPause):
			}
			continue
		}
		all.Go(func() { f.dialPeer(life, p, reply.ID, files) })
	}
}

// dialPeer attests one connection, and then carries what goes over it.
func (f *frontChild) dialPeer(life context.Context, p *front.Peers, id uint64, files []*os.File) {
	conns, err := connections(files)
	if err != nil {
		f.dialed(life, dialedRequest{ID: id, Error: err.Error()})
		return
	}
	conn, peer, err := attested(life, p, conns[0])
	if err != nil {
		f.c.log.Warn("a platform is not accepted as a peer", "error", err)
		f.dialed(life, dialedRequest{ID: id, Error: err.Error()})
		_ = hangUp(conns)
		return
	}
	f.dialed(life, dialedRequest{ID: id, Platform: platformOf(peer)})
	stop := context.AfterFunc(life, func() { _ = hangUp(conns) })
	defer stop()
	carry(conn, conns[1])
}

// attested appraises the other side of a socket.
func attested(ctx context.Context, p *front.Peers, socket net.Conn) (net.Conn, *atls.Peer, error) {
	if p == nil {
		return nil, nil, errors.New("this platform's measured roots name no peers")
	}
	return front.Dial(ctx, "", p, func(context.Context, string, string) (net.Conn, error) { return socket, nil })
}

func (f *frontChild) dialed(ctx context.Context, req dialedRequest) {
	if _, err := f.gateway.Call(ctx, opDialed, req, nil); err != nil {
		f.c.log.Warn("telling the gateway of a peer", "error", fmt.Errorf("%s: %w", opDialed, err))
	}
}

// carry copies between two connections until both directions have ended.
func carry(a, b net.Conn) {
	var both sync.WaitGroup
	for _, way := range [][2]net.Conn{{a, b}, {b, a}} {
		both.Go(func() {
			_, _ = io.Copy(way[0], way[1]) // an end is an end
			_ = way[0].Close()
			_ = way[1].Close()
		})
	}
	both.Wait()
}
