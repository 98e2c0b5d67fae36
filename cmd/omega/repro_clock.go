package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// System calls of x86-64 that tell the time of day (Linux, syscall_64.tbl).
const (
	callTime         = 201
	callGettimeofday = 96
	callClockGettime = 228
)

// Where the kernel's seccomp_data has what the filter reads (seccomp(2)), and
// the kernel's names for the vDSO and for nothing in the auxiliary vector.
const (
	seccompNumber  = 0
	seccompArch    = 4
	seccompFirst   = 16
	auxIgnore      = 1
	auxVDSO        = 33
	noThreads      = 0x20000000 // __WNOTHREAD: only what this thread traces
	maxStackWords  = 1 << 16
	notASystemCall = ^uint64(0)
)

// clockFilter stops a program wherever it asks for the time of day. Monotonic
// clocks stay as they are: time-outs are measured with them.
func clockFilter() []unix.SockFilter {
	load := func(at uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: at}
	}
	equal := func(k uint32, yes, no uint8) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jt: yes, Jf: no, K: k}
	}
	done := func(k uint32) unix.SockFilter { return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: k} }
	return []unix.SockFilter{
		load(seccompArch),
		equal(unix.AUDIT_ARCH_X86_64, 0, 8), // to allow
		load(seccompNumber),
		equal(callTime, 7, 0),
		equal(callGettimeofday, 6, 0),
		equal(callClockGettime, 0, 4), // to allow
		load(seccompFirst),
		equal(unix.CLOCK_REALTIME, 3, 0),
		equal(unix.CLOCK_REALTIME_COARSE, 2, 0),
		equal(unix.CLOCK_TAI, 1, 0),
		done(unix.SECCOMP_RET_ALLOW),
		done(unix.SECCOMP_RET_TRACE),
	}
}

// A shiftedClock runs programs at another time. Unlike faketime it also reaches
// programs that ask the kernel instead of the C library, as Go's do: it takes
// the kernel's shortcut (the vDSO) away from them and answers the system calls.
type shiftedClock struct {
	by   time.Duration
	main int
	seen map[int]bool
}

// start starts cmd and returns what waits for its end. All of it happens on one
// thread, which ends with it: the filter is the thread's for good.
func (c *shiftedClock) start(cmd *exec.Cmd, files []*os.File) (pid int, wait func() error, err error) {
	type started struct {
		pid int
		err error
	}
	begun, ended := make(chan started, 1), make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and never unlocked
		p, err := c.launch(cmd, files)
		if err != nil {
			begun <- started{0, err}
			return
		}
		begun <- started{p, nil}
		ended <- c.follow()
	}()
	s := <-begun
	return s.pid, func() error { return <-ended }, s.err
}

func (c *shiftedClock) launch(cmd *exec.Cmd, files []*os.File) (int, error) {
	filter := clockFilter()
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return 0, fmt.Errorf("shifted clock: %w", err)
	}
	if err := unix.Prctl(unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, uintptr(unsafe.Pointer(&program)), 0, 0); err != nil {
		return 0, fmt.Errorf("shifted clock: %w", err)
	}
	attr := *cmd.SysProcAttr
	attr.Ptrace = true
	p, err := os.StartProcess(cmd.Path, cmd.Args, &os.ProcAttr{Dir: cmd.Dir, Env: cmd.Env, Files: files, Sys: &attr})
	if err != nil {
		return 0, err
	}
	c.main, c.seen = p.Pid, map[int]bool{p.Pid: true}
	var ws unix.WaitStatus
	if _, err := unix.Wait4(c.main, &ws, unix.WALL, nil); err != nil || !ws.Stopped() {
		return 0, fmt.Errorf("shifted clock: %s did not stop: %w", cmd.Path, err)
	}
	const options = unix.PTRACE_O_TRACESECCOMP | unix.PTRACE_O_TRACEEXEC | unix.PTRACE_O_TRACECLONE |
		unix.PTRACE_O_TRACEFORK | unix.PTRACE_O_TRACEVFORK | unix.PTRACE_O_EXITKILL
	err = errors.Join(unix.PtraceSetOptions(c.main, options), hideVDSO(c.main), unix.PtraceCont(c.main, 0))
	return c.main, err
}

// follow answers for the program and all that it starts, until it ends.
func (c *shiftedClock) follow() error {
	for {
		var ws unix.WaitStatus
		pid, err := unix.Wait4(-1, &ws, unix.WALL|noThreads, nil)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return fmt.Errorf("shifted clock: %w", err)
		case ws.Exited() && pid == c.main && ws.ExitStatus() == 0:
			return nil
		case ws.Exited() && pid == c.main:
			return fmt.Errorf("exit status %d", ws.ExitStatus())
		case ws.Signaled() && pid == c.main:
			return fmt.Errorf("signal: %v", ws.Signal())
		case ws.Stopped():
			// One that died meanwhile is told of by the next wait.
			_ = unix.PtraceCont(pid, int(c.stopped(pid, ws)))
		}
	}
}

// stopped does what a stop asks for, and returns the signal to hand on.
func (c *shiftedClock) stopped(pid int, ws unix.WaitStatus) syscall.Signal {
	first := !c.seen[pid]
	c.seen[pid] = true
	switch {
	case ws.StopSignal() == unix.SIGTRAP:
		switch ws.TrapCause() {
		case unix.PTRACE_EVENT_SECCOMP:
			_ = c.answer(pid) // a program that cannot be answered is dying
		case unix.PTRACE_EVENT_EXEC:
			_ = hideVDSO(pid)
		}
		return 0
	case first && ws.StopSignal() == unix.SIGSTOP:
		return 0 // how a new one begins to be traced
	}
	return ws.StopSignal()
}

// answer tells a program the shifted time in place of the kernel.
func (c *shiftedClock) answer(pid int) error {
	var regs unix.PtraceRegs
	if err := unix.PtraceGetRegs(pid, &regs); err != nil {
		return err
	}
	now := time.Now().Add(c.by)
	at, unit, result := regs.Rdi, int64(now.Nanosecond()), uint64(0)
	switch regs.Orig_rax {
	case callClockGettime:
		at = regs.Rsi
	case callGettimeofday:
		unit /= 1000
	case callTime:
		unit, result = -1, uint64(now.Unix())
	}
	if at != 0 {
		b := binary.LittleEndian.AppendUint64(nil, uint64(now.Unix()))
		if unit >= 0 {
			b = binary.LittleEndian.AppendUint64(b, uint64(unit))
		}
		if _, err := unix.PtracePokeData(pid, uintptr(at), b); err != nil {
			result = uint64(^uint64(unix.EFAULT) + 1)
		}
	}
	regs.Orig_rax, regs.Rax = notASystemCall, result
	return unix.PtraceSetRegs(pid, &regs)
}

// canShiftClock tries whether this machine lets us.
func canShiftClock(ctx context.Context) bool {
	if runtime.GOARCH != "amd64" {
		return false
	}
	r, w, err := os.Pipe()
	if err != nil {
		return false
	}
	defer r.Close()
	defer w.Close()
	path, err := exec.LookPath("date")
	if err != nil {
		return false
	}
	cmd := exec.CommandContext(ctx, path, "+%Y")
	cmd.SysProcAttr = &syscall.SysProcAttr{}
	_, wait, err := (&shiftedClock{by: days * 24 * time.Hour}).start(cmd, []*os.File{nil, w, w})
	if err != nil || wait() != nil {
		return false
	}
	b := make([]byte, 16)
	n, err := r.Read(b)
	want := time.Now().Add(days * 24 * time.Hour).UTC().Year()
	got, parseErr := strconv.Atoi(string(bytes.TrimSpace(b[:max(n, 0)])))
	return err == nil && parseErr == nil && got >= want-1 && got != time.Now().UTC().Year()
}

// hideVDSO makes a program that has just begun ask the kernel for the time: it
// takes the vDSO out of the auxiliary vector, which lies behind the arguments
// and the environment on the stack (System V ABI for AMD64, 3.4.1).
func hideVDSO(pid int) error {
	var regs unix.PtraceRegs
	if err := unix.PtraceGetRegs(pid, &regs); err != nil {
		return err
	}
	at := uintptr(regs.Rsp)
	word := func() (uint64, error) {
		var b [8]byte
		_, err := unix.PtracePeekData(pid, at, b[:])
		at += 8
		return binary.LittleEndian.Uint64(b[:]), err
	}
	if _, err := word(); err != nil { // the number of arguments
		return err
	}
	for ends, i := 0, 0; ends < 2; i++ { // of arguments and environment
		v, err := word()
		if err != nil || i > maxStackWords {
			return fmt.Errorf("stack of a new program: %w", err)
		}
		if v == 0 {
			ends++
		}
	}
	for range maxStackWords {
		key, err := word()
		if err != nil || key == 0 {
			return err
		}
		if key == auxVDSO {
			_, err := unix.PtracePokeData(pid, at-8, binary.LittleEndian.AppendUint64(nil, auxIgnore))
			return err
		}
		at += 8
	}
	return nil
}
