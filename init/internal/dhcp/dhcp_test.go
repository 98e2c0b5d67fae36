package dhcp

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"testing"
	"time"
)

var hw = [6]byte{0x52, 0x54, 0, 0x12, 0x34, 0x56}

// answer makes a server's message; extra are raw options before the end.
func answer(kind byte, xid uint32, hw [6]byte, addr string, extra ...byte) []byte {
	b := make([]byte, fixedLen)
	b[0], b[1], b[2] = opReply, typeEther, 6
	binary.BigEndian.PutUint32(b[4:], xid)
	copy(b[yiaddr:], netip.MustParseAddr(addr).AsSlice())
	copy(b[chaddr:], hw[:])
	b = append(append(b, cookie...), optType, 1, kind)
	return append(append(b, extra...), optEnd)
}

// full are the options of QEMU's own server: mask, router, server, lease time.
var full = []byte{optMask, 4, 255, 255, 255, 0, optRouter, 4, 10, 0, 2, 2, optServer, 4, 10, 0, 2, 2, 51, 4, 0, 1, 81, 128}

func TestParseReadsAnOffer(t *testing.T) {
	r, err := parse(answer(offer, 7, hw, "10.0.2.15", full...))
	if err != nil {
		t.Fatal(err)
	}
	if r.kind != offer || r.xid != 7 || r.hw != hw || r.addr.String() != "10.0.2.15" || r.mask != 24 ||
		r.router.String() != "10.0.2.2" || r.server.String() != "10.0.2.2" {
		t.Errorf("read %+v", r)
	}
}

func TestParseRefusesMalformedMessages(t *testing.T) {
	ok := answer(offer, 7, hw, "10.0.2.15", full...)
	edit := func(f func([]byte) []byte) []byte { return f(bytes.Clone(ok)) }
	tests := []struct {
		name string
		b    []byte
	}{
		{"nothing", nil},
		{"a message cut short", ok[:fixedLen]},
		{"too long", append(bytes.Clone(ok), make([]byte, maxPacket)...)},
		{"a request", edit(func(b []byte) []byte { b[0] = opRequest; return b })},
		{"another hardware type", edit(func(b []byte) []byte { b[1] = 6; return b })},
		{"another address length", edit(func(b []byte) []byte { b[2] = 16; return b })},
		{"no cookie", edit(func(b []byte) []byte { b[fixedLen] = 0; return b })},
		{"no end", ok[:len(ok)-1]},
		{"an option longer than the message", answer(offer, 7, hw, "10.0.2.15", optMask, 200, 255)},
		{"an option without length", append(answer(offer, 7, hw, "10.0.2.15")[:fixedLen+7], optMask)},
		{"an option twice", answer(offer, 7, hw, "10.0.2.15", append(bytes.Clone(full), full...)...)},
		{"a mask with holes", answer(offer, 7, hw, "10.0.2.15", optMask, 4, 255, 0, 255, 0)},
		{"a short mask", answer(offer, 7, hw, "10.0.2.15", optMask, 2, 255, 255)},
		{"half a router", answer(offer, 7, hw, "10.0.2.15", optRouter, 2, 10, 0)},
		{"no router in the option", answer(offer, 7, hw, "10.0.2.15", optRouter, 0)},
		{"a short server", answer(offer, 7, hw, "10.0.2.15", optServer, 1, 10)},
		{"no message type", append(append(bytes.Clone(ok[:fixedLen+4]), full...), optEnd)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if r, err := parse(tt.b); err == nil {
				t.Errorf("accepted as %+v", r)
			}
		})
	}
}

// server is a fake network: each message of ours is answered by script.
type server struct {
	script func(msg []byte) [][]byte
	queue  chan []byte
}

func newServer(script func([]byte) [][]byte) *server {
	return &server{script: script, queue: make(chan []byte, 1024)}
}

type timeoutError struct{}

func (timeoutError) Error() string   { return "timeout" }
func (timeoutError) Timeout() bool   { return true }
func (timeoutError) Temporary() bool { return true }

func (s *server) ReadFrom(b []byte) (int, net.Addr, error) {
	select {
	case m := <-s.queue:
		return copy(b, m), broadcast, nil
	default:
		return 0, nil, timeoutError{} // silence costs no time here
	}
}

func (s *server) WriteTo(b []byte, _ net.Addr) (int, error) {
	for _, m := range s.script(bytes.Clone(b)) {
		s.queue <- m
	}
	return len(b), nil
}

func (s *server) Close() error                     { return nil }
func (s *server) LocalAddr() net.Addr              { return broadcast }
func (s *server) SetDeadline(time.Time) error      { return nil }
func (s *server) SetReadDeadline(time.Time) error  { return nil }
func (s *server) SetWriteDeadline(time.Time) error { return nil }

// kindOf is the message type of one of our messages.
func kindOf(b []byte) byte { return b[fixedLen+4+2] }

func answering(offered, acked []byte) func([]byte) [][]byte {
	return func(b []byte) [][]byte {
		if kindOf(b) == discover {
			return [][]byte{offered}
		}
		return [][]byte{acked}
	}
}

func TestGetTakesAnHonestLease(t *testing.T) {
	for _, tt := range []struct{ name, router string }{{"with a router", "10.0.2.2"}, {"without", ""}} {
		t.Run(tt.name, func(t *testing.T) {
			options := full
			if tt.router == "" {
				options = append(bytes.Clone(full[:6]), full[12:]...)
			}
			l, err := Get(context.Background(), newServer(answering(
				answer(offer, 9, hw, "10.0.2.15", options...), answer(ack, 9, hw, "10.0.2.15", options...))), hw, 9)
			if err != nil {
				t.Fatal(err)
			}
			router := ""
			if l.Router.IsValid() {
				router = l.Router.String()
			}
			if l.Address.String() != "10.0.2.15/24" || router != tt.router {
				t.Errorf("lease %v via %q", l.Address, router)
			}
		})
	}
}

func TestGetIsNotMisled(t *testing.T) {
	ok := answer(offer, 9, hw, "10.0.2.15", full...)
	other := [6]byte{2, 2, 2, 2, 2, 2}
	far := bytes.Replace(full, []byte{optRouter, 4, 10, 0, 2, 2}, []byte{optRouter, 4, 9, 9, 9, 9}, 1)
	tests := []struct {
		name   string
		script func([]byte) [][]byte
	}{
		{"silence", func([]byte) [][]byte { return nil }},
		{"another transaction", answering(answer(offer, 8, hw, "10.0.2.15", full...), answer(ack, 8, hw, "10.0.2.15", full...))},
		{"another machine's offer", answering(answer(offer, 9, other, "10.0.2.15", full...), answer(ack, 9, other, "10.0.2.15", full...))},
		{"garbage", answering([]byte("x"), nil)},
		{"an ack nobody asked for", answering(answer(ack, 9, hw, "10.0.2.15", full...), nil)},
		{"a refusal", answering(ok, answer(nak, 9, hw, "0.0.0.0", full...))},
		{"an ack for another address", answering(ok, answer(ack, 9, hw, "10.0.2.16", full...))},
		{"no server named", answering(answer(offer, 9, hw, "10.0.2.15", full[:12]...), answer(ack, 9, hw, "10.0.2.15", full[:12]...))},
		{"a loopback address", answering(answer(offer, 9, hw, "127.0.0.1", full...), answer(ack, 9, hw, "127.0.0.1", full...))},
		{"a multicast address", answering(answer(offer, 9, hw, "224.0.0.1", full...), answer(ack, 9, hw, "224.0.0.1", full...))},
		{"no address", answering(answer(offer, 9, hw, "0.0.0.0", full...), answer(ack, 9, hw, "0.0.0.0", full...))},
		{"a flood", func([]byte) [][]byte {
			out := make([][]byte, 200)
			for i := range out {
				out[i] = []byte("x")
			}
			return out
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if l, err := Get(context.Background(), newServer(tt.script), hw, 9); !errors.Is(err, ErrNoLease) {
				t.Errorf("lease %v, error %v", l, err)
			}
		})
	}
	t.Run("a router that cannot be reached is left out", func(t *testing.T) {
		l, err := Get(context.Background(), newServer(answering(
			answer(offer, 9, hw, "10.0.2.15", far...), answer(ack, 9, hw, "10.0.2.15", far...))), hw, 9)
		if err != nil || l.Router.IsValid() {
			t.Errorf("router %v, error %v", l.Router, err)
		}
	})
}

func TestGetEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := Get(ctx, newServer(func([]byte) [][]byte { return nil }), hw, 9); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add(answer(offer, 9, hw, "10.0.2.15", full...))
	f.Add(answer(ack, 9, hw, "10.0.2.15"))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := parse(b)
		if err != nil || !r.usable() {
			return
		}
		l, err := r.lease()
		if err != nil {
			return
		}
		if !l.Address.IsValid() || l.Address.Bits() < 1 {
			t.Errorf("lease %v of %x", l, b)
		}
	})
}
