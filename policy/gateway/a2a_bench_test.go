package gateway_test

import (
	"bytes"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"omega/policy"
	"omega/policy/compile"
	"omega/policy/gateway"
)

// peerSizes are the message texts of the agent-to-agent rows.
var peerSizes = []int{64, 4 << 10, 64 << 10, 1 << 20}

// peerEcho is an agent that answers with the message that it got.
func peerEcho(card string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if r.Method == http.MethodGet {
			_, _ = io.WriteString(w, card)
			return
		}
		var m struct {
			ID     json.RawMessage `json:"id"`
			Params struct {
				Message struct {
					Parts json.RawMessage `json:"parts"`
				} `json:"message"`
			} `json:"params"`
		}
		b, err := io.ReadAll(r.Body)
		if err != nil || json.Unmarshal(b, &m) != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		fmt.Fprintf(w, `{"jsonrpc":"2.0","id":%s,"result":{"kind":"message","messageId":"m","role":"agent","parts":%s}}`, m.ID, m.Params.Message.Parts)
	})
}

// peerPost sends one message of that size and reads the echo.
func peerPost(client *http.Client, at string, size int) func() error {
	body := []byte(`{"jsonrpc":"2.0","id":7,"method":"message/send","params":{"message":{"kind":"message","messageId":"q","role":"user","parts":[{"kind":"text","text":"` +
		strings.Repeat("x", size) + `"}]}}}`)
	return func() error {
		resp, err := client.Post(at, "application/json", bytes.NewReader(body))
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err == nil && len(b) < size {
			err = fmt.Errorf("%d %.300s", resp.StatusCode, b)
		}
		return err
	}
}

// oneByOne reports the middle and the slowest tenth of calls after each other.
func oneByOne(b *testing.B, size int, call func() error) {
	for range 5 {
		if err := call(); err != nil {
			b.Fatal(err)
		}
	}
	n := 300
	if size >= 1<<20 {
		n = 40
	}
	for range b.N { // one round is a whole run: -benchtime=1x
		times := make([]float64, n)
		for i := range times {
			begin := time.Now()
			if err := call(); err != nil {
				b.Fatal(err)
			}
			times[i] = float64(time.Since(begin))
		}
		slices.Sort(times)
		b.ReportMetric(times[n/2], "p50-ns")
		b.ReportMetric(times[n*9/10], "p90-ns")
	}
}

// BenchmarkPeerGateway is a message between two agents through everything that is
// between them in the guest but the sandboxes: shim, link, gateway with policy and
// log, inbound link, shim.
func BenchmarkPeerGateway(b *testing.B) {
	out, err := compile.Compile([]byte(conformerPolicy), "../compile/testdata")
	if err != nil {
		b.Fatal(err)
	}
	decider, err := policy.NewDecider(b.Context(), out.Wasm)
	if err != nil {
		b.Fatal(err)
	}
	gw, err := gateway.New(gateway.Config{Document: out.Document, Decider: decider, Recorder: appender{benchLog(b, nil)},
		Roots: x509.NewCertPool(), PolicyDigest: out.Digest, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		b.Fatal(err)
	}
	server := httptest.NewServer(peerEcho(friendCard))
	b.Cleanup(server.Close)
	to, err := url.Parse(server.URL)
	if err != nil {
		b.Fatal(err)
	}
	serveAgent(b, gw, gateway.Agent{Instance: "conformer-1", Name: "conformer", Keys: []string{authorKey}, Card: json.RawMessage(friendCard)},
		&httputil.ReverseProxy{FlushInterval: -1, Transport: kept(nil).Transport, Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(to) }})
	link := connect(b, gw, gateway.Agent{Instance: "client-1", Name: "client", Peers: []gateway.PeerPin{{Name: "conformer", Key: authorKey}}}, 0)
	shim := httptest.NewServer(&httputil.ReverseProxy{FlushInterval: -1, Transport: link.Transport,
		Rewrite: func(r *httputil.ProxyRequest) { r.Out.URL.Scheme, r.Out.URL.Host = "http", "gateway" }})
	b.Cleanup(shim.Close)
	for _, size := range peerSizes {
		b.Run(fmt.Sprint(size), func(b *testing.B) { oneByOne(b, size, peerPost(kept(nil), shim.URL+"/a2a/conformer", size)) })
	}
}

// BenchmarkPeerProxy is the same two ends over TCP through Go's reverse proxy,
// which parses, decides and keeps nothing.
func BenchmarkPeerProxy(b *testing.B) {
	server := httptest.NewServer(peerEcho(friendCard))
	b.Cleanup(server.Close)
	to, err := url.Parse(server.URL)
	if err != nil {
		b.Fatal(err)
	}
	proxy := httptest.NewServer(&httputil.ReverseProxy{Transport: kept(nil).Transport, Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(to) }})
	b.Cleanup(proxy.Close)
	for _, size := range peerSizes {
		b.Run(fmt.Sprint(size), func(b *testing.B) { oneByOne(b, size, peerPost(kept(nil), proxy.URL, size)) })
	}
}

// BenchmarkPeerFloor sends the text over a pair of descriptors and back.
func BenchmarkPeerFloor(b *testing.B) {
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		b.Fatal(err)
	}
	near, far := fileConn(b, fds[0]), fileConn(b, fds[1])
	b.Cleanup(func() { _ = near.Close(); _ = far.Close() })
	go func() { _, _ = io.Copy(struct{ io.Writer }{far}, struct{ io.Reader }{far}) }()
	for _, size := range peerSizes {
		text, back := make([]byte, size), make([]byte, size)
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			oneByOne(b, size, func() error {
				sent := make(chan error, 1)
				go func() { _, err := near.Write(text); sent <- err }()
				if _, err := io.ReadFull(near, back); err != nil {
					return err
				}
				return <-sent
			})
		})
	}
}
