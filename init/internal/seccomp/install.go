package seccomp

import (
	"errors"
	"fmt"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Install puts prog on every thread of the process, for good. It also sets
// no_new_privs, without which an ordinary user may not install a filter.
func Install(prog []unix.SockFilter) error {
	if !fits(prog) {
		return errors.New("seccomp filter has no usable length")
	}
	// prctl and seccomp act on the calling thread; TSYNC carries both to the rest.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("setting no_new_privs: %w", err)
	}
	fprog := unix.SockFprog{Len: uint16(len(prog)), Filter: &prog[0]}
	r, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER,
		unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&fprog)))
	runtime.KeepAlive(prog)
	if errno != 0 {
		return fmt.Errorf("installing seccomp filter: %w", errno)
	}
	if r != 0 { // TSYNC returns the thread that could not follow
		return fmt.Errorf("installing seccomp filter: thread %d did not follow", r)
	}
	return nil
}
