package collateral_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"omega/attest"
	"omega/attest/collateral"
	"omega/attest/snp"
	"omega/internal/vectors"
)

// kds is AMD's service with the certificates of the vectors.
type kds struct {
	t      *testing.T
	asked  []string
	answer func(n int, w http.ResponseWriter) bool // true: it has answered
	*httptest.Server
}

func newKDS(t *testing.T) *kds {
	k := &kds{t: t}
	k.Server = httptest.NewServer(k)
	t.Cleanup(k.Close)
	return k
}

func (k *kds) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	k.asked = append(k.asked, r.URL.RequestURI())
	if k.answer != nil && k.answer(len(k.asked), w) {
		return
	}
	for _, name := range []string{"milan", "genoa", "turin"} {
		product := strings.ToUpper(name[:1]) + name[1:]
		if r.URL.Path == "/vcek/v1/"+product+"/cert_chain" {
			_, _ = w.Write(append(vectors.Read(k.t, "snp", name, name+"_ask.pem"), vectors.Read(k.t, "snp", name, name+"_ark.pem")...))
			return
		}
		if r.URL.Path == "/vcek/v1/"+product+"/"+hex.EncodeToString(chip(report(k.t, name), name)) {
			_, _ = w.Write(vcek(k.t, name))
			return
		}
	}
	http.NotFound(w, r)
}

// chip is the HWID, said here on its own: Turin's is 8 bytes.
func chip(r *snp.Report, name string) []byte {
	if name == "turin" {
		return r.ChipID[:8]
	}
	return r.ChipID[:]
}

func report(t testing.TB, name string) *snp.Report {
	r, err := snp.ParseReport(vectors.Read(t, "snp", name, name+"_attestation_report.bin"))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func vcek(t testing.TB, name string) []byte {
	block, _ := pem.Decode(vectors.Read(t, "snp", name, name+"_vcek.pem"))
	return block.Bytes
}

func roots(t testing.TB) []snp.Root {
	r, err := snp.AMDRoots()
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func noWait(context.Context, time.Duration) error { return nil }

func TestAVCEKIsAskedForAsAMDNamesItAndThenKept(t *testing.T) {
	// The numbers are those of the vectors' certificates.
	for name, want := range map[string]string{
		"milan": "blSPL=04&teeSPL=00&snpSPL=24&ucodeSPL=219",
		"genoa": "blSPL=10&teeSPL=00&snpSPL=23&ucodeSPL=84",
		"turin": "fmcSPL=01&blSPL=01&teeSPL=01&snpSPL=04&ucodeSPL=81",
	} {
		k := newKDS(t)
		c := &collateral.Client{Base: k.URL, Dir: t.TempDir(), Wait: noWait}
		r := report(t, name)
		e, err := c.Endorse(t.Context(), r, roots(t))
		if err != nil || !bytes.Equal(e.VCEK, vcek(t, name)) || e.ASK != nil || e.From != k.URL {
			t.Fatalf("%s: %+v, %v", name, e, err)
		}
		leaf, err := snp.ParseCertificate(e.VCEK)
		if err != nil {
			t.Fatal(err)
		}
		raw := vectors.Read(t, "snp", name, name+"_attestation_report.bin")
		if _, err := snp.Verify(raw, snp.Chain{Leaf: leaf}, roots(t), time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if len(k.asked) != 1 {
			t.Fatalf("%s: asked %q", name, k.asked)
		}
		if _, query, _ := strings.Cut(k.asked[0], "?"); query != want {
			t.Errorf("%s: asked for %q, want %q", name, query, want)
		}
		k.Close()
		for _, offline := range []bool{false, true} {
			c.Offline = offline
			if e, err = c.Endorse(t.Context(), r, roots(t)); err != nil || !bytes.Equal(e.VCEK, vcek(t, name)) || !strings.HasPrefix(e.From, c.Dir) {
				t.Errorf("%s: from the cache, offline %v: %v", name, offline, err)
			}
		}
	}
}

func TestOfflineNeverTouchesTheNetwork(t *testing.T) {
	k := newKDS(t)
	c := &collateral.Client{Base: k.URL, Dir: t.TempDir(), Offline: true, Wait: noWait}
	_, err := c.Endorse(t.Context(), report(t, "turin"), roots(t))
	if !errors.Is(err, attest.ErrCollateral) || !strings.Contains(err.Error(), "--offline") || len(k.asked) != 0 {
		t.Errorf("asked %q, %v", k.asked, err)
	}
}

func TestABusyServiceIsLeftAloneForAsLongAsItAsks(t *testing.T) {
	k := newKDS(t)
	k.answer = func(n int, w http.ResponseWriter) bool {
		if n < 4 {
			w.Header().Set("Retry-After", []string{"", "7", "", "9999"}[n])
			w.WriteHeader([]int{0, 429, 503, 429}[n])
		}
		return n < 4
	}
	var waits []time.Duration
	c := &collateral.Client{Base: k.URL, Wait: func(_ context.Context, d time.Duration) error { waits = append(waits, d); return nil }}
	if _, err := c.Endorse(t.Context(), report(t, "milan"), roots(t)); err != nil {
		t.Fatal(err)
	}
	if want := []time.Duration{7 * time.Second, 2 * time.Second, 30 * time.Second}; !slices.Equal(waits, want) {
		t.Errorf("waited %v, want %v", waits, want)
	}
	k.asked, k.answer = nil, func(_ int, w http.ResponseWriter) bool { w.WriteHeader(429); return true }
	if _, err := c.Endorse(t.Context(), report(t, "milan"), roots(t)); !errors.Is(err, attest.ErrCollateral) || len(k.asked) != 5 {
		t.Errorf("asked %d times, %v", len(k.asked), err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	c.Wait = func(ctx context.Context, _ time.Duration) error { cancel(); return ctx.Err() }
	if _, err := c.Endorse(ctx, report(t, "milan"), roots(t)); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

func TestWhatDoesNotLeadToAMDIsNeitherUsedNorKept(t *testing.T) {
	tests := map[string]func(int, http.ResponseWriter) bool{
		"another product's certificate": func(n int, w http.ResponseWriter) bool {
			if n == 1 {
				_, _ = w.Write(vcek(t, "milan"))
			}
			return n == 1
		},
		"garbage":  func(_ int, w http.ResponseWriter) bool { _, _ = w.Write([]byte("<html>")); return true },
		"nothing":  func(int, http.ResponseWriter) bool { return true },
		"too much": func(_ int, w http.ResponseWriter) bool { _, _ = w.Write(make([]byte, 65<<10)); return true },
		"a redirect": func(_ int, w http.ResponseWriter) bool {
			w.Header().Set("Location", "/")
			w.WriteHeader(302)
			return true
		},
		"unknown chip": func(_ int, w http.ResponseWriter) bool { w.WriteHeader(404); return true },
	}
	for name, answer := range tests {
		k := newKDS(t)
		k.answer = answer
		c := &collateral.Client{Base: k.URL, Dir: t.TempDir(), Wait: noWait}
		_, err := c.Endorse(t.Context(), report(t, "turin"), roots(t))
		if !errors.Is(err, attest.ErrCollateral) {
			t.Errorf("%s: %v", name, err)
		}
		if files, _ := os.ReadDir(c.Dir); len(files) != 0 || len(k.asked) > 2 {
			t.Errorf("%s: %d files are kept, asked %q", name, len(files), k.asked)
		}
	}
}

func TestAnASKThatIsNotKnownIsAskedForAndKept(t *testing.T) {
	k := newKDS(t)
	trusted := roots(t)
	for i := range trusted {
		trusted[i].Intermediates = nil
	}
	c := &collateral.Client{Base: k.URL, Dir: t.TempDir(), Wait: noWait}
	for range 2 {
		e, err := c.Endorse(t.Context(), report(t, "genoa"), trusted)
		if err != nil || e.ASK == nil || len(k.asked) != 2 {
			t.Fatalf("asked %q, %v", k.asked, err)
		}
	}
}

func TestABrokenCacheIsFilledAgain(t *testing.T) {
	k := newKDS(t)
	c := &collateral.Client{Base: k.URL, Dir: t.TempDir(), Wait: noWait}
	for range 2 {
		if _, err := c.Endorse(t.Context(), report(t, "milan"), roots(t)); err != nil {
			t.Fatal(err)
		}
		files, err := filepath.Glob(filepath.Join(c.Dir, "*"))
		if err != nil || len(files) != 1 {
			t.Fatalf("%q, %v", files, err)
		}
		if err := os.WriteFile(files[0], []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if len(k.asked) != 2 {
		t.Errorf("asked %d times", len(k.asked))
	}
}

func TestReportsThatNameNoVCEKAreNotAskedFor(t *testing.T) {
	for name, change := range map[string]func(*snp.Report){
		"a VLEK": func(r *snp.Report) { r.SigningKey = snp.VLEK }, "an old report": func(r *snp.Report) { r.Version = 2 },
		"a hidden chip": func(r *snp.Report) { r.ChipID = [64]byte{} },
	} {
		k := newKDS(t)
		r := report(t, "milan")
		change(r)
		c := &collateral.Client{Base: k.URL, Wait: noWait}
		if _, err := c.Endorse(t.Context(), r, roots(t)); !errors.Is(err, attest.ErrCollateral) || len(k.asked) != 0 {
			t.Errorf("%s: asked %q, %v", name, k.asked, err)
		}
	}
}
