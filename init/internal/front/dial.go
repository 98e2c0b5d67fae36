package front

import (
	"context"
	"crypto/tls"
	"errors"
	"net"

	"omega/attest/atls"
)

// Dial connects to the platform at address (host:port) as a peer: it returns
// once both sides have appraised each other. What dials is the caller's, so that
// it can check the address. The connection carries HTTP/1.1.
func Dial(ctx context.Context, address string, p *Peers, dial func(ctx context.Context, network, address string) (net.Conn, error)) (net.Conn, *atls.Peer, error) {
	raw, err := dial(ctx, "tcp", address)
	if err != nil {
		return nil, nil, err
	}
	conn := tls.Client(raw, atls.ClientConfig(p.Own, p.Appraiser))
	peer, err := atls.Exchange(ctx, conn, true, p.Own, p.Appraiser)
	if err != nil {
		return nil, nil, errors.Join(err, raw.Close())
	}
	return conn, peer, nil
}
