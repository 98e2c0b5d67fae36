package gateway_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"omega/policy"
	"omega/policy/compile"
)

// under makes a world under the test policy with some of its text replaced.
func under(t *testing.T, old, new string, change ...func(*world)) *world {
	t.Helper()
	text := strings.Replace(testPolicy, old, new, 1)
	if text == testPolicy {
		t.Fatalf("the policy has no %q", old)
	}
	out, err := compile.Compile([]byte(text), "../compile/testdata")
	if err != nil {
		t.Fatal(err)
	}
	decider, err := policy.NewDecider(t.Context(), out.Wasm)
	if err != nil {
		t.Fatal(err)
	}
	return newWorld(t, append([]func(*world){func(w *world) {
		w.cfg.Document, w.cfg.PolicyDigest, w.cfg.Decider = out.Document, out.Digest, decider
	}}, change...)...)
}

// endless is a site that never stops talking.
func endless(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				for {
					if _, err := c.Write(make([]byte, 8<<10)); err != nil {
						return
					}
				}
			}()
		}
	}()
	return l.Addr().String()
}

func TestATunnelEndsWhereItsBudgetDoes(t *testing.T) {
	const budget = 100 << 10
	w := under(t, "{id: through, action: http.connect, resource: tunnel}", fmt.Sprintf("{id: through, action: http.connect, resource: tunnel, budgets: {bytes: %d}}", budget),
		func(w *world) { w.cfg.Dial["tunnel.example.com:443"] = endless(t) })
	connect := func() (int, int64) {
		proxy := strings.TrimPrefix(w.shim(), "http://")
		c, err := net.Dial("tcp", proxy)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		fmt.Fprintf(c, "CONNECT tunnel.example.com:443 HTTP/1.1\r\nHost: tunnel.example.com:443\r\n\r\n")
		head := make([]byte, 12)
		if _, err := io.ReadFull(c, head); err != nil {
			t.Fatal(err)
		}
		if string(head[9:]) != "200" {
			return int(head[9]-'0') * 100, 0
		}
		n, _ := io.Copy(io.Discard, io.LimitReader(c, 10*budget))
		return int(head[9]-'0') * 100, n
	}
	if status, n := connect(); status != http.StatusOK || n > budget+1024 || n < budget/2 {
		t.Errorf("status %d, %d bytes of a budget of %d", status, n, budget)
	}
	w.wantLog("intent permit through", "outcome refused")
	var said struct{ Bytes int }
	w.log.mu.Lock()
	err := json.Unmarshal(w.log.entries[1].Result, &said)
	w.log.mu.Unlock()
	if err != nil || said.Bytes > budget || said.Bytes < budget/2 {
		t.Errorf("the outcome says %+v (%v)", said, err)
	}
	if status, _ := connect(); status != http.StatusForbidden && status != 400 {
		t.Errorf("a tunnel without budget: %d", status)
	}
}
