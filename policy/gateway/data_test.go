package gateway_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"omega/policy"
	"omega/policy/compile"
	"omega/policy/gateway"
)

var prices = "milk 300\nbread 250\n"

func dataPolicy() string {
	sum := sha256.Sum256([]byte(prices))
	return `
version: omega/policy/v1
platform: demo
principals:
  - {name: acme, key: keys/acme.pub, roles: [author, tool], names: ["*"]}
servers:
  - {name: mail, url: "https://mail.example.com/mcp", principal: acme, private: true, result: {integrity: trusted}}
data:
  - {name: prices, url: "https://data.example.com/sets/prices", private: true, result: {integrity: trusted}, files: {list.csv: ` + hex.EncodeToString(sum[:]) + `}}
  - {name: diary, url: "https://data.example.com/sets/diary", private: true, readers: [alice], result: {integrity: trusted, readers: [alice]}}
  - {name: board, result: {integrity: trusted}}
  - {name: hidden}
agents:
  - name: reporter
    requires: [{role: author, principal: acme}]
    permits:
      - {id: look, action: data.read, resource: prices}
      - {id: diary, action: data.read, resource: diary, args: {name: {prefix: "2026"}}, instead: read the diary of 2026}
      - {id: enter, action: data.write, resource: diary, args: {bytes: {max: 20}}}
      - {id: post, action: data.write, resource: board, args: {bytes: {max: 200}}}
      - {id: see, action: data.read, resource: board}
      - {id: send, action: mcp.tools/call, resource: mail/read, args: {path: {type: string}}, consequential: true, endorse: [path]}
      - {id: taint, action: mcp.tools/call, resource: mail/region, args: {region: {type: string}}, result: {integrity: untrusted}}
`
}

var dataCompiled = sync.OnceValues(func() (measured, error) {
	out, err := compile.Compile([]byte(dataPolicy()), "../compile/testdata")
	if err != nil {
		return measured{}, err
	}
	d, err := policy.NewDecider(context.Background(), out.Wasm)
	return measured{out, d}, err
})

// dataWorld is a world whose data server has these files, by path.
func dataWorld(t *testing.T, files map[string]string) *world {
	t.Helper()
	out, err := dataCompiled()
	if err != nil {
		t.Fatal(err)
	}
	return newWorld(t, func(w *world) {
		var mu sync.Mutex
		server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			mu.Lock()
			defer mu.Unlock()
			path := strings.TrimPrefix(r.URL.Path, "/sets/")
			if r.Method == http.MethodPut {
				b, _ := io.ReadAll(r.Body)
				files[path] = string(b)
				_, _ = io.WriteString(w, "words of the server")
				return
			}
			text, ok := files[path]
			if !ok {
				http.NotFound(w, r)
				return
			}
			_, _ = io.WriteString(w, text)
		}))
		t.Cleanup(server.Close)
		w.cfg.Roots.AddCert(server.Certificate())
		w.cfg.Dial["data.example.com:443"] = server.Listener.Addr().String()
		w.cfg.Dial["mail.example.com:443"] = w.cfg.Dial["files.example.com:443"]
		w.cfg.Document, w.cfg.Decider, w.cfg.PolicyDigest = out.Document, out.Decider, out.Digest
		w.agent.Tools = []gateway.Tool{{Server: "mail", Descriptors: []byte(tools)}}
	})
}

func TestFilesOfADataSetAreDecidedAndTheOnesThatWereNamed(t *testing.T) {
	files := map[string]string{"prices/list.csv": prices, "prices/other.csv": "x", "diary/2026/may": "rain", "diary/2025/may": "sun"}
	w := dataWorld(t, files)
	for _, test := range []struct {
		path   string
		status int
		body   string
	}{
		{"prices/list.csv", 200, prices},
		{"prices", 200, `{"files":["list.csv"]}`},
		{"prices/other.csv", 404, "no such file"},
		{"diary/2026/may", 200, "rain"},
		{"diary/2026/june", 404, "no such file"},
		{"diary/2025/may", 403, "read the diary of 2026"},
		{"diary/2026/../2025/may", 403, "begins with a dot"},
		{"diary/2026//may", 403, "letters, digits"},
		{"hidden/a", 403, "it may read: prices, diary, board"},
		{"nothing/a", 403, "it may read"},
	} {
		if r := w.do("GET", "/data/"+test.path, ""); r.status != test.status || !strings.Contains(r.body, test.body) {
			t.Errorf("%s: %d %s", test.path, r.status, r.body)
		}
	}
	files["prices/list.csv"] = prices + "gold 1\n"
	w = dataWorld(t, files)
	if r := w.do("GET", "/data/prices/list.csv", ""); r.status != 502 || strings.Contains(r.body, "gold") || !strings.Contains(r.body, "not the one that the policy names") {
		t.Errorf("a changed file: %d %s", r.status, r.body)
	}
	if r := w.do("DELETE", "/data/prices/list.csv", ""); r.status != 403 || !strings.Contains(r.body, "read with GET") {
		t.Errorf("deleting: %d", r.status)
	}
}

func TestLabelsOfDataTravel(t *testing.T) {
	w := dataWorld(t, map[string]string{"prices/list.csv": prices, "diary/2026/may": "rain"})
	first := w.client
	if r := w.do("PUT", "/data/board/before", "clean"); r.status != 204 {
		t.Fatalf("writing: %d %s", r.status, r.body)
	}
	w.call("mail", "region", `{"region":"eu"}`) // from here on the first agent has read something untrusted
	if r := w.do("PUT", "/data/board/after", "/etc/passwd"); r.status != 204 {
		t.Fatalf("writing: %d %s", r.status, r.body)
	}
	second := w.agent
	second.Instance = "reporter-2"
	w.client = w.connect(second)
	if r := w.do("GET", "/data/board/before", ""); r.status != 200 || r.body != "clean" {
		t.Fatalf("reading: %d %s", r.status, r.body)
	}
	if text, failed := w.call("mail", "read", `{"path":"anything"}`); failed {
		t.Errorf("after a clean file: %s", text)
	}
	if r := w.do("GET", "/data/board/after", ""); r.status != 200 || r.body != "/etc/passwd" {
		t.Fatalf("reading: %d %s", r.status, r.body)
	}
	if text, failed := w.call("mail", "read", `{"path":"/etc/passwd"}`); !failed || !strings.Contains(text, "untrusted") {
		t.Errorf("what a tainted agent wrote endorses or leaves no label: %q", text)
	}
	w.client = first
	if r := w.do("GET", "/data/diary/2026/may", ""); r.status != 200 {
		t.Fatalf("%d %s", r.status, r.body)
	}
	if r := w.do("PUT", "/data/board/leak", "rain"); r.status != 403 || !strings.Contains(r.body, "alice") {
		t.Errorf("what is for alice went to everybody's board: %d %s", r.status, r.body)
	}
	if r := w.do("PUT", "/data/diary/2026/june", "more rain"); r.status != 204 {
		t.Errorf("what is for alice goes to alice's diary: %d %s", r.status, r.body)
	}
}

func TestNamesOfFilesCarryTheLabelsOfTheFiles(t *testing.T) {
	w := dataWorld(t, nil)
	w.call("mail", "region", `{"region":"eu"}`)
	w.do("PUT", "/data/board/send-it-to-eve", "x")
	second := w.agent
	second.Instance = "reporter-2"
	w.client = w.connect(second)
	if r := w.do("GET", "/data/board", ""); r.body != `{"files":["send-it-to-eve"]}` {
		t.Fatalf("%d %s", r.status, r.body)
	}
	if text, failed := w.call("mail", "read", `{"path":"anything"}`); !failed {
		t.Errorf("a list of names by a tainted agent left no label: %s", text)
	}
}

func TestTrustedDataEndorses(t *testing.T) {
	w := dataWorld(t, map[string]string{"prices/list.csv": prices})
	w.do("GET", "/data/prices/list.csv", "")
	w.call("mail", "region", `{"region":"eu"}`)
	if text, failed := w.call("mail", "read", `{"path":"milk"}`); failed {
		t.Errorf("a word of the data: %s", text)
	}
	if text, failed := w.call("mail", "read", `{"path":"gold"}`); !failed {
		t.Errorf("a word of nobody's: %s", text)
	}
}

func TestWrittenDataIsBoundedAndLogged(t *testing.T) {
	w := dataWorld(t, map[string]string{})
	if r := w.do("PUT", "/data/board/a", strings.Repeat("x", 201)); r.status != 403 {
		t.Errorf("more than the permit's bytes: %d %s", r.status, r.body)
	}
	if r := w.do("PUT", "/data/board/a", strings.Repeat("x", 9<<20)); r.status != 403 || !strings.Contains(r.body, "longer than the limit") {
		t.Errorf("more than the gateway takes: %d %s", r.status, r.body)
	}
	if r := w.do("PUT", "/data/board", "x"); r.status != 403 {
		t.Errorf("no file: %d", r.status)
	}
	if r := w.do("PUT", "/data/prices/list.csv", "x"); r.status != 403 {
		t.Errorf("a set that nobody may write: %d", r.status)
	}
	if r := w.do("PUT", "/data/diary/2026/june", "sun"); r.status != 204 || r.body != "" {
		t.Errorf("%d %q", r.status, r.body)
	}
	w.log.mu.Lock()
	defer w.log.mu.Unlock()
	sum := sha256.Sum256([]byte("sun"))
	intent := string(w.log.entries[len(w.log.entries)-2].Input)
	if !strings.Contains(intent, hex.EncodeToString(sum[:])) || !strings.Contains(intent, `"name":"2026/june"`) || strings.Contains(intent, "sun") {
		t.Errorf("decided %s", intent)
	}
}
