package sandbox

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// firstWords waits for the agent's first line.
func firstWords(b *testing.B, box *Sandbox) {
	b.Helper()
	for deadline := time.Now().Add(time.Minute); len(box.Output()) == 0; time.Sleep(100 * time.Microsecond) {
		if time.Now().After(deadline) {
			b.Fatal("the agent said nothing")
		}
	}
}

// end clears a sandbox away outside of what is measured.
func end(b *testing.B, box *Sandbox) {
	b.Helper()
	if err := box.Kill(); err != nil {
		b.Fatal(err)
	}
}

func BenchmarkStartFromPool(b *testing.B) {
	s := setUp(b)
	for b.Loop() {
		b.StopTimer()
		box := s.prepare(b, "sleep")
		<-box.Booted()
		time.Sleep(300 * time.Millisecond) // until the shim stands at its gate, and the machine is quiet
		b.StartTimer()
		if err := box.Release("agent-1"); err != nil {
			b.Fatal(err)
		}
		firstWords(b, box)
		b.StopTimer()
		end(b, box)
		b.StartTimer()
	}
}

func BenchmarkStartFromCold(b *testing.B) {
	s := setUp(b)
	for b.Loop() {
		box := s.start(b, "agent-1", "sleep")
		firstWords(b, box)
		b.StopTimer()
		end(b, box)
		b.StartTimer()
	}
}

// idle reports what an idle agent takes of memory, when there are that many.
func (s *stage) idle(b *testing.B, agents int, command ...string) {
	for b.Loop() {
		var all []*Sandbox
		for i := range agents {
			all = append(all, s.startLimited(b, fmt.Sprintf("idle-%d", i), Limits{}, command...))
		}
		for _, box := range all {
			firstWords(b, box)
		}
		time.Sleep(8 * time.Second) // until the sentries have given back what they do not need
		b.ReportMetric(float64(memoryOf(b, all))/float64(agents), "bytes/agent")
		for _, box := range all {
			end(b, box)
		}
	}
}

func BenchmarkIdleStatic(b *testing.B) { setUp(b).idle(b, 40, "/idle") }

// pythonAgent imports what agents import, says so, and answers requests.
const pythonAgent = `
import http.server, requests, httpx, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.send_header("Content-Length", "2"); self.end_headers(); self.wfile.write(b"ok")
    def log_message(self, *words): pass
server = http.server.HTTPServer(("127.0.0.1", 8080), Handler)
print("up"); sys.stdout.flush()
server.serve_forever()
`

// python is a stage with an image that has Python and its libraries, from the tar that the
// environment names.
func python(b *testing.B) *stage {
	b.Helper()
	path := os.Getenv("OMEGA_BENCH_PYTHON")
	if path == "" {
		b.Skip("OMEGA_BENCH_PYTHON names no root file system with Python, requests and httpx")
	}
	s := setUp(b)
	layer, err := os.Open(path)
	if err != nil {
		b.Fatal(err)
	}
	defer layer.Close()
	s.image = filepath.Join(s.dir, "python.erofs")
	flattened(b, s.image, layer)
	return s
}

func BenchmarkIdlePython(b *testing.B) {
	python(b).idle(b, 10, "/usr/bin/python3", "-c", pythonAgent)
}

// BenchmarkPythonAhead is from the release of a sandbox whose agent was started ahead to its first answer.
func BenchmarkPythonAhead(b *testing.B) {
	s := python(b)
	for b.Loop() {
		b.StopTimer()
		fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
		if err != nil {
			b.Fatal(err)
		}
		ours, theirs := os.NewFile(uintptr(fds[0]), "gateway"), os.NewFile(uintptr(fds[1]), "inbound")
		conn, err := net.FileConn(ours)
		if err != nil {
			b.Fatal(err)
		}
		_ = ours.Close()
		box, err := s.runner.Prepare(b.Context(), Spec{Hostname: "py", Image: s.image, Command: []string{"/usr/bin/python3", "-c", pythonAgent},
			Env: []string{"PATH=/usr/bin:/bin"}, Link: link(b), Inbound: theirs, Port: 8080})
		if err != nil {
			b.Fatal(err)
		}
		_ = theirs.Close()
		<-box.Booted()
		if err := box.Ahead(); err != nil {
			b.Fatal(err)
		}
		firstWords(b, box)
		time.Sleep(300 * time.Millisecond)
		ask := asker(b, conn)
		b.StartTimer()
		if err := box.Release("py-1"); err != nil {
			b.Fatal(err)
		}
		if got := ask(b); got != "200 ok" {
			b.Fatal(got)
		}
		b.StopTimer()
		end(b, box)
		b.StartTimer()
	}
}

// asker returns a function that asks the agent behind an inbound link.
func asker(b *testing.B, conn net.Conn) func(b *testing.B) string {
	b.Helper()
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	t := &http.Transport{Protocols: protocols, DialContext: func(context.Context, string, string) (net.Conn, error) { return conn, nil }}
	client, err := t.NewClientConn(b.Context(), "http", "agent:80")
	if err != nil {
		b.Fatal(err)
	}
	return func(b *testing.B) string {
		req, err := http.NewRequestWithContext(b.Context(), http.MethodGet, "http://agent/", nil)
		if err != nil {
			b.Fatal(err)
		}
		resp, err := client.RoundTrip(req)
		if err != nil {
			b.Fatal(err)
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		if err != nil {
			b.Fatal(err)
		}
		return fmt.Sprintf("%d %s", resp.StatusCode, text)
	}
}

// The references run the same program, from a folder, without the shim: what somebody has who starts
// a container by hand.
func BenchmarkReferenceRunsc(b *testing.B) {
	s := setUp(b)
	s.reference(b, s.runner.cfg.Runsc, "--root", filepath.Join(s.dir, "plain"), "--network=none", "--ignore-cgroups", "run")
}

func BenchmarkReferenceRunc(b *testing.B) {
	runc, err := exec.LookPath("runc")
	if err != nil {
		b.Skip("no runc here")
	}
	s := setUp(b)
	s.reference(b, runc, "--root", filepath.Join(s.dir, "plain"), "run")
}

func (s *stage) reference(b *testing.B, command ...string) {
	bundle := filepath.Join(s.dir, "bundle")
	if err := os.MkdirAll(filepath.Join(bundle, "root"), 0o755); err != nil {
		b.Fatal(err)
	}
	config := runtimeConfig(Spec{Hostname: "agent", Command: []string{"/agent", "sleep"}, Limits: Limits{}})
	config.Process.Args, config.Process.Env, config.Annotations = config.Process.Args[2:], []string{"PATH=/"}, nil
	text, err := json.Marshal(config)
	if err != nil {
		b.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(bundle, "config.json"), text, 0o644); err != nil {
		b.Fatal(err)
	}
	for _, dir := range []string{"proc", "dev", "sys", "tmp"} {
		if err := os.MkdirAll(filepath.Join(bundle, "root", dir), 0o755); err != nil {
			b.Fatal(err)
		}
	}
	agent, err := os.ReadFile(filepath.Join(built.dir, "agent"))
	if err != nil {
		b.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(bundle, "root/agent"), agent, 0o755); err != nil {
		b.Fatal(err)
	}
	n := 0
	for b.Loop() {
		n++
		cmd := exec.Command(command[0], append(command[1:], "--bundle", bundle, fmt.Sprintf("reference-%d", n))...)
		words := newLastLines()
		cmd.Stdout, cmd.Stderr = words, words
		cmd.WaitDelay = time.Second
		if err := cmd.Start(); err != nil {
			b.Fatal(err)
		}
		for deadline := time.Now().Add(time.Minute); len(words.Lines()) == 0 && time.Now().Before(deadline); {
			time.Sleep(100 * time.Microsecond)
		}
		b.StopTimer()
		if got := words.Lines(); len(got) == 0 || got[0] != "up" {
			b.Errorf("it said %q", got)
		}
		_ = cmd.Process.Signal(syscall.SIGTERM)
		out, err := exec.Command(command[0], append(command[1:3:3], "delete", "--force", fmt.Sprintf("reference-%d", n))...).CombinedOutput()
		if err != nil {
			b.Logf("%v: %s", err, out)
		}
		_ = cmd.Wait()
		b.StartTimer()
	}
	_ = unix.Unmount(filepath.Join(s.dir, "plain", "null-netns"), unix.MNT_DETACH)
}

// memoryOf is what the sandboxes take, in bytes: the proportional set size of their processes, except
// for memory files, whose pages are counted once. (The kernel divides pages of large folios wrongly.)
func memoryOf(b *testing.B, boxes []*Sandbox) int64 {
	b.Helper()
	below := map[int]bool{}
	var sum int64
	for _, box := range boxes {
		below[box.sentry.Pid] = true
		sum += memoryFiles(box.sentry.Pid)
	}
	for grown := true; grown; {
		grown = false
		stats, _ := filepath.Glob("/proc/[0-9]*/stat")
		for _, path := range stats {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(path)))
			text, _ := os.ReadFile(path)
			_, rest, _ := strings.Cut(string(text), ") ")
			f := strings.Fields(rest)
			if len(f) < 2 || below[pid] {
				continue
			}
			if parent, _ := strconv.Atoi(f[1]); below[parent] {
				below[pid], grown = true, true
			}
		}
	}
	for pid := range below {
		sum += pss(pid)
	}
	return sum
}

// pss is a process's share of anonymous memory and of files (proc_pid_smaps_rollup in proc(5)).
func pss(pid int) (sum int64) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		return 0 // it has ended
	}
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) == 3 && (f[0] == "Pss_Anon:" || f[0] == "Pss_File:") {
			kib, _ := strconv.ParseInt(f[1], 10, 64)
			sum += kib << 10
		}
	}
	return sum
}

// memoryFiles is what a process's memory files hold.
func memoryFiles(pid int) (sum int64) {
	links, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	for _, link := range links {
		var st syscall.Stat_t
		if name, _ := os.Readlink(link); strings.HasPrefix(name, "/memfd:") && syscall.Stat(link, &st) == nil {
			sum += st.Blocks * 512
		}
	}
	return sum
}
