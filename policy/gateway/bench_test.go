package gateway_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"omega/policy/gateway"
	"omega/policy/provenance"
	"omega/policy/provenance/writer"
)

// The load of the policy issue.
const (
	benchRate    = 500 // calls a second, whether the last one has been answered or not
	benchSeconds = 3
	benchClients = 32
)

// benchLog is the real log: sealed, with a signed checkpoint under every entry.
func benchLog(b *testing.B, disk writer.Disk) *writer.Writer {
	b.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		b.Fatal(err)
	}
	w, err := writer.New(writer.Config{
		Origin: "omega/" + strings.Repeat("ab", 16), LogKey: [32]byte(public), Disk: disk, MaxBytes: 4 << 30,
		Sign: func(_ context.Context, text []byte) ([]byte, error) { return provenance.SignCheckpoint(text, private) },
	})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = w.Close() })
	if _, err := w.Append(b.Context(), provenance.Entry{Kind: provenance.KindBoot, Time: time.Now()}); err != nil {
		b.Fatal(err)
	}
	return w
}

// appender makes a log a gateway's recorder.
type appender struct{ *writer.Writer }

func (a appender) Record(ctx context.Context, e provenance.Entry) (uint64, error) {
	return a.Append(ctx, e)
}

const benchCall = `{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"read","arguments":{"path":"/data/public/a"}}}`

// toolServer answers as quickly as a server can, over HTTP/1.1 and TLS.
func toolServer(b *testing.B) *httptest.Server {
	var list []map[string]any
	if err := json.Unmarshal([]byte(tools), &list); err != nil {
		b.Fatal(err)
	}
	var offered []map[string]any
	for _, p := range list {
		offered = append(offered, map[string]any{"name": p["name"], "description": p["description"], "inputSchema": p["input_schema"]})
	}
	all, err := json.Marshal(map[string]any{"tools": offered})
	if err != nil {
		b.Fatal(err)
	}
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var m struct {
			ID     json.RawMessage
			Method string
		}
		body, err := io.ReadAll(r.Body)
		if err != nil || json.Unmarshal(body, &m) != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		result := `{"content":[{"type":"text","text":"done"}]}`
		switch m.Method {
		case "initialize":
			result = `{"protocolVersion":"2025-11-25","capabilities":{"tools":{}},"serverInfo":{"name":"x","version":"1"}}`
		case "tools/list":
			result = string(all)
		}
		if len(m.ID) == 0 {
			w.WriteHeader(http.StatusAccepted)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, `{"jsonrpc":"2.0","id":%s,"result":%s}`, m.ID, result)
	}))
	b.Cleanup(s.Close)
	return s
}

// post makes a caller of one client and URL.
func post(client *http.Client, url string) func() error {
	return func() error {
		req, err := http.NewRequest(http.MethodPost, url, strings.NewReader(benchCall))
		if err != nil {
			return err
		}
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Mcp-Protocol-Version", "2025-11-25")
		resp, err := client.Do(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err == nil && !bytes.Contains(body, []byte("done")) {
			err = fmt.Errorf("%d %s", resp.StatusCode, body)
		}
		return err
	}
}

func kept(roots *tls.Config) *http.Client {
	return &http.Client{Transport: &http.Transport{TLSClientConfig: roots, MaxIdleConnsPerHost: 2 * benchClients}}
}

// through makes callers on links of their own, as agents have them.
func through(b *testing.B, server *httptest.Server, recorder gateway.Recorder, links int) []func() error {
	b.Helper()
	out, err := compiled()
	if err != nil {
		b.Fatal(err)
	}
	roots := server.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs
	gw, err := gateway.New(gateway.Config{
		Document: out.Document, Decider: out.Decider, Recorder: recorder, Roots: roots, PolicyDigest: out.Digest,
		Dial: map[string]string{"files.example.com:443": server.Listener.Addr().String()}, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		b.Fatal(err)
	}
	var callers []func() error
	for i := range links {
		agent := gateway.Agent{Instance: fmt.Sprintf("reporter-%d", i), Name: "reporter", Tools: []gateway.Tool{{Server: "files", Descriptors: json.RawMessage(tools)}}}
		callers = append(callers, post(connect(b, gw, agent, 0), "http://127.0.0.1:3128/mcp/files"))
	}
	return callers
}

// openLoop makes calls at the rate and reports the middle and the slowest
// hundredth, from when each call was due.
func openLoop(b *testing.B, callers ...func() error) {
	for _, call := range callers {
		if err := call(); err != nil {
			b.Fatal(err)
		}
	}
	for range b.N { // one round is a whole run: -benchtime=1x
		n := benchRate * benchSeconds
		times := make([]float64, n)
		begin := time.Now().Add(10 * time.Millisecond)
		var wg sync.WaitGroup
		for i := range n {
			due := begin.Add(time.Duration(i) * time.Second / benchRate)
			time.Sleep(time.Until(due))
			wg.Go(func() {
				if err := callers[i%len(callers)](); err != nil {
					b.Error(err)
				}
				times[i] = float64(time.Since(due))
			})
		}
		wg.Wait()
		slices.Sort(times)
		b.ReportMetric(times[n/2], "p50-ns")
		b.ReportMetric(times[n*99/100], "p99-ns")
	}
}

// closedLoop makes calls with many clients, each after its last answer.
func closedLoop(b *testing.B, callers ...func() error) {
	for _, call := range callers {
		if err := call(); err != nil {
			b.Fatal(err)
		}
	}
	for range b.N {
		var wg sync.WaitGroup
		var mu sync.Mutex
		calls, begin, spent := 0, time.Now(), busy()
		for i := range benchClients {
			wg.Go(func() {
				n := 0
				for time.Since(begin) < benchSeconds*time.Second {
					if err := callers[i%len(callers)](); err != nil {
						b.Error(err)
						return
					}
					n++
				}
				mu.Lock()
				calls += n
				mu.Unlock()
			})
		}
		wg.Wait()
		b.ReportMetric(float64(calls)/time.Since(begin).Seconds(), "calls/s")
		b.ReportMetric(float64(busy()-spent)/float64(calls), "cpu-ns")
	}
}

// busy is how long this process has had a processor: clients, gateway, log and
// tool server together. It says more than the clock where others work as well.
func busy() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func BenchmarkOpenDirect(b *testing.B) {
	s := toolServer(b)
	openLoop(b, post(kept(s.Client().Transport.(*http.Transport).TLSClientConfig), s.URL))
}

func BenchmarkOpenGateway(b *testing.B) {
	openLoop(b, through(b, toolServer(b), appender{benchLog(b, nil)}, 4)...)
}

func BenchmarkOpenGatewayFsync(b *testing.B) {
	f, err := os.OpenFile(filepath.Join(b.TempDir(), "log"), os.O_RDWR|os.O_CREATE|os.O_SYNC, 0o600)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	openLoop(b, through(b, toolServer(b), appender{benchLog(b, f)}, 4)...)
}

func BenchmarkThroughputDirect(b *testing.B) {
	s := toolServer(b)
	closedLoop(b, post(kept(s.Client().Transport.(*http.Transport).TLSClientConfig), s.URL))
}

func BenchmarkThroughputGateway(b *testing.B) {
	closedLoop(b, through(b, toolServer(b), appender{benchLog(b, nil)}, 4)...)
}

// BenchmarkThroughputProxy is Go's own reverse proxy: it parses nothing,
// decides nothing and keeps nothing.
func BenchmarkThroughputProxy(b *testing.B) {
	s := toolServer(b)
	to, err := url.Parse(s.URL)
	if err != nil {
		b.Fatal(err)
	}
	proxy := httptest.NewServer(&httputil.ReverseProxy{
		Transport: kept(s.Client().Transport.(*http.Transport).TLSClientConfig).Transport,
		Rewrite:   func(r *httputil.ProxyRequest) { r.SetURL(to) },
	})
	b.Cleanup(proxy.Close)
	closedLoop(b, post(kept(nil), proxy.URL))
}

// BenchmarkThroughputNginx is nginx as a plain proxy, where it is installed.
func BenchmarkThroughputNginx(b *testing.B) {
	if _, err := exec.LookPath("nginx"); err != nil {
		b.Skip("nginx is not installed")
	}
	s := toolServer(b)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	address := l.Addr().String()
	_ = l.Close()
	dir := b.TempDir()
	conf := fmt.Sprintf(`daemon off; worker_processes 2; pid %[1]s/pid; error_log %[1]s/error.log; events { worker_connections 1024; }
http { access_log off; client_body_temp_path %[1]s; proxy_temp_path %[1]s; fastcgi_temp_path %[1]s; uwsgi_temp_path %[1]s; scgi_temp_path %[1]s;
  upstream tools { server %[3]s; keepalive 64; }
  server { listen %[2]s; location / { proxy_pass https://tools; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_ssl_session_reuse on; } } }`,
		dir, address, s.Listener.Addr())
	if err := os.WriteFile(filepath.Join(dir, "nginx.conf"), []byte(conf), 0o600); err != nil {
		b.Fatal(err)
	}
	cmd := exec.Command("nginx", "-c", filepath.Join(dir, "nginx.conf"), "-p", dir)
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = cmd.Process.Signal(os.Interrupt); _ = cmd.Wait() })
	call := post(kept(nil), "http://"+address)
	for end := time.Now().Add(5 * time.Second); call() != nil && time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
	}
	closedLoop(b, call)
}
