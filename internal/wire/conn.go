// Package wire carries requests and replies between PID 1 and its children
// over SOCK_SEQPACKET socket pairs, with descriptors beside them.
//
// A message is one strict JSON frame of at most MaxMessage bytes. It travels
// in packets of at most 64 KiB, so that neither socket buffer limits nor the
// kernel's contiguous allocations decide what can be said. The package knows
// nothing about what is said: operations and bodies belong to the two ends.
// It does not authenticate: whoever holds the other end of a pair is the peer.
package wire

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"syscall"
	"time"
)

const (
	// MaxMessage bounds one frame.
	MaxMessage = 1 << 20
	// MaxFiles bounds the descriptors beside one frame.
	MaxFiles = 8
	// maxPacket is the payload of one packet; one more byte is its header.
	maxPacket = 64 << 10
	// sendBuffer lets a whole message wait in the socket where it is allowed.
	sendBuffer = 2 * MaxMessage
	// lastWords is how long an ended server may still wait to answer.
	lastWords = 2 * time.Second
)

// Packet headers.
const (
	packetLast = 0
	packetMore = 1
)

// Sentinels that callers act on.
var (
	// ErrTooLarge reports a message above MaxMessage or with too many files.
	ErrTooLarge = errors.New("message too large")
	// ErrProtocol reports a peer that does not follow the protocol; the
	// connection is of no more use.
	ErrProtocol = errors.New("wire protocol violation")
)

// Conn is one end of a pair. Sending is safe for concurrent use, receiving is
// for one goroutine.
type Conn struct {
	f   *os.File
	rc  syscall.RawConn
	buf []byte // receive buffer

	sendMu sync.Mutex // one message at a time
}

// NewConn takes over f, one end of a SOCK_SEQPACKET pair.
func NewConn(f *os.File) (*Conn, error) {
	fd, err := dup(f)
	if err != nil {
		return nil, fmt.Errorf("taking over socket: %w", err)
	}
	f.Close()
	if err := checkSeqpacket(fd); err != nil {
		syscall.Close(fd)
		return nil, err
	}
	// Non-blocking before NewFile, so that the runtime's poller serves it.
	if err := syscall.SetNonblock(fd, true); err != nil {
		syscall.Close(fd)
		return nil, fmt.Errorf("non-blocking socket: %w", err)
	}
	own := os.NewFile(uintptr(fd), "wire")
	rc, err := own.SyscallConn()
	if err != nil {
		own.Close()
		return nil, fmt.Errorf("raw socket: %w", err)
	}
	return &Conn{f: own, rc: rc, buf: make([]byte, maxPacket+1)}, nil
}

// Close ends the connection; the peer sees the end of the stream.
func (c *Conn) Close() error { return c.f.Close() }

// Pair makes a connected pair, closed on exec, with enlarged buffers.
func Pair() (a, b *os.File, err error) {
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_SEQPACKET|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("socket pair: %w", err)
	}
	for _, fd := range fds {
		enlarge(fd)
	}
	return os.NewFile(uintptr(fds[0]), "wire-a"), os.NewFile(uintptr(fds[1]), "wire-b"), nil
}

// enlarge asks for room for whole messages. A refusal costs only waiting.
func enlarge(fd int) {
	if syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_SNDBUFFORCE, sendBuffer) != nil {
		_ = syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_SNDBUF, sendBuffer)
	}
}

// send writes one message; files travel with its first packet.
func (c *Conn) send(msg []byte, files []*os.File) error {
	if len(msg) > MaxMessage || len(files) > MaxFiles {
		return ErrTooLarge
	}
	c.sendMu.Lock()
	defer c.sendMu.Unlock()
	packet := make([]byte, 0, min(len(msg), maxPacket)+1)
	for first := true; first || len(msg) > 0; first = false {
		n := min(len(msg), maxPacket)
		header := byte(packetLast)
		if n < len(msg) {
			header = packetMore
		}
		packet = append(append(packet[:0], header), msg[:n]...)
		msg = msg[n:]
		if !first {
			files = nil
		}
		if err := c.sendPacket(packet, files); err != nil {
			return err
		}
	}
	return nil
}

func (c *Conn) sendPacket(p []byte, files []*os.File) error {
	oob, release, err := rights(files)
	if err != nil {
		return err
	}
	defer release()
	var sendErr error
	err = c.rc.Write(func(fd uintptr) bool {
		for {
			_, sendErr = syscall.SendmsgN(int(fd), p, oob, nil, syscall.MSG_NOSIGNAL)
			if sendErr != syscall.EINTR {
				return sendErr != syscall.EAGAIN
			}
		}
	})
	if err := errors.Join(err, sendErr); err != nil {
		return fmt.Errorf("sending packet: %w", err)
	}
	return nil
}

// receive reads one message. io.EOF means that the peer has closed.
func (c *Conn) receive() (msg []byte, files []*os.File, err error) {
	defer func() {
		if err != nil {
			closeAll(files)
			files = nil
		}
	}()
	for first := true; ; first = false {
		n, fds, err := c.receivePacket()
		files = append(files, fds...)
		switch {
		case err == io.EOF && !first:
			return nil, files, fmt.Errorf("%w: message cut short", ErrProtocol)
		case err != nil:
			return nil, files, err
		case len(fds) > 0 && !first:
			return nil, files, fmt.Errorf("%w: unexpected descriptors", ErrProtocol)
		case c.buf[0] > packetMore:
			return nil, files, fmt.Errorf("%w: packet header %d", ErrProtocol, c.buf[0])
		case len(msg)+n-1 > MaxMessage:
			return nil, files, fmt.Errorf("%w: %w", ErrProtocol, ErrTooLarge)
		case n == 1 && c.buf[0] == packetMore:
			return nil, files, fmt.Errorf("%w: empty packet", ErrProtocol)
		}
		msg = append(msg, c.buf[1:n]...)
		if c.buf[0] == packetLast {
			return msg, files, nil
		}
	}
}

// receivePacket fills c.buf. A packet has at least its header byte, so zero
// bytes mean that the peer is gone.
func (c *Conn) receivePacket() (n int, files []*os.File, err error) {
	oob := make([]byte, syscall.CmsgSpace(4*MaxFiles))
	var oobn, flags int
	var recvErr error
	err = c.rc.Read(func(fd uintptr) bool {
		for {
			n, oobn, flags, _, recvErr = syscall.Recvmsg(int(fd), c.buf, oob, syscall.MSG_CMSG_CLOEXEC)
			if recvErr != syscall.EINTR {
				return recvErr != syscall.EAGAIN
			}
		}
	})
	if err := errors.Join(err, recvErr); err != nil {
		if errors.Is(err, syscall.ECONNRESET) {
			return 0, nil, io.EOF
		}
		return 0, nil, fmt.Errorf("receiving packet: %w", err)
	}
	files, err = received(oob[:oobn])
	switch {
	case err != nil:
		return 0, files, err
	case flags&(syscall.MSG_TRUNC|syscall.MSG_CTRUNC) != 0:
		return 0, files, fmt.Errorf("%w: packet too large", ErrProtocol)
	case n == 0:
		return 0, files, io.EOF
	}
	return n, files, nil
}

// interrupt makes a waiting receive return at once, and gives a waiting send
// a moment longer.
func (c *Conn) interrupt() {
	_ = c.f.SetReadDeadline(time.Unix(1, 0))
	_ = c.f.SetWriteDeadline(time.Now().Add(lastWords))
}
