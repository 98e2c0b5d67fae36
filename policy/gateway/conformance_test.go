package gateway_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"omega/policy"
	"omega/policy/compile"
	"omega/policy/gateway"
)

// everything is the package of the official SDK's server that has every feature
// of the protocol.
const everything = "github.com/modelcontextprotocol/go-sdk/conformance/everything-server"

// serverActions are those whose resource is a whole server.
var serverActions = []string{
	policy.ActionResourceRead, policy.ActionSampling, policy.ActionElicitation, policy.ActionRoots, policy.ActionComplete,
	policy.ActionSubscribe, policy.ActionListen, policy.ActionLogLevel,
	"mcp.sampling/answer", "mcp.elicitation/answer", "mcp.roots/answer",
	"mcp.notifications/progress", "mcp.notifications/message", "mcp.notifications/resources/updated",
	"mcp.notifications/resources/list_changed", "mcp.notifications/tools/list_changed", "mcp.notifications/prompts/list_changed",
	"mcp.notifications/subscriptions/acknowledged", "mcp.notifications/elicitation/complete",
}

// permitAll writes a policy that names everything that a server has.
func permitAll(tools, prompts []string) string {
	var b strings.Builder
	b.WriteString(`
version: omega/policy/v1
platform: demo
principals:
  - {name: acme, key: keys/acme.pub, roles: [author, tool], names: ["*"]}
servers:
  - {name: everything, url: "https://127.0.0.1/mcp", principal: acme, private: true}
agents:
  - name: reporter
    requires: [{role: author, principal: acme}]
    permits:
`)
	n := 0
	permit := func(action, resource string) {
		n++
		fmt.Fprintf(&b, "      - {id: p%d, action: %s, resource: %s, more_args: true}\n", n, action, resource)
	}
	for _, t := range tools {
		permit(policy.ActionCall, "everything/"+t)
	}
	for _, p := range prompts {
		permit(policy.ActionPromptGet, "everything/"+p)
	}
	for _, a := range serverActions {
		permit(a, "everything")
	}
	return b.String()
}

// listed asks a server for a list in the newest revision.
func listed(t *testing.T, url, method, field string) []map[string]any {
	t.Helper()
	body := `{"jsonrpc":"2.0","id":1,"method":"` + method + `","params":{` + meta26 + `}}`
	req, err := http.NewRequest(http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for k, v := range map[string]string{
		"Content-Type": "application/json", "Accept": "application/json, text/event-stream",
		"Mcp-Protocol-Version": "2026-07-28", "Mcp-Method": method,
	} {
		req.Header.Set(k, v)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var m struct{ Result map[string]json.RawMessage }
	text := readSSE(t, resp)
	if err := json.Unmarshal(text, &m); err != nil {
		t.Fatalf("%s: %v: %s", method, err, text)
	}
	var items []map[string]any
	if err := json.Unmarshal(m.Result[field], &items); err != nil {
		t.Fatalf("%s: %v: %s", method, err, text)
	}
	return items
}

// conformanceWorld is a gateway that permits all of the server at an address,
// and the server's URL through it. The other one is asked what there is.
func conformanceWorld(t *testing.T, address, stateless string) string {
	t.Helper()
	var pins []map[string]any
	var tools, prompts []string
	for _, tool := range listed(t, "http://"+stateless+"/mcp", "tools/list", "tools") {
		if name := tool["name"].(string); !strings.HasPrefix(name, "_") {
			tools = append(tools, name)
			pins = append(pins, map[string]any{"name": name, "description": tool["description"], "input_schema": tool["inputSchema"]})
		}
	}
	for _, p := range listed(t, "http://"+stateless+"/mcp", "prompts/list", "prompts") {
		if name := p["name"].(string); !strings.HasPrefix(name, "_") {
			prompts = append(prompts, name)
		}
	}
	out, err := compile.Compile([]byte(permitAll(tools, prompts)), "../compile/testdata")
	if err != nil {
		t.Fatal(err)
	}
	decider, err := policy.NewDecider(context.Background(), out.Wasm)
	if err != nil {
		t.Fatal(err)
	}
	address, certificate := tlsBefore(t, address)
	descriptors, err := json.Marshal(pins)
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, func(w *world) {
		w.cfg.Document, w.cfg.Decider, w.cfg.PolicyDigest = out.Document, decider, out.Digest
		w.cfg.Roots.AddCert(certificate)
		w.cfg.Dial = map[string]string{"127.0.0.1:443": address}
		w.cfg.Timeout = 20 * time.Second
		w.agent.Models = nil
		w.agent.Tools = []gateway.Tool{{Server: "everything", Descriptors: descriptors}}
	})
	return w.loopback() + "/mcp/everything"
}

// freeAddress is one on which nobody listened a moment ago.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// TestConformanceOfMCP runs the official conformance suites against the official
// SDK's server, and then through the gateway: what passes directly must pass
// through it.
func TestConformanceOfMCP(t *testing.T) {
	dir := suites(t)
	stateful, stateless := freeAddress(t), freeAddress(t)
	foreign(t, everything, "-http="+stateful, "-stateless=false")
	foreign(t, everything, "-http="+stateless, "-stateless")
	awaitPort(t, "http://"+stateful+"/mcp")
	awaitPort(t, "http://"+stateless+"/mcp")
	runs := []struct {
		name, suite, address string
		args                 []string
		least                int // scenarios that must pass directly, so that an empty run is no success
	}{
		{"0.1.16 for 2025-11-25", "@modelcontextprotocol/conformance", stateful, []string{"--spec-version", "2025-11-25"}, 30},
		{"0.2.0-alpha.12 for 2025-11-25", "conformance-next", stateful, []string{"--requirements", "2025-11-25"}, 33},
		{"0.2.0-alpha.12 for 2026-07-28", "conformance-next", stateless, []string{"--requirements", "2026-07-28"}, 40},
	}
	for _, run := range runs {
		t.Run(run.name, func(t *testing.T) {
			url := "http://" + run.address + "/mcp"
			against := func(url string) (good []string, out string) {
				out = node(t, dir, run.suite+"/dist/index.js", append([]string{"server", "--url", url}, run.args...)...)
				return passed(out), out
			}
			direct, out := against(url)
			if len(direct) < run.least {
				t.Fatalf("%d scenarios pass directly, want %d:\n%s", len(direct), run.least, out)
			}
			through, out := against(conformanceWorld(t, run.address, stateless))
			lost := 0
			for _, name := range direct {
				if !slices.Contains(through, name) {
					lost++
					t.Errorf("%s passes directly and not through the gateway", name)
				}
			}
			t.Logf("%d of %d scenarios that pass directly pass through the gateway", len(direct)-lost, len(direct))
			if lost > 0 {
				t.Logf("%s", out)
			}
		})
	}
}
