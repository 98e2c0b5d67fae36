package dhcp

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"
)

// A Lease is an address with its prefix, and the router (invalid if none).
type Lease struct {
	Address netip.Prefix
	Router  netip.Addr
}

// ErrNoLease reports that no server gave an address in time.
var ErrNoLease = errors.New("no DHCP lease")

// Bounds of one exchange: how often a message is sent, how long an answer may
// take at first (it doubles), and how many datagrams are looked at.
const (
	tries       = 5
	firstWait   = 500 * time.Millisecond
	maxReceived = 256
)

// broadcast is where a client without an address talks to.
var broadcast = &net.UDPAddr{IP: net.IPv4bcast, Port: 67}

// Get asks for a lease for hw over conn, which is bound to port 68 of the
// interface and may broadcast. xid should be random.
func Get(ctx context.Context, conn net.PacketConn, hw [6]byte, xid uint32) (Lease, error) {
	c := &client{conn: conn, hw: hw, xid: xid}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	for try := range tries {
		if err := ctx.Err(); err != nil {
			return Lease{}, err
		}
		c.wait = firstWait << try
		lease, err := c.try()
		if err == nil || !errors.Is(err, errAgain) {
			return lease, err
		}
	}
	return Lease{}, fmt.Errorf("%w after %d tries", ErrNoLease, tries)
}

// errAgain reports silence or a refusal: start over.
var errAgain = errors.New("dhcp: no usable answer")

type client struct {
	conn net.PacketConn
	hw   [6]byte
	xid  uint32
	wait time.Duration
	seen int
}

// try is one discover, offer, request, ack.
func (c *client) try() (Lease, error) {
	if err := c.send(discover, netip.Addr{}, netip.Addr{}); err != nil {
		return Lease{}, err
	}
	o, err := c.receive(offer)
	if err != nil {
		return Lease{}, err
	}
	if err := c.send(request, o.addr, o.server); err != nil {
		return Lease{}, err
	}
	a, err := c.receive(ack)
	if err != nil {
		return Lease{}, err
	}
	if a.addr != o.addr {
		return Lease{}, errAgain
	}
	return a.lease()
}

func (c *client) send(kind byte, requested, server netip.Addr) error {
	if _, err := c.conn.WriteTo(encode(kind, c.xid, c.hw, requested, server), broadcast); err != nil {
		return fmt.Errorf("sending DHCP message: %w", err)
	}
	return nil
}

// receive waits for a message of one kind that answers ours and is complete.
func (c *client) receive(kind byte) (*reply, error) {
	if err := c.conn.SetReadDeadline(time.Now().Add(c.wait)); err != nil {
		return nil, err
	}
	b := make([]byte, maxPacket+1)
	for ; c.seen < maxReceived; c.seen++ {
		n, _, err := c.conn.ReadFrom(b)
		var timeout net.Error
		if errors.As(err, &timeout) && timeout.Timeout() {
			return nil, errAgain
		}
		if err != nil {
			return nil, fmt.Errorf("receiving DHCP message: %w", err)
		}
		r, err := parse(b[:n])
		if err != nil || r.xid != c.xid || r.hw != c.hw {
			continue // not for us
		}
		if r.kind == nak {
			return nil, errAgain
		}
		if r.kind == kind && r.usable() {
			return r, nil
		}
	}
	return nil, ErrNoLease
}

// usable says whether r offers an address that an interface can have.
func (r *reply) usable() bool {
	return r.server.IsValid() && r.mask > 0 && r.addr.IsGlobalUnicast()
}

// lease checks that the router can be reached directly.
func (r *reply) lease() (Lease, error) {
	l := Lease{Address: netip.PrefixFrom(r.addr, r.mask)}
	if r.router.IsValid() && r.router.IsGlobalUnicast() && l.Address.Contains(r.router) && r.router != r.addr {
		l.Router = r.router
	}
	return l, nil
}
