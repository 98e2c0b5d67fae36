package main

import (
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"omega/attest"
)

func readPage(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestThePageTellsTheOutcomeWhateverItIs(t *testing.T) {
	p := newPlatform(t)
	page := filepath.Join(t.TempDir(), "page.html")
	args := []string{"verify", p.URL, "--manifest", p.manifest, "--manifest-unsigned", "--html", page}
	if code, _, words := omega(t, append(args, "--allow-emulated", p.root)...); code != exitOK {
		t.Fatalf("exit %d: %s", code, words)
	}
	got := readPage(t, page)
	for _, want := range []string{"<strong>EMULATED</strong>", "Emulated PSP, accepted by you", "the release&#39;s security version", "every wall-clock time", "nobody signed it", "<svg"} {
		if !strings.Contains(got, want) {
			t.Errorf("page without %q", want)
		}
	}
	if code, _, _ := omega(t, args...); code != exitSignature {
		t.Errorf("refused: exit %d", code)
	}
	got = readPage(t, page)
	if !strings.Contains(got, "<strong>REFUSED</strong>") || strings.Contains(got, "EMULATED</strong>") || !strings.Contains(got, "no valid signature stands below") {
		t.Error("the page of a refusal does not say so")
	}
	p.Close()
	if code, _, _ := omega(t, args...); code != exitUsage {
		t.Errorf("nobody there: exit %d", code)
	}
	if got = readPage(t, page); !strings.Contains(got, "asking for evidence") || !strings.Contains(got, "REFUSED") {
		t.Error("a platform that does not answer leaves a page that does not say so")
	}
	if code, _, _ := omega(t, append(args, "--html", filepath.Join(page, "no", "folder"))...); code != exitUsage {
		t.Errorf("a page that cannot be written: exit %d", code)
	}
}

func TestThePageIsSafeToOpenWhateverThePlatformSays(t *testing.T) {
	hostile := "</text><script>alert(1)</script>\u202egnp\x1b[2J\" onload=\"x"
	agents := make([]attest.Agent, 40)
	for i := range agents {
		agents[i] = attest.Agent{Instance: hostile, Name: hostile, State: hostile, Components: []attest.Component{{Kind: hostile, Name: hostile, Principal: hostile, Role: hostile, Signatures: []attest.Signature{{Key: []byte(hostile)}}}}}
	}
	v := &verification{Source: hostile, Verdict: attest.VerdictRefused, Manifest: hostile, Evidence: &attest.Evidence{Agents: agents},
		Checks: []attest.Check{{Name: hostile, Status: attest.Failed, Expected: hostile, Found: hostile, Words: hostile}, {Name: "log", Status: attest.NotProven, Found: hostile, Words: hostile}}}
	path := filepath.Join(t.TempDir(), "page.html")
	if err := writePage(path, hostile, v, errors.New(hostile), time.Now()); err != nil {
		t.Fatal(err)
	}
	got := readPage(t, path)
	for _, bad := range []string{"<script", "\u202e", "\x1b", `" onload="`, "http:", "https:", "url(h", "src="} {
		if strings.Contains(got, bad) {
			t.Errorf("page with %q", bad)
		}
	}
	if n := strings.Count(got, "<g class"); n > 30 {
		t.Errorf("%d boxes are drawn for 40 agents", n)
	}
	picture := got[strings.Index(got, "<svg") : strings.Index(got, "</svg>")+6]
	for d := xml.NewDecoder(strings.NewReader(picture)); ; {
		if _, err := d.Token(); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatalf("picture: %v", err)
		}
	}
}

func TestTheStatusOfAPrincipalIsItsWorstCheck(t *testing.T) {
	v := &verification{Checks: []attest.Check{{Name: "a", Status: attest.Proven}, {Name: "b", Status: attest.NotProven}, {Name: "c", Status: attest.Failed}, {Name: "a", Status: attest.Proven}}}
	for _, tt := range []struct {
		names []string
		want  string
	}{
		{[]string{"a"}, attest.Proven}, {[]string{"a", "b"}, attest.NotProven}, {[]string{"b", "c", "a"}, attest.Failed},
		{[]string{"a", "missing"}, notAppraised}, {[]string{"missing"}, notAppraised}, {[]string{"missing", "c"}, attest.Failed},
	} {
		if got := v.status(tt.names...); got != tt.want {
			t.Errorf("%v: %s, want %s", tt.names, got, tt.want)
		}
	}
}

func TestClaimsOfAPlatformThatIsNotProvenAreNotDrawnAsProven(t *testing.T) {
	p := newPlatform(t)
	p.launch.Digest[0]++
	raw := filepath.Join(t.TempDir(), "page.html")
	omega(t, "verify", p.URL, "--manifest", p.manifest, "--manifest-unsigned", "--html", raw, "--allow-emulated", p.root)
	page := readPage(t, raw)
	for title, want := range map[string]string{
		"Secure processor": attest.Proven, "Platform: the measured image": attest.Failed, "Agents admitted in this boot: 0": notAppraised,
		"Provenance log": notAppraised, "Operator": notAppraised, "You": notAppraised, "Emulated PSP, accepted by you": attest.NotProven,
	} {
		head, _, ok := strings.Cut(page, ">"+title+"<")
		if !ok {
			t.Errorf("no box %q", title)
			continue
		}
		if at := strings.LastIndex(head, `<g class="`); !strings.HasPrefix(head[at+10:], want+`"`) {
			t.Errorf("%s is drawn as %.12s, want %s", title, head[at+10:], want)
		}
	}
}

func TestTextIsWrappedAtSpacesAndNeverLost(t *testing.T) {
	for _, text := range []string{"", "short", "a text of several words that is too long", strings.Repeat("x", 95)} {
		lines := wrap(text, 20)
		for _, l := range lines {
			if len([]rune(l)) > 20 {
				t.Errorf("line %q", l)
			}
		}
		if got := strings.ReplaceAll(strings.Join(lines, ""), " ", ""); got != strings.ReplaceAll(text, " ", "") {
			t.Errorf("%q became %q", text, lines)
		}
	}
}
