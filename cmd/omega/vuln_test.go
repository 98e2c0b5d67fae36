package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// What govulncheck says, message by message.
const (
	scanConfig = `{"config":{"protocol_version":"v1.0.0","scanner_name":"govulncheck","scan_level":"symbol"}}`
	scanOSV    = `{"osv":{"id":"GO-2030-0001","summary":"A hole in a.b/c","aliases":["CVE-2030-1"]}}`
	scanModule = `{"finding":{"osv":"GO-2030-0001","fixed_version":"v1.1.0","trace":[{"module":"a.b/c","version":"v1.0.0"}]}}`
	scanCalled = `{"finding":{"osv":"GO-2030-0001","fixed_version":"v1.1.0","trace":[{"module":"a.b/c","version":"v1.0.0","package":"a.b/c/d","function":"Open","receiver":"*File"}]}}`
)

func vexWith(statements string) string {
	return `{"@context":"https://openvex.dev/ns/v0.2.0","@id":"x","author":"a","timestamp":"2026-11-24T00:00:00Z","version":1,"statements":[` + statements + `]}`
}

func statement(name, product, status string) string {
	return `{"vulnerability":{"name":"` + name + `"},"products":[{"@id":"` + product + `"}],"status":"` + status +
		`","justification":"vulnerable_code_not_in_execute_path","impact_statement":"the file is ours"}`
}

func TestAVulnerabilityCountsUnlessAnExceptionSaysWhyNot(t *testing.T) {
	const runsc = "pkg:golang/omega/images/runsc"
	tests := []struct {
		name, scanned, vex string
		code               int
		out, words         string
	}{
		{"nothing found", scanConfig, "", exitOK, "no known vulnerability", ""},
		{"a module that is not called", scanConfig + scanOSV + scanModule, "", exitOK, "no known vulnerability", ""},
		{"a vulnerable call", scanConfig + scanOSV + scanModule + scanCalled, "", exitMismatch, "GO-2030-0001 in " + runsc + ": a.b/c v1.0.0 (fixed in v1.1.0): A hole in a.b/c\n  calls a.b/c/d.*File.Open", "1 vulnerabilities without an exception"},
		{"an exception", scanConfig + scanOSV + scanCalled, statement("GO-2030-0001", runsc, "not_affected"), exitOK, "does not count: vulnerable_code_not_in_execute_path: the file is ours", ""},
		{"an exception by the other name", scanConfig + scanOSV + scanCalled, statement("CVE-2030-1", runsc, "not_affected"), exitOK, "does not count", ""},
		{"an exception for another module", scanConfig + scanOSV + scanCalled, statement("GO-2030-0001", "pkg:golang/omega", "not_affected"), exitMismatch, "", "exception without a use: GO-2030-0001 for pkg:golang/omega"},
		{"one that is looked into", scanConfig + scanOSV + scanCalled, statement("GO-2030-0001", runsc, "under_investigation"), exitMismatch, "", "without an exception"},
		{"one that affects us", scanConfig + scanOSV + scanCalled, statement("GO-2030-0001", runsc, "affected"), exitMismatch, "", "without an exception"},
		{"an exception that matches nothing", scanConfig, statement("GO-2029-0009", runsc, "not_affected"), exitOK, "no known", "exception without a use: GO-2029-0009 for " + runsc + "; remove it"},
		{"a scan that was none", "", "", exitUsage, "", "nothing was scanned"},
		{"a scan of modules alone", strings.Replace(scanConfig, "symbol", "module", 1), "", exitUsage, "", "level"},
		{"an output that breaks off", scanConfig + scanOSV[:20], "", exitUsage, "", "govulncheck's output"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			exceptions, err := parseVEX([]byte(vexWith(tt.vex)))
			if err != nil {
				t.Fatal(err)
			}
			var out, words bytes.Buffer
			e := &env{Stdin: strings.NewReader(""), Stdout: &out, Stderr: &words}
			scan := func(_ context.Context, dir, _, _ string) ([]byte, error) {
				if strings.HasSuffix(dir, "runsc") {
					return []byte(tt.scanned), nil
				}
				return []byte(scanConfig), nil
			}
			err = e.vuln(t.Context(), "/source", "", exceptions, false, scan)
			if err != nil {
				words.WriteString(err.Error())
			}
			if codeOf(err) != tt.code || !strings.Contains(out.String(), tt.out) || !strings.Contains(words.String(), tt.words) {
				t.Errorf("exit %d, want %d; %q, %q", codeOf(err), tt.code, &out, &words)
			}
		})
	}
}

func TestVulnPrintsJSON(t *testing.T) {
	exceptions, err := parseVEX([]byte(vexWith("")))
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	e := &env{Stdin: strings.NewReader(""), Stdout: &out, Stderr: &bytes.Buffer{}}
	err = e.vuln(t.Context(), "/source", "", exceptions, true, func(context.Context, string, string, string) ([]byte, error) {
		return []byte(scanConfig + scanOSV + scanCalled), nil
	})
	var got vulnResult
	if jsonErr := json.Unmarshal(out.Bytes(), &got); jsonErr != nil || codeOf(err) != exitMismatch || len(got.Found) != len(vulnModules) || got.Found[0].Fixed != "v1.1.0" {
		t.Errorf("%v, %v: %s", err, jsonErr, &out)
	}
}

func TestADatabaseThatIsAwayIsSaidToBe(t *testing.T) {
	// A go that does what govulncheck does without a network.
	dir := t.TempDir()
	script := "#!/bin/sh\necho 'govulncheck: fetching vulnerabilities: dial tcp: no such host' >&2\necho 'exit status 1' >&2\nexit 1\n"
	if err := os.WriteFile(filepath.Join(dir, "go"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	code, _, words := omega(t, "vuln")
	if code != exitCollateral || !strings.Contains(words, "nothing was checked") || !strings.Contains(words, "no such host") {
		t.Errorf("exit %d, %q", code, words)
	}
}

func TestExceptionsWithoutAReasonAreRefused(t *testing.T) {
	good := statement("GO-2030-0001", "pkg:golang/omega", "not_affected")
	for name, text := range map[string]string{
		"another version":          strings.Replace(vexWith(good), "v0.2.0", "v0.3.0", 1),
		"an unknown status":        vexWith(strings.Replace(good, `"not_affected"`, `"harmless"`, 1)),
		"an unknown justification": vexWith(strings.Replace(good, "vulnerable_code_not_in_execute_path", "because", 1)),
		"no words":                 vexWith(strings.Replace(good, "the file is ours", "", 1)),
		"no product":               vexWith(strings.Replace(good, `{"@id":"pkg:golang/omega"}`, "", 1)),
		"an unknown field":         vexWith(strings.Replace(good, `"status"`, `"extra":1,"status"`, 1)),
		"no author":                strings.Replace(vexWith(good), `"author":"a",`, "", 1),
	} {
		if _, err := parseVEX([]byte(text)); err == nil {
			t.Errorf("%s was accepted: %s", name, text)
		}
	}
	if _, err := parseVEX([]byte(vexWith(good))); err != nil {
		t.Error(err)
	}
	checkedIn, err := os.ReadFile(filepath.Join("..", "..", "openvex.json"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := parseVEX(checkedIn); err != nil {
		t.Errorf("openvex.json: %v", err)
	}
}

func TestEveryModuleOfTheTreeIsScanned(t *testing.T) {
	root := filepath.Join("..", "..")
	have := map[string]bool{}
	for _, m := range vulnModules {
		have[filepath.Join(root, m.dir, "go.mod")] = true
		b, err := os.ReadFile(filepath.Join(root, m.dir, "go.mod"))
		if err != nil || !strings.Contains("\n"+string(b), "\nmodule "+strings.TrimPrefix(m.product, "pkg:golang/")+"\n") {
			t.Errorf("%s is not module %s: %v", m.dir, m.product, err)
		}
	}
	for _, pattern := range []string{"go.mod", "*/go.mod", "*/*/go.mod", "*/*/*/go.mod"} {
		list, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range list {
			if rel, err := filepath.Rel(root, path); err != nil || !have[path] && !strings.HasPrefix(rel, "build/") && !strings.Contains(rel, "testdata") {
				t.Errorf("%s is a module that nobody scans", rel)
			}
		}
	}
}

func FuzzParseVEX(f *testing.F) {
	f.Add([]byte(vexWith(statement("GO-2030-0001", "pkg:golang/omega", "not_affected"))))
	f.Fuzz(func(t *testing.T, b []byte) {
		d, err := parseVEX(b)
		if err == nil && len(d.unused()) < len(d.Statements) {
			t.Error("a statement is used before anything was found")
		}
	})
}
