// Command shim is the first process of every sandbox. It makes the sandbox's one link to the gateway
// look like a web server on loopback, starts the agent, and ends with the agent's exit code.
//
// It is inside the agent's trust domain: nothing is decided here and the gateway believes none of it.
package main

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strconv"
	"syscall"
)

// listen is where agents find the gateway (sandbox.Env has the same).
const listen = "127.0.0.1:3128"

// linkVariable names the link's descriptor; the other two the inbound link's, if there is one, and the port
// that the agent serves on. The agent sees none of them (sandbox.Env has the same).
const (
	linkVariable    = "OMEGA_LINK_FD"
	inboundVariable = "OMEGA_INBOUND_FD"
	portVariable    = "OMEGA_INBOUND_PORT"
)

// The shim's own exit codes: when the agent could not be started, as shells have
// it, and when the platform is gone, as if it had killed the sandbox.
const (
	failed   = 127
	orphaned = 128 + int(syscall.SIGKILL)
)

func main() {
	code, err := run(os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "shim:", err)
	}
	os.Exit(code)
}

func run(args []string) (int, error) {
	// What the shim does is short and waits much. To wake a second thread for it is a
	// system call, and those are what costs in a sandbox.
	runtime.GOMAXPROCS(1)
	if len(args) < 2 || args[0] != "--" {
		return failed, errors.New("usage: shim -- COMMAND [ARGUMENT…]")
	}
	if err := seal(); err != nil {
		return failed, err
	}
	link, err := take(linkVariable)
	if err != nil {
		return failed, fmt.Errorf("link: %w", err)
	}
	stdio, err := takeInbound()
	if err != nil {
		return failed, fmt.Errorf("inbound link: %w", err)
	}
	gateway, err := connect(link)
	if err != nil {
		return failed, fmt.Errorf("link: %w", err)
	}
	l, err := net.Listen("tcp", listen)
	if err != nil {
		return failed, fmt.Errorf("listening: %w", err)
	}
	assigned, err := waitAtGate()
	if err != nil {
		return failed, fmt.Errorf("gate: %w", err)
	}
	go func() {
		// The agent ends the program, not the proxy: without a link it gets errors in words.
		if err := http.Serve(l, handler(gateway)); err != nil {
			fmt.Fprintln(os.Stderr, "shim: serving:", err)
		}
	}()
	trustOnce(gateway, assigned)
	return supervise(args[1:], stdio)
}

// seal keeps the agent, which has the same user, from this process's memory and descriptors
// (ptrace(2), access mode checking). The agent that is started from here has its own.
func seal() error {
	const setDumpable = 4 // prctl(2), PR_SET_DUMPABLE
	if _, _, errno := syscall.RawSyscall(syscall.SYS_PRCTL, setDumpable, 0, 0); errno != 0 {
		return fmt.Errorf("sealing: %w", errno)
	}
	return nil
}

// take turns a passed descriptor into a connection and hides it from the agent.
func take(variable string) (net.Conn, error) {
	fd, err := strconv.Atoi(os.Getenv(variable))
	if err != nil || fd < 3 {
		return nil, fmt.Errorf("%s is %q", variable, os.Getenv(variable))
	}
	if err := os.Unsetenv(variable); err != nil {
		return nil, err
	}
	syscall.CloseOnExec(fd)
	f := os.NewFile(uintptr(fd), "link")
	defer f.Close()
	return net.FileConn(f)
}

// supervise starts the command, hands signals on, reaps orphans, and returns the command's exit code.
func supervise(command []string, stdio []*os.File) (int, error) {
	path, err := exec.LookPath(command[0])
	if err != nil {
		return failed, err
	}
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2)
	p, err := os.StartProcess(path, command, &os.ProcAttr{
		Env:   os.Environ(),
		Files: append(stdio, os.Stderr),
	})
	if err != nil {
		return failed, err
	}
	closeOwn(stdio)
	go func() {
		for s := range signals {
			_ = p.Signal(s)
		}
	}()
	return reap(p.Pid)
}

// reap waits for every child, as the first process must, until the command has ended.
func reap(command int) (int, error) {
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, 0, nil)
		switch {
		case errors.Is(err, syscall.EINTR):
		case err != nil:
			return failed, fmt.Errorf("waiting: %w", err)
		case pid == command && status.Exited():
			return status.ExitStatus(), nil
		case pid == command && status.Signaled():
			return 128 + int(status.Signal()), nil
		}
	}
}
