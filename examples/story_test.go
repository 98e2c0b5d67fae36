// Package examples_test runs the example programs against each other as
// ordinary processes, without Omega: what they do on their own is the baseline
// for what the platform changes.
package examples_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// A world is the built programs and what they trust.
type world struct {
	dir, ca, cert, key string
}

// newWorld builds the programs named and makes their certificates.
func newWorld(t *testing.T, packages ...string) *world {
	t.Helper()
	w := &world{dir: t.TempDir()}
	noteSources(t)
	for _, pkg := range packages {
		build := exec.CommandContext(t.Context(), "go", "build", "-o", filepath.Join(w.dir, filepath.Base(pkg)), "./"+pkg)
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			t.Fatalf("building %s: %v\n%s", pkg, err, out)
		}
	}
	w.ca, w.cert, w.key = certificates(t, w.dir)
	return w
}

// noteSources makes a cached test result depend on the programs' sources: go
// test counts the files that a test looks at, not those that it has compiled.
func noteSources(t *testing.T) {
	t.Helper()
	err := filepath.WalkDir(".", func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		_, err = os.Stat(path)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// serve starts a server program and returns the address it listens on.
func (w *world) serve(t *testing.T, program string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), filepath.Join(w.dir, program), append(args, "-cert", w.cert, "-key", w.key)...)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("%s: first line: %v", program, err)
	}
	address, ok := strings.CutPrefix(strings.TrimSpace(line), "listening ")
	if !ok {
		t.Fatalf("%s: first line %q", program, line)
	}
	return address
}

// run runs an agent to its end and returns what it printed.
func (w *world) run(t *testing.T, agent, llm string, servers map[string]string) string {
	t.Helper()
	encoded, err := json.Marshal(servers)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), filepath.Join(w.dir, agent))
	cmd.Env = []string{
		"OPENAI_BASE_URL=https://" + llm + "/v1", "OPENAI_API_KEY=unused", "AGENT_MODEL=scripted",
		"MCP_SERVERS=" + string(encoded), "SSL_CERT_FILE=" + w.ca,
	}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", agent, err, out)
	}
	return string(out)
}

// calls reads a provider's record.
func calls(t *testing.T, path string) []string {
	t.Helper()
	record, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for line := range bytes.Lines(record) {
		var call struct {
			Tool      string
			Arguments json.RawMessage
		}
		if err := json.Unmarshal(line, &call); err != nil {
			t.Fatalf("record %q: %v", line, err)
		}
		found = append(found, call.Tool+" "+string(call.Arguments))
	}
	return found
}

// guard stands where a policy would: it refuses tool calls for /private/ with
// a reason, and passes everything else on.
func guard(t *testing.T, to, reason string) string {
	t.Helper()
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: to})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		var call struct {
			ID     json.RawMessage
			Method string
			Params struct{ Arguments struct{ Path string } }
		}
		if json.Unmarshal(body, &call) == nil && call.Method == "tools/call" && strings.HasPrefix(call.Params.Arguments.Path, "/private/") {
			w.Header().Set("Content-Type", "application/json")
			json.NewEncoder(w).Encode(map[string]any{"jsonrpc": "2.0", "id": call.ID, "result": map[string]any{
				"isError": true, "resultType": "complete",
				"content": []any{map[string]any{"type": "text", "text": reason}},
			}})
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	return server.URL
}

func TestThePlannerReadsWhatNothingForbids(t *testing.T) {
	w := newWorld(t, "agents/planner", "tools/files", "tools/notes", "llm/scripted")
	filesRecord, notesRecord := filepath.Join(w.dir, "files.jsonl"), filepath.Join(w.dir, "notes.jsonl")
	servers := map[string]string{
		"files": "https://" + w.serve(t, "files", "-calls", filesRecord),
		"notes": "https://" + w.serve(t, "notes", "-calls", notesRecord),
	}
	out := w.run(t, "planner", w.serve(t, "scripted"), servers)
	if !strings.Contains(out, "done: The plan is written.") {
		t.Errorf("the planner did not finish:\n%s", out)
	}
	if got := calls(t, filesRecord); len(got) != 2 || !strings.Contains(got[1], "/private/salaries.txt") {
		t.Errorf("calls that reached files: %q", got)
	}
	if got := calls(t, notesRecord); len(got) != 1 || !strings.Contains(got[0], "Okafor") {
		t.Errorf("calls that reached notes: %q", got)
	}
}

func TestThePlannerFindsAnotherWayWhenItIsRefused(t *testing.T) {
	tests := []struct {
		name, reason, done string
		files, notes       int
	}{
		{
			"the reason names a permitted way", "denied: /private/salaries.txt is not permitted; /public/staff-summary.txt is",
			"done: The plan is written.", 2, 1,
		},
		{
			"the reason names none", "denied: /private/salaries.txt is not permitted",
			"done: I found no permitted way to the staff costs.", 1, 0,
		},
	}
	w := newWorld(t, "agents/planner", "tools/files", "tools/notes", "llm/scripted")
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			filesRecord, notesRecord := filepath.Join(t.TempDir(), "files"), filepath.Join(t.TempDir(), "notes")
			files := w.serve(t, "files", "-calls", filesRecord)
			servers := map[string]string{
				"files": guard(t, tlsBridge(t, w.ca, files), tt.reason),
				"notes": "https://" + w.serve(t, "notes", "-calls", notesRecord),
			}
			out := w.run(t, "planner", w.serve(t, "scripted"), servers)
			if !strings.Contains(out, tt.done) || !strings.Contains(out, "refused: "+tt.reason) {
				t.Errorf("output:\n%s", out)
			}
			got := calls(t, filesRecord)
			if len(got) != tt.files || strings.Contains(strings.Join(got, "\n"), "/private/") {
				t.Errorf("calls that reached files: %q", got)
			}
			if got := calls(t, notesRecord); len(got) != tt.notes || strings.Contains(strings.Join(got, "\n"), "Okafor") {
				t.Errorf("calls that reached notes: %q", got)
			}
		})
	}
}

func TestTheReporterReportsTheBrief(t *testing.T) {
	w := newWorld(t, "agents/reporter", "tools/files", "llm/scripted")
	servers := map[string]string{"files": "https://" + w.serve(t, "files")}
	out := w.run(t, "reporter", w.serve(t, "scripted"), servers)
	if !strings.Contains(out, "done: The brief asks for: open the second workshop.") {
		t.Errorf("output:\n%s", out)
	}
}

func TestAnAgentWithoutItsToolsEndsWithAnError(t *testing.T) {
	w := newWorld(t, "agents/reporter")
	for _, servers := range []string{"", "{", `{"files":"http://127.0.0.1:1"}`} {
		cmd := exec.CommandContext(t.Context(), filepath.Join(w.dir, "reporter"))
		cmd.Env = []string{"MCP_SERVERS=" + servers, "OPENAI_API_KEY=unused"}
		if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(out), "error: ") {
			t.Errorf("MCP_SERVERS=%q: %v\n%s", servers, err, out)
		}
	}
}

func TestDescriptorsAreWhatTheServerLists(t *testing.T) {
	w := newWorld(t, "tools/files")
	out, err := exec.CommandContext(t.Context(), filepath.Join(w.dir, "files"), "-descriptors").Output()
	if err != nil {
		t.Fatal(err)
	}
	var got []struct {
		Name        string
		Description string
		InputSchema struct {
			Required []string
		} `json:"input_schema"`
	}
	if err := json.Unmarshal(out, &got); err != nil {
		t.Fatalf("%s: %v", out, err)
	}
	if len(got) != 1 || got[0].Name != "read_file" || got[0].Description == "" || len(got[0].InputSchema.Required) != 1 {
		t.Errorf("descriptors: %+v", got)
	}
}
