package sandbox

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"omega/agentloader/flatten"
)

// stage is what every test with a real runsc shares: one image, one runner.
type stage struct {
	runner *Runner
	image  string
	dir    string
}

// built is where TestMain lets the first test that needs one build the image for all.
var built struct {
	once sync.Once
	dir  string
}

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "omega-sandbox-")
	if err != nil {
		panic(err)
	}
	built.dir = dir
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

func setUp(t testing.TB) *stage {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("runsc needs root")
	}
	runsc := runscBinary(t)
	dir := t.TempDir()
	image := filepath.Join(dir, "agent.erofs")
	built.once.Do(func() { buildImage(t, filepath.Join(built.dir, "agent.erofs")) })
	if err := os.Link(filepath.Join(built.dir, "agent.erofs"), image); err != nil {
		t.Fatal(err)
	}
	runner, err := New(Config{Runsc: runsc, Dir: filepath.Join(dir, "run"), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := runner.Close(); err != nil {
			t.Error(err)
		}
	})
	return &stage{runner, image, dir}
}

// runscBinary finds runsc or builds it from its pinned module, once.
func runscBinary(t testing.TB) string {
	t.Helper()
	if p := os.Getenv("OMEGA_RUNSC"); p != "" {
		return p
	}
	source := "../../images/runsc"
	h := sha256.New()
	for _, name := range []string{"go.mod", "go.sum", "main.go"} {
		b, err := os.ReadFile(filepath.Join(source, name))
		if err != nil {
			t.Skipf("no runsc: set OMEGA_RUNSC, or have its module: %v", err)
		}
		h.Write(b)
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(cache, "omega", "test", fmt.Sprintf("runsc-%x", h.Sum(nil)[:8]))
	if _, err := os.Stat(out); err == nil {
		return out
	}
	goBuild(t, source, ".", out)
	return out
}

// goBuild builds through a name of its own, so that a build that is cut short leaves nothing half.
func goBuild(t testing.TB, dir, pkg, out string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(out), 0o755); err != nil {
		t.Fatal(err)
	}
	tmp := fmt.Sprintf("%s.%d", out, os.Getpid())
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w -R 0x10000", "-o", tmp, pkg)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if b, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("building %s: %v\n%s", pkg, err, b)
	}
	if err := os.Rename(tmp, out); err != nil {
		t.Fatal(err)
	}
}

// buildImage makes the image of all tests; its programs stay beside it.
func buildImage(t testing.TB, path string) {
	t.Helper()
	dir := built.dir
	goBuild(t, "testdata/agent", ".", filepath.Join(dir, "agent"))
	goBuild(t, "testdata/idle", ".", filepath.Join(dir, "idle"))
	goBuild(t, "../shim", ".", filepath.Join(dir, "shim"))
	goBuild(t, "../../examples", "./agents/hostile", filepath.Join(dir, "hostile"))
	layer := new(bytes.Buffer)
	w := tar.NewWriter(layer)
	add := func(name string, mode int64, b []byte) {
		if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: mode, Size: int64(len(b)), Uid: agentID}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(b); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"agent", "idle", "hostile"} {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		add(name, 0o755, b)
	}
	for _, n := range []int{1, 100, 4095, 4096, 4097, 9000} {
		add(fmt.Sprintf("data/%d", n), 0o644, bytes.Repeat([]byte("d"), n))
	}
	w.Close()
	flattened(t, path, layer)
}

// flattened makes an image of one layer, with the shim.
func flattened(t testing.TB, path string, layer io.Reader) {
	t.Helper()
	shim, err := os.ReadFile(filepath.Join(built.dir, "shim"))
	if err != nil {
		t.Fatal(err)
	}
	f, err := flatten.New(t.TempDir(), flatten.Limits{Bytes: 1 << 30, Entries: 1 << 17})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.AddLayer(layer); err != nil {
		t.Fatal(err)
	}
	out, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	if err := f.Finish(out, flatten.File{Path: ".omega/shim", Data: shim, Mode: 0o755}); err != nil {
		t.Fatal(err)
	}
}

// link returns a descriptor for the sandbox, with a server for the gateway at its other end.
func link(t testing.TB) *os.File {
	t.Helper()
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	ours, theirs := os.NewFile(uintptr(fds[0]), "gateway"), os.NewFile(uintptr(fds[1]), "link")
	conn, err := net.FileConn(ours)
	if err != nil {
		t.Fatal(err)
	}
	ours.Close()
	seen := make(chan struct{}, 10)
	mux := http.NewServeMux()
	mux.HandleFunc("/ca.pem", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "AUTHORITY") })
	mux.HandleFunc("/echo/", func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.URL.Path) })
	mux.HandleFunc("/seen", func(http.ResponseWriter, *http.Request) { seen <- struct{}{} })
	mux.HandleFunc("/bulk", func(w http.ResponseWriter, r *http.Request) { io.Copy(w, r.Body) })
	mux.HandleFunc("/events", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		for i := range 3 {
			fmt.Fprintf(w, "data: %d\n\n", i)
			w.(http.Flusher).Flush()
			select {
			case <-seen:
			case <-r.Context().Done():
				return
			}
		}
	})
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	server := &http.Server{Protocols: protocols, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.Host, "example.com") { // what the shim was asked for as a proxy
			http.Error(w, "denied by policy", http.StatusForbidden)
			return
		}
		mux.ServeHTTP(w, r)
	})}
	l := &oneConn{conn: make(chan net.Conn, 1), closed: make(chan struct{})}
	l.conn <- conn
	go server.Serve(l)
	t.Cleanup(func() { server.Close(); theirs.Close() })
	return theirs
}

// oneConn is a listener that has one connection to give.
type oneConn struct {
	conn   chan net.Conn
	closed chan struct{}
}

func (l *oneConn) Accept() (net.Conn, error) {
	select {
	case c := <-l.conn:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}
func (l *oneConn) Close() error   { close(l.closed); return nil }
func (l *oneConn) Addr() net.Addr { return &net.UnixAddr{} }

func (s *stage) start(t testing.TB, instance string, words ...string) *Sandbox {
	t.Helper()
	return s.startLimited(t, instance, Limits{}, append([]string{"/agent"}, words...)...)
}

func (s *stage) startLimited(t testing.TB, instance string, limits Limits, command ...string) *Sandbox {
	t.Helper()
	env, err := Env(map[string]string{"MODE": "test", "OPENAI_BASE_URL": "http://elsewhere"}, []string{"files"})
	if err != nil {
		t.Fatal(err)
	}
	box, err := s.runner.Start(context.Background(), Spec{
		Instance: instance, Image: s.image, Command: command, Env: env, Limits: limits, Link: link(t),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = box.Kill() })
	return box
}

func wait(t testing.TB, box *Sandbox) Exit {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	exit, err := box.Wait(ctx)
	if err != nil {
		t.Fatalf("%v; last lines %q", err, box.lines.Lines())
	}
	return exit
}
