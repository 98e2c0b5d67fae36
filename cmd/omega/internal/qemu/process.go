package qemu

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Process is a running machine.
type Process struct {
	*Console
	Began  time.Time // when QEMU was started
	cmd    *exec.Cmd
	stderr *tail
	power  net.Listener
	done   chan struct{} // closed once the process is gone

	mu        sync.Mutex // guards what follows
	powerConn net.Conn
	err       error // of the process
}

// Start starts binary with m. The machine dies with this process, and at the
// latest when ctx ends. onLine, if not nil, gets each console line. dir is a
// private folder for sockets.
func Start(ctx context.Context, binary string, m Machine, dir string, onLine func(string)) (*Process, error) {
	m.PowerSocket = filepath.Join(dir, "power")
	power, err := net.Listen("unix", m.PowerSocket)
	if err != nil {
		return nil, fmt.Errorf("power port: %w", err)
	}
	p := &Process{Console: newConsole(onLine), Began: time.Now(), power: power, stderr: &tail{}, done: make(chan struct{})}
	p.cmd = exec.CommandContext(ctx, binary, m.Args()...)
	p.cmd.Stderr = p.stderr
	p.cmd.Cancel = p.kill
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		power.Close()
		return nil, fmt.Errorf("console: %w", err)
	}
	if err := p.typeIn(m.Input); err != nil {
		power.Close()
		return nil, fmt.Errorf("console: %w", err)
	}
	started := make(chan error, 1)
	go p.run(out, started)
	if err := <-started; err != nil {
		power.Close()
		return nil, fmt.Errorf("starting QEMU: %w", err)
	}
	go p.acceptPower()
	return p, nil
}

// typeIn passes input on to the console. Reading it may end only with our own
// process; nobody waits for that.
func (p *Process) typeIn(input io.Reader) error {
	if input == nil {
		return nil
	}
	in, err := p.cmd.StdinPipe()
	if err != nil {
		return err
	}
	go func() {
		_, _ = io.Copy(in, input) // the machine may be gone
		_ = in.Close()
	}()
	return nil
}

// run keeps one thread for the life of the process: Pdeathsig is sent when the
// thread that started it ends.
func (p *Process) run(out io.Reader, started chan<- error) {
	runtime.LockOSThread()
	err := p.cmd.Start()
	started <- err
	if err != nil {
		return
	}
	p.Console.read(out)
	err = p.cmd.Wait()
	_ = p.power.Close()
	p.mu.Lock()
	p.err = err
	if p.powerConn != nil {
		_ = p.powerConn.Close()
	}
	p.mu.Unlock()
	close(p.done)
}

func (p *Process) acceptPower() {
	conn, err := p.power.Accept()
	if err != nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.powerConn = conn
}

// Done is closed when the machine is off and QEMU gone.
func (p *Process) Done() <-chan struct{} { return p.done }

// Err says, after Done, what was wrong with QEMU itself; a guest that powered
// off is nothing wrong.
func (p *Process) Err() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err == nil {
		return nil
	}
	return fmt.Errorf("QEMU: %w: %s", p.err, p.stderr.String())
}

// errKilled reports a machine that had to be killed.
var errKilled = errors.New("the machine did not power off in time and was killed")

// Stop asks the guest to power off and kills QEMU if it has not within grace,
// or when ctx ends. It returns once QEMU is gone.
func (p *Process) Stop(ctx context.Context, grace time.Duration) error {
	p.mu.Lock()
	if p.powerConn != nil {
		_, _ = p.powerConn.Write([]byte{1}) // a guest that is gone does not mind
	}
	p.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, grace)
	defer cancel()
	select {
	case <-p.done:
		return p.Err()
	case <-ctx.Done():
	}
	_ = p.kill()
	<-p.done
	return errKilled
}

// kill ends QEMU and whatever it started: its process group.
func (p *Process) kill() error { return syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL) }

// tail keeps the end of what QEMU says on stderr.
type tail struct {
	mu  sync.Mutex // guards buf
	buf []byte
}

const maxTail = 4 << 10

// Write keeps the last maxTail bytes.
func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf = append(t.buf, b...)
	t.buf = t.buf[max(0, len(t.buf)-maxTail):]
	return len(b), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.TrimSpace(string(t.buf))
}

// Private is a folder for one machine's files and sockets, readable by nobody
// else. Socket paths are short (sun_path has 108 bytes), hence not TMPDIR's
// wish if that is long.
func Private() (string, error) {
	base := os.TempDir()
	if len(base) > 60 {
		base = "/tmp"
	}
	return os.MkdirTemp(base, "omega-vm-")
}
