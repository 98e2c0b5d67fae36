package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"omega/cmd/omega/internal/qemu"
)

// A hostilePeer shares the guest's network segment with QEMU's own network. It
// answers each DHCP message with malformed and lying ones, before QEMU does, and
// keeps sending frames that nobody asked for.
type hostilePeer struct {
	args   []string // QEMU's arguments for the segment and the guest's card
	conn   *net.UnixConn
	remote *net.UnixAddr

	mu             sync.Mutex // guards what follows
	offers, frames int
}

// newHostilePeer makes the segment, with sockets in dir; port leads to the guest.
func newHostilePeer(t *testing.T, dir string, port int) *hostilePeer {
	t.Helper()
	mine, theirs := filepath.Join(dir, "peer"), filepath.Join(dir, "segment")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: mine, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	p := &hostilePeer{conn: conn, remote: &net.UnixAddr{Name: theirs, Net: "unixgram"}}
	p.args = []string{
		"-netdev", fmt.Sprintf("user,id=user,ipv6=off,hostfwd=tcp:127.0.0.1:%d-:%d", port, qemu.GuestPort),
		"-netdev", "hubport,id=hub-user,hubid=0,netdev=user",
		"-netdev", fmt.Sprintf("dgram,id=peer,local.type=unix,local.path=%s,remote.type=unix,remote.path=%s", theirs, mine),
		"-netdev", "hubport,id=hub-peer,hubid=0,netdev=peer",
		"-netdev", "hubport,id=hub-guest,hubid=0",
		"-device", "virtio-net-pci,netdev=hub-guest,romfile=",
	}
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() { p.flood(done) })
	wg.Go(p.answer)
	t.Cleanup(func() { close(done); conn.Close(); wg.Wait() })
	return p
}

// sent is how many DHCP messages and other frames left for the guest.
func (p *hostilePeer) sent() (offers, frames int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.offers, p.frames
}

// send sends a frame; QEMU may not be there yet, or any more.
func (p *hostilePeer) send(frame []byte, offers, frames int) {
	if _, err := p.conn.WriteToUnix(frame, p.remote); err != nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.offers, p.frames = p.offers+offers, p.frames+frames
}

// Offsets in a frame: Ethernet, IPv4 without options, UDP.
const (
	atIP   = 14
	atUDP  = atIP + 20
	atDHCP = atUDP + 8
)

// answer answers what the guest's DHCP client says.
func (p *hostilePeer) answer() {
	b := make([]byte, 2048)
	for {
		n, err := p.conn.Read(b)
		if err != nil {
			return
		}
		frame := b[:n]
		if n < atDHCP+240 || frame[12] != 8 || frame[atIP+9] != 17 || binary.BigEndian.Uint16(frame[atUDP+2:]) != 67 {
			continue
		}
		for _, lie := range lies(frame[atDHCP:]) {
			p.send(udpFrame(frame[6:12], lie), 1, 0)
		}
	}
}

// lies are answers to a DHCP message (RFC 2131) that a client must not act on.
func lies(question []byte) (list [][]byte) {
	message := func(address []byte, options ...byte) []byte {
		b := bytes.Clone(question[:240])
		b[0] = 2 // BOOTREPLY
		copy(b[16:], address)
		return append(b, options...)
	}
	good := []byte{10, 0, 2, 99} // whoever takes it is not where QEMU forwards to
	offer, server := []byte{53, 1, 2}, []byte{54, 4, 10, 0, 2, 66}
	mask, end := []byte{1, 4, 255, 255, 255, 0}, []byte{255}
	with := func(address []byte, parts ...[]byte) {
		list = append(list, message(address, bytes.Join(parts, nil)...))
	}
	with(good)
	with(good, offer, server, mask)                                        // no end
	with(good, offer, server, mask, []byte{3, 255, 1})                     // an option longer than the message
	with(good, offer, server, mask, mask, end)                             // an option twice
	with(good, offer, server, []byte{1, 4, 255, 0, 255, 0}, end)           // a mask with a hole
	with(good, offer, server, []byte{1, 4, 0, 0, 0, 0}, end)               // a mask that takes in the world
	with(good, offer, server, mask, bytes.Repeat([]byte{43, 0}, 700), end) // more than fits
	with(good, []byte{53, 0}, server, mask, end)                           // a type without a value
	with(good, offer, []byte{54, 1, 9}, mask, end)                         // a server of one byte
	for _, address := range [][]byte{{0, 0, 0, 0}, {127, 0, 0, 1}, {224, 0, 0, 1}, {255, 255, 255, 255}} {
		with(address, offer, server, mask, end)
	}
	other := message(good, bytes.Join([][]byte{offer, server, mask, end}, nil)...)
	other[4] ^= 1 // somebody else's transaction
	return append(list, other, other[:100], nil)
}

// udpFrame is a DHCP answer on its way to the guest.
func udpFrame(to, payload []byte) []byte {
	f := append(bytes.Clone(to), 0x52, 0x54, 0, 0xe, 0x17, 0x1, 8, 0)
	f = append(f, 0x45, 0, 0, 0, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 2, 66, 255, 255, 255, 255)
	binary.BigEndian.PutUint16(f[atIP+2:], uint16(28+len(payload)))
	var sum uint32
	for i := atIP; i < atUDP; i += 2 {
		sum += uint32(binary.BigEndian.Uint16(f[i:]))
	}
	binary.BigEndian.PutUint16(f[atIP+10:], ^uint16(sum>>16+sum&0xffff))
	f = append(f, 0, 67, 0, 68)
	f = binary.BigEndian.AppendUint16(f, uint16(8+len(payload)))
	return append(append(f, 0, 0), payload...)
}

// flood sends a frame every few milliseconds, with every kind of content.
func (p *hostilePeer) flood(done <-chan struct{}) {
	random := rand.New(rand.NewPCG(1, 2))
	// IPv4, ARP, IPv6, VLAN, MPLS, PPPoE, 802.1X, LLDP, a length, nothing known.
	kinds := []uint16{0x0800, 0x0806, 0x86dd, 0x8100, 0x8847, 0x8864, 0x888e, 0x88cc, 60, 0xffff}
	for tick := time.NewTicker(5 * time.Millisecond); ; {
		select {
		case <-done:
			tick.Stop()
			return
		case <-tick.C:
		}
		f := append([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x52, 0x54, 0, 0xe, 0x17, 0x2}, 0, 0)
		binary.BigEndian.PutUint16(f[12:], kinds[random.IntN(len(kinds))])
		for range random.IntN(1400) {
			f = append(f, byte(random.Uint32()))
		}
		if f[12] == 8 && f[13] == 0 && len(f) > atUDP { // nearly an IPv4 packet
			f[atIP], f[atIP+9] = 0x45+byte(random.IntN(3)), []byte{1, 2, 6, 17, 47, 50}[random.IntN(6)]
		}
		p.send(f, 0, 1)
	}
}
