// Package dhcp gets one IPv4 address: the client half of RFC 2131 that a guest
// needs at boot, over a UDP socket that the caller made. Everything that arrives
// is hostile; what does not parse exactly is ignored. It sets nothing up and
// does not renew: the lease is the host's word for an interface of its own.
package dhcp

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
)

// Message types (RFC 2132 section 9.6).
const (
	discover = 1
	offer    = 2
	request  = 3
	ack      = 5
	nak      = 6
)

// Options (RFC 2132).
const (
	optPad       = 0
	optMask      = 1
	optRouter    = 3
	optRequested = 50
	optType      = 53
	optServer    = 54
	optParams    = 55
	optEnd       = 255
)

// Layout of a message (RFC 2131 section 2): fixed fields, then the cookie.
const (
	fixedLen    = 236
	opReply     = 2
	opRequest   = 1
	typeEther   = 1
	flagsOffset = 10
	yiaddr      = 16
	chaddr      = 28
)

// maxPacket is what we read at most.
const maxPacket = 1500

// cookie begins the options (RFC 2131 section 3).
var cookie = []byte{99, 130, 83, 99}

// reply is what we use of a server's message.
type reply struct {
	kind   byte
	xid    uint32
	hw     [6]byte
	addr   netip.Addr
	mask   int // prefix length, -1 if not given
	router netip.Addr
	server netip.Addr
}

// encode makes a message of ours. The broadcast flag is set: an answer to an
// address that is not configured yet would not reach us.
func encode(kind byte, xid uint32, hw [6]byte, requested, server netip.Addr) []byte {
	b := make([]byte, fixedLen, 300)
	b[0], b[1], b[2] = opRequest, typeEther, byte(len(hw))
	binary.BigEndian.PutUint32(b[4:], xid)
	binary.BigEndian.PutUint16(b[flagsOffset:], 0x8000)
	copy(b[chaddr:], hw[:])
	b = append(b, cookie...)
	b = append(b, optType, 1, kind)
	if requested.IsValid() {
		b = append(append(b, optRequested, 4), requested.AsSlice()...)
	}
	if server.IsValid() {
		b = append(append(b, optServer, 4), server.AsSlice()...)
	}
	b = append(b, optParams, 2, optMask, optRouter, optEnd)
	return append(b, make([]byte, 300-len(b))...) // some servers drop shorter ones (RFC 1542 section 2.1)
}

// parse reads a server's message.
func parse(b []byte) (*reply, error) {
	if len(b) < fixedLen+len(cookie) || len(b) > maxPacket {
		return nil, fmt.Errorf("dhcp: %d bytes", len(b))
	}
	if b[0] != opReply || b[1] != typeEther || b[2] != 6 {
		return nil, errors.New("dhcp: not a reply for Ethernet")
	}
	if !bytes.Equal(b[fixedLen:fixedLen+4], cookie) {
		return nil, errors.New("dhcp: no cookie")
	}
	r := &reply{xid: binary.BigEndian.Uint32(b[4:]), hw: [6]byte(b[chaddr:]), addr: addr4(b[yiaddr:]), mask: -1}
	if err := r.options(b[fixedLen+4:]); err != nil {
		return nil, err
	}
	if r.kind == 0 {
		return nil, errors.New("dhcp: no message type")
	}
	return r, nil
}

func (r *reply) options(b []byte) error {
	seen := [256]bool{}
	for len(b) > 0 {
		code := b[0]
		if code == optPad {
			b = b[1:]
			continue
		}
		if code == optEnd {
			return nil
		}
		if len(b) < 2 || len(b) < 2+int(b[1]) {
			return errors.New("dhcp: option cut short")
		}
		value := b[2 : 2+int(b[1])]
		b = b[2+int(b[1]):]
		if seen[code] {
			return fmt.Errorf("dhcp: option %d twice", code)
		}
		seen[code] = true
		if err := r.option(code, value); err != nil {
			return err
		}
	}
	return errors.New("dhcp: options without end")
}

func (r *reply) option(code byte, v []byte) error {
	switch code {
	case optType:
		if len(v) != 1 {
			return errors.New("dhcp: message type")
		}
		r.kind = v[0]
	case optMask:
		if len(v) != 4 {
			return errors.New("dhcp: mask")
		}
		return r.setMask(binary.BigEndian.Uint32(v))
	case optRouter:
		if len(v) == 0 || len(v)%4 != 0 {
			return errors.New("dhcp: router")
		}
		r.router = addr4(v)
	case optServer:
		if len(v) != 4 {
			return errors.New("dhcp: server")
		}
		r.server = addr4(v)
	}
	return nil
}

// setMask turns a mask into a prefix length; ones must not follow zeros.
func (r *reply) setMask(m uint32) error {
	for n := range 33 {
		if m == ^uint32(0)<<(32-n) {
			r.mask = n
			return nil
		}
	}
	return fmt.Errorf("dhcp: mask %08x", m)
}

func addr4(b []byte) netip.Addr { return netip.AddrFrom4([4]byte(b)) }
