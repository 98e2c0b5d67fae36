package wire

import (
	"errors"
	"fmt"
	"os"
	"syscall"
)

// fDupfdCloexec is F_DUPFD_CLOEXEC of linux/fcntl.h; package syscall has no
// name for it.
const fDupfdCloexec = 1030

// dup copies f's descriptor without changing f's mode, as f.Fd could.
func dup(f *os.File) (int, error) {
	rc, err := f.SyscallConn()
	if err != nil {
		return -1, err
	}
	fd, dupErr := -1, error(nil)
	err = rc.Control(func(old uintptr) {
		r, _, errno := syscall.Syscall(syscall.SYS_FCNTL, old, fDupfdCloexec, 0)
		if errno != 0 {
			dupErr = errno
			return
		}
		fd = int(r)
	})
	return fd, errors.Join(err, dupErr)
}

// rights is the control message that carries files. The descriptors in it are
// copies; release closes them once the packet is gone.
func rights(files []*os.File) (oob []byte, release func(), err error) {
	var fds []int
	release = func() {
		for _, fd := range fds {
			syscall.Close(fd)
		}
	}
	for _, f := range files {
		fd, err := dup(f)
		if err != nil {
			release()
			return nil, nil, fmt.Errorf("file to send: %w", err)
		}
		fds = append(fds, fd)
	}
	if len(fds) == 0 {
		return nil, release, nil
	}
	return syscall.UnixRights(fds...), release, nil
}

// received wraps the descriptors of a control message.
func received(oob []byte) ([]*os.File, error) {
	if len(oob) == 0 {
		return nil, nil
	}
	msgs, err := syscall.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, fmt.Errorf("%w: control message: %w", ErrProtocol, err)
	}
	var files []*os.File
	for i := range msgs {
		fds, err := syscall.ParseUnixRights(&msgs[i])
		if err != nil {
			return files, fmt.Errorf("%w: control message: %w", ErrProtocol, err)
		}
		for _, fd := range fds {
			files = append(files, os.NewFile(uintptr(fd), "wire-passed"))
		}
	}
	return files, nil
}

// checkSeqpacket refuses anything that is not a SOCK_SEQPACKET socket: on a
// stream the packet borders would be lost.
func checkSeqpacket(fd int) error {
	kind, err := syscall.GetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_TYPE)
	if err != nil {
		return fmt.Errorf("socket type: %w", err)
	}
	if kind != syscall.SOCK_SEQPACKET {
		return fmt.Errorf("socket type %d, not SOCK_SEQPACKET", kind)
	}
	return nil
}

func closeAll(files []*os.File) {
	for _, f := range files {
		f.Close()
	}
}
