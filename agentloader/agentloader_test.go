package agentloader

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"log"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/erofs/go-erofs"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"omega/agentloader/bundle"
	"omega/agentloader/flatten"
	"omega/agentloader/registry"
)

func nopLog() *log.Logger { return log.New(io.Discard, "", 0) }

func TestGoodBundleIsAdmitted(t *testing.T) {
	w := newWorld(t)
	raw := w.publish()
	l := w.loader(nil)
	a, err := l.Admit(t.Context(), raw)
	if err != nil {
		t.Fatal(err)
	}
	signedBy := func(who string) []bundle.Signed {
		k, err := w.keys[who].Public()
		w.must(err)
		return []bundle.Signed{{KeyID: k.ID}}
	}
	want := &Admitted{
		Instance: "notes-1", Name: "notes", Bundle: w.bundle, Manifest: &w.manifest, Dir: "/work",
		ImagePath: l.cfg.Dir + "/" + w.image.Digest.Hex() + ".erofs",
		Env:       map[string]string{"PATH": "/bin", "MODE": "manifest"},
		Tools:     []ToolSet{{Server: "files", Descriptors: []byte(`[{"description":"Reads.","input_schema":{"type":"object"},"name":"read"}]`)}},
		Components: []Component{
			{Kind: bundle.KindManifest, Name: "notes", Digest: w.bundle, Role: "author", Principal: "acme", Signatures: signedBy("acme")},
			{Kind: bundle.KindImage, Name: "notes", Digest: w.image.Digest, Role: "author", Principal: "acme", Signatures: signedBy("acme")},
			{Kind: bundle.KindTools, Name: "files", Digest: w.descriptors, Role: "tool", Principal: "files-co", Signatures: signedBy("files-co")},
		},
	}
	for i := range a.Components {
		c := &a.Components[i]
		var ids []bundle.Signed
		for _, s := range c.Signatures {
			if len(s.Key) == 0 || len(s.Payload) == 0 || len(s.Sig) == 0 {
				t.Errorf("%s: signature %+v is not whole", c.Kind, s)
			}
			ids = append(ids, bundle.Signed{KeyID: s.KeyID})
		}
		c.Signatures = ids
	}
	if diff := cmp.Diff(want, a, cmpopts.IgnoreUnexported(Admitted{})); diff != "" {
		t.Error(diff)
	}
	f, err := os.Open(a.ImagePath)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	fsys, err := erofs.Open(f)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"agent", ".omega/shim", "proc", "tmp"} {
		if _, err := fsys.Open(name); err != nil {
			t.Error(err)
		}
	}
	if left, _ := os.ReadDir(l.cfg.Dir); len(left) != 1 {
		t.Errorf("%d files in the image directory, want the image alone", len(left))
	}
}

func TestDeploymentsAreRefused(t *testing.T) {
	var otherBundle = bundle.DigestOf([]byte("another bundle"))
	tests := []struct {
		name   string
		change func(*world) // before anything is published
		want   error
	}{
		{"signed by a stranger", func(w *world) { w.deployer = "stranger" }, bundle.ErrSignature},
		{"signed by an author", func(w *world) { w.deployer = "acme" }, bundle.ErrSignature},
		{"for another platform", func(w *world) { w.deploy.Audience = "other" }, ErrAudience},
		{"for another boot", func(w *world) { w.deploy.Audience = "ffffffffffffffffffffffffffffffff" }, ErrAudience},
		{"expired", func(w *world) { w.deploy.Expires = clock }, ErrExpired},
		{"by a deployer of other agents", func(w *world) { w.trust.Principals[2].Names = []string{"x*"} }, bundle.ErrUnsigned},
		{"by one of two needed deployers", func(w *world) {
			w.trust.Principals[2].Keys = append(w.trust.Principals[2].Keys, w.pem("stranger"))
			w.trust.Principals[2].Threshold = 2
		}, bundle.ErrUnsigned},
		{"of an agent that the policy does not know", func(w *world) { w.manifest.Name = "nobody" }, bundle.ErrUnknown},
		{"of a bundle that nobody signed", func(w *world) { w.signers = nil }, bundle.ErrUnsigned},
		{"of a bundle that a stranger signed", func(w *world) { w.signers = []string{"stranger"} }, bundle.ErrUnsigned},
		{"of a bundle that the deployer signed", func(w *world) { w.signers = []string{"ops"} }, bundle.ErrUnsigned},
		{"of a bundle signed in another role", func(w *world) { w.author.Role = "tool" }, bundle.ErrUnsigned},
		{"of a bundle signed in another name", func(w *world) { w.author.Principal = "files-co" }, bundle.ErrUnsigned},
		{"of a bundle whose author signs other names", func(w *world) { w.trust.Principals[0].Names = []string{"other"} }, nil},
		{"of a bundle whose author has lost the role", func(w *world) { w.trust.Principals[0].Roles = []string{"model"} }, nil},
		{"of a bundle with one of two needed signatures", func(w *world) { w.trust.Principals[0].Threshold = 2 }, bundle.ErrUnsigned},
		{"of a bundle with the same signature twice", func(w *world) {
			w.trust.Principals[0].Threshold, w.signers = 2, []string{"acme", "acme"}
		}, bundle.ErrUnsigned},
		{"of tools that a stranger signed", func(w *world) { w.toolKey = "stranger" }, bundle.ErrUnsigned},
		{"of tools that the author signed", func(w *world) { w.toolKey = "acme" }, bundle.ErrUnsigned},
		{"of tools of an unknown server", func(w *world) { w.trust.Servers = nil }, bundle.ErrUnknown},
		{"of a bundle without the tools that it needs", func(w *world) { w.manifest.Tools = nil }, bundle.ErrUnsigned},
		{"of an image for another processor", func(w *world) { w.config = strings.Replace(w.config, "amd64", "arm64", 1) }, bundle.ErrMalformed},
		{"of an image that climbs", func(w *world) { w.files = []*tar.Header{{Typeflag: tar.TypeReg, Name: "../x"}} }, flatten.ErrEntry},
		{"of an image with a device", func(w *world) { w.files = []*tar.Header{{Typeflag: tar.TypeChar, Name: "dev/mem"}} }, flatten.ErrEntry},
		{"of an image with ten gigabytes of zeros", func(w *world) {
			b := new(bytes.Buffer)
			w.must(tar.NewWriter(b).WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "z", Size: 10 << 30}))
			w.layer = b.Bytes()
		}, flatten.ErrSize},
		{"of an image with too many entries", func(w *world) {
			for i := range 200 {
				w.files = append(w.files, &tar.Header{Typeflag: tar.TypeDir, Name: strings.Repeat("d", i+1)})
			}
		}, flatten.ErrSize},
		{"of an image that is no tar", func(w *world) { w.layer = bytes.Repeat([]byte("no tar"), 500) }, tar.ErrHeader},
		{"of a bundle that is not there", func(w *world) {
			w.answer("manifests/", func(rw http.ResponseWriter, r *http.Request) { http.NotFound(rw, r) })
		}, registry.ErrNotFound},
		{"of a bundle swapped for another", func(w *world) {
			w.answer("manifests/", func(rw http.ResponseWriter, _ *http.Request) {
				m, err := bundle.Artifact(bundle.TypeAgent, bundle.TypeManifest, []byte("{}"), nil, nil)
				w.must(err)
				rw.Write(m)
			})
		}, registry.ErrDigest},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			tt.change(w)
			spoil := w.spoil
			w.spoil = nil
			raw := w.publish()
			w.spoil = spoil
			l := w.loader(nil)
			_, err := l.Admit(t.Context(), raw)
			refused(t, err, tt.want)
			var r *Refusal
			if errors.As(err, &r) && (r.Instance != "notes-1" || r.Bundle != w.bundle || r.Bundle == otherBundle) {
				t.Errorf("refusal names %q, %s", r.Instance, r.Bundle)
			}
			if left, _ := os.ReadDir(l.cfg.Dir); len(left) > 0 {
				t.Errorf("%d files left behind", len(left))
			}
		})
	}
}

func refused(t *testing.T, err, want error) {
	t.Helper()
	var r *Refusal
	if !errors.As(err, &r) {
		t.Fatalf("error %v is no refusal", err)
	}
	if want != nil && !errors.Is(err, want) {
		t.Errorf("error %v, want %v", err, want)
	}
	t.Log(err)
}

func TestSameDeploymentIsAcceptedOnce(t *testing.T) {
	w := newWorld(t)
	raw := w.publish()
	l := w.loader(nil)
	if _, err := l.Admit(t.Context(), raw); err != nil {
		t.Fatal(err)
	}
	_, err := l.Admit(t.Context(), raw)
	refused(t, err, ErrReplayed)
	w.deploy.Instance = "notes-2"
	_, err = l.Admit(t.Context(), w.deployment())
	refused(t, err, ErrReplayed)
	w.deploy.Serial = 2
	if _, err := l.Admit(t.Context(), w.deployment()); err != nil {
		t.Error(err)
	}
}

func TestRegistryThatWasAwayDoesNotBurnTheDeployment(t *testing.T) {
	w := newWorld(t)
	raw := w.publish()
	w.answer("/v2/", func(rw http.ResponseWriter, _ *http.Request) { rw.WriteHeader(http.StatusBadGateway) })
	l := w.loader(nil)
	_, err := l.Admit(t.Context(), raw)
	refused(t, err, registry.ErrUnavailable)
	w.spoil = nil
	if _, err := l.Admit(t.Context(), raw); err != nil {
		t.Error(err)
	}
}

func TestThisBootIsAnAudience(t *testing.T) {
	w := newWorld(t)
	w.deploy.Audience = "00112233445566778899aabbccddeeff"
	if _, err := w.loader(nil).Admit(t.Context(), w.publish()); err != nil {
		t.Error(err)
	}
}

func TestTwoOfTwoKeysAreEnough(t *testing.T) {
	w := newWorld(t)
	w.trust.Principals[0].Threshold, w.signers = 2, []string{"acme", "stranger", "acme-2"}
	if _, err := w.loader(nil).Admit(t.Context(), w.publish()); err != nil {
		t.Error(err)
	}
}

func TestEveryFlippedByteOfADeploymentIsRefused(t *testing.T) {
	w := newWorld(t)
	raw := w.publish()
	l := w.loader(nil)
	for i := range raw {
		bad := bytes.Clone(raw)
		bad[i] ^= 1
		if _, err := l.Admit(t.Context(), bad); err == nil {
			t.Fatalf("byte %d (%q): admitted", i, raw[i])
		}
	}
	for _, bad := range [][]byte{nil, []byte("{}"), []byte("null"), append(bytes.Clone(raw), '{')} {
		if _, err := l.Admit(t.Context(), bad); err == nil {
			t.Errorf("%q: admitted", bad)
		}
	}
}

func TestTamperedBlobsAreRefused(t *testing.T) {
	w := newWorld(t)
	raw := w.publish()
	var paths []string
	w.spoil = func(_ http.ResponseWriter, r *http.Request) bool { paths = append(paths, r.URL.Path); return false }
	if _, err := w.loader(nil).Admit(t.Context(), raw); err != nil {
		t.Fatal(err)
	}
	if len(paths) < 10 {
		t.Fatalf("only %d requests: %q", len(paths), paths)
	}
	for _, path := range paths {
		if strings.Contains(path, "/referrers/") || strings.HasSuffix(path, ".sig") {
			continue // no content: what it names is checked
		}
		w.spoil = nil
		resp, err := http.Get(w.server.URL + path)
		w.must(err)
		good, err := io.ReadAll(resp.Body)
		w.must(err)
		resp.Body.Close()
		bad := bytes.Clone(good)
		bad[len(bad)/2] ^= 1
		w.answer(path, func(rw http.ResponseWriter, _ *http.Request) { rw.Write(bad) })
		if _, err := w.loader(nil).Admit(t.Context(), raw); err == nil {
			t.Errorf("%s: admitted though a byte was changed", path)
		}
	}
}

func TestBadRegistriesGiveClearErrorsInTime(t *testing.T) {
	tests := []struct {
		name   string
		answer http.HandlerFunc
		want   error
	}{
		{"server error", func(rw http.ResponseWriter, _ *http.Request) { rw.WriteHeader(500) }, registry.ErrUnavailable},
		{"hangs up", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, registry.ErrUnavailable},
		{"never answers", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, registry.ErrSlow},
		{"stops in the middle", func(rw http.ResponseWriter, r *http.Request) {
			io.WriteString(rw, "{")
			rw.(http.Flusher).Flush()
			<-r.Context().Done()
		}, registry.ErrSlow},
		{"drips", func(rw http.ResponseWriter, r *http.Request) {
			for r.Context().Err() == nil {
				io.WriteString(rw, " ")
				rw.(http.Flusher).Flush()
				time.Sleep(20 * time.Millisecond)
			}
		}, registry.ErrSlow},
		{"announces more than it sends", func(rw http.ResponseWriter, _ *http.Request) {
			rw.Header().Set("Content-Length", "1000")
			io.WriteString(rw, "{")
		}, registry.ErrUnavailable},
		{"sends without end", func(rw http.ResponseWriter, r *http.Request) {
			for r.Context().Err() == nil {
				rw.Write(make([]byte, 1<<16))
			}
		}, registry.ErrLength},
		{"sends something else", func(rw http.ResponseWriter, _ *http.Request) { io.WriteString(rw, "<html>") }, registry.ErrDigest},
		{"asks for a password", func(rw http.ResponseWriter, _ *http.Request) { rw.WriteHeader(401) }, nil},
		{"redirects for ever", func(rw http.ResponseWriter, r *http.Request) {
			http.Redirect(rw, r, r.URL.Path, http.StatusTemporaryRedirect)
		}, registry.ErrUnavailable},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			raw := w.publish()
			w.answer("/manifests/", tt.answer)
			start := time.Now()
			_, err := w.loader(nil).Admit(t.Context(), raw)
			refused(t, err, tt.want)
			if d := time.Since(start); d > 10*time.Second {
				t.Errorf("took %v", d)
			}
		})
	}
	t.Run("is absent", func(t *testing.T) {
		w := newWorld(t)
		raw := w.publish()
		l := w.loader(nil)
		w.server.Close()
		_, err := l.Admit(t.Context(), raw)
		refused(t, err, registry.ErrUnavailable)
	})
}

func TestLayerOfAnotherLengthIsRefused(t *testing.T) {
	w := newWorld(t)
	raw := w.publish()
	w.answer("/blobs/", func(rw http.ResponseWriter, _ *http.Request) { rw.Write(make([]byte, 5000)) })
	_, err := w.loader(nil).Admit(t.Context(), raw)
	refused(t, err, registry.ErrLength)

	w = newWorld(t)
	raw = w.publish()
	_, err = w.loader(func(c *Config) { c.Bounds.Pulled = 10 }).Admit(t.Context(), raw)
	refused(t, err, registry.ErrLength)
}

func TestRegistryThatLiesAboutReferrersHidesNothing(t *testing.T) {
	w := newWorld(t)
	raw := w.publish()
	w.answer("/referrers/", func(rw http.ResponseWriter, _ *http.Request) {
		io.WriteString(rw, `{"schemaVersion":2,"manifests":[]}`)
	})
	_, err := w.loader(nil).Admit(t.Context(), raw)
	refused(t, err, bundle.ErrUnsigned)
	w.answer("/referrers/", func(rw http.ResponseWriter, _ *http.Request) {
		io.WriteString(rw, `{"schemaVersion":2,"manifests":[`+strings.Repeat(`{"digest":"`+w.bundle.String()+`"},`, 100)+`{}]}`)
	})
	_, err = w.loader(nil).Admit(t.Context(), raw)
	refused(t, err, nil)
}

func TestReferrersMayBeKeptUnderATag(t *testing.T) {
	w := newWorld(t)
	raw := w.publish()
	lists := map[string][]byte{}
	for _, d := range []bundle.Digest{w.bundle, w.descriptors} {
		resp, err := http.Get(w.server.URL + "/v2/" + repository + "/referrers/" + d.String())
		w.must(err)
		lists["sha256-"+d.Hex()], err = io.ReadAll(resp.Body)
		w.must(err)
		resp.Body.Close()
	}
	w.spoil = func(rw http.ResponseWriter, r *http.Request) bool {
		base := r.URL.Path[strings.LastIndex(r.URL.Path, "/")+1:]
		switch {
		case strings.Contains(r.URL.Path, "/referrers/"):
			rw.WriteHeader(http.StatusMethodNotAllowed)
		case lists[base] != nil:
			rw.Write(lists[base])
		default:
			return false
		}
		return true
	}
	if _, err := w.loader(nil).Admit(t.Context(), raw); err != nil {
		t.Error(err)
	}
}

func TestAdmissionEndsWithItsContext(t *testing.T) {
	w := newWorld(t)
	raw := w.publish()
	w.answer("/v2/", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := w.loader(nil).Admit(ctx, raw)
	refused(t, err, context.DeadlineExceeded)
}

func TestWholeAdmissionIsBoundedInTime(t *testing.T) {
	w := newWorld(t)
	raw := w.publish()
	w.answer("/manifests/", func(rw http.ResponseWriter, r *http.Request) {
		for r.Context().Err() == nil { // fast enough for every single bound
			io.WriteString(rw, " ")
			rw.(http.Flusher).Flush()
			time.Sleep(20 * time.Millisecond)
		}
	})
	l := w.loader(func(c *Config) { c.Registry.Timeout, c.Timeout = time.Hour, 200*time.Millisecond })
	_, err := l.Admit(t.Context(), raw)
	refused(t, err, registry.ErrSlow)
}

func TestAParserThatStumblesCostsOneDeployment(t *testing.T) {
	w := newWorld(t)
	raw, stumble := w.publish(), true
	l := w.loader(func(c *Config) {
		c.Now = func() time.Time {
			if stumble {
				panic("index out of range")
			}
			return clock
		}
	})
	_, err := l.Admit(t.Context(), raw)
	refused(t, err, ErrFault)
	stumble = false
	if _, err := l.Admit(t.Context(), raw); err != nil {
		t.Errorf("after that: %v", err)
	}
}

func TestLoaderIsNotMadeFromALaxPolicy(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"no platform":           func(c *Config) { c.Platform = "" },
		"no shim":               func(c *Config) { c.Shim = nil },
		"agent of anybody":      func(c *Config) { c.Trust.Agents = []AgentRule{{Name: "notes"}} },
		"principal twice":       func(c *Config) { c.Trust.Principals = append(c.Trust.Principals, c.Trust.Principals[0]) },
		"broken key":            func(c *Config) { c.Trust.Principals[0].Keys[0] = "x" },
		"mirror with a path":    func(c *Config) { c.Registry.Mirror = "http://127.0.0.1/x" },
		"mirror with a name":    func(c *Config) { c.Registry.Mirror = "http://user@127.0.0.1" },
		"mirror is not the web": func(c *Config) { c.Registry.Mirror = "file:///etc" },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			cfg := w.loader(nil).cfg
			change(&cfg)
			if _, err := New(cfg); err == nil {
				t.Error("made")
			}
		})
	}
}

func TestABundleThatIsRefusedAfterItsSignaturesWereGoodIsNotAdmitted(t *testing.T) {
	w := newWorld(t)
	raw := w.publish()
	l := w.loader(nil)
	var seen int
	l.cfg.Refused = func(d Digest, components []Component) error {
		if d != w.bundle {
			t.Errorf("asked about %s", d)
		}
		seen = len(components)
		return errors.New("revoked")
	}
	if _, err := l.Admit(t.Context(), raw); err == nil || !strings.Contains(err.Error(), "revoked") || seen != 3 {
		t.Errorf("%d components shown: %v", seen, err)
	}
	l.cfg.Refused = func(Digest, []Component) error { return nil }
	if _, err := l.Admit(t.Context(), raw); err != nil {
		t.Errorf("a deployment that was refused is burnt: %v", err)
	}
}
