package agentloader

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	ggcr "github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"omega/agentloader/bundle"
	"omega/agentloader/registry"
	"omega/internal/verity"
)

const repository = "agents/notes"

var clock = time.Date(2027, 3, 1, 12, 0, 0, 0, time.UTC)

// world is a registry, principals with keys, and a good bundle that a test may spoil before it is published.
type world struct {
	t      *testing.T
	server *httptest.Server
	spoil  func(http.ResponseWriter, *http.Request) bool // answers instead of the registry, if it returns true
	trust  Trust
	keys   map[string]*bundle.PrivateKey

	// The bundle, before publish.
	files    []*tar.Header
	layer    []byte // instead of files
	manifest bundle.Manifest
	config   string
	author   bundle.Vouch
	signers  []string // of the bundle
	toolKey  string   // signs the descriptors
	deployer string
	deploy   bundle.Deployment
	seal     func(layer []byte) (sealed []byte, annotations string) // if the layer is to be encrypted
	model    []byte                                                 // a model file, if it is not empty
	root     bundle.Digest                                          // its verity root, as its maker says

	// After publish.
	bundle, descriptors bundle.Digest
	image               bundle.OCIDescriptor
}

func newWorld(t *testing.T) *world {
	w := &world{t: t, keys: map[string]*bundle.PrivateKey{}, author: bundle.Vouch{Role: "author", Principal: "acme"},
		signers: []string{"acme"}, toolKey: "files-co", deployer: "ops",
		config: `{"architecture":"amd64","os":"linux","config":{"Env":["PATH=/bin","MODE=image"],"WorkingDir":"/work"},"rootfs":{"type":"layers","diff_ids":[]}}`}
	inner := ggcr.New(ggcr.Logger(nopLog()), ggcr.WithReferrersSupport(true))
	w.server = httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if w.spoil == nil || !w.spoil(rw, r) {
			inner.ServeHTTP(rw, r)
		}
	}))
	t.Cleanup(w.server.Close)
	for _, who := range []string{"acme", "acme-2", "files-co", "ops", "stranger"} {
		key, err := bundle.GenerateKey()
		if err != nil {
			t.Fatal(err)
		}
		w.keys[who] = key
	}
	w.trust = Trust{
		Principals: []Principal{
			{Name: "acme", Keys: []string{w.pem("acme"), w.pem("acme-2")}, Roles: []string{"author"}, Names: []string{"notes"}},
			{Name: "files-co", Keys: []string{w.pem("files-co")}, Roles: []string{"tool"}, Names: []string{"files"}},
			{Name: "ops", Keys: []string{w.pem("ops")}, Threshold: 1, Roles: []string{"deployer"}, Names: []string{"n*"}},
		},
		Servers: []Server{{Name: "files", Principal: "files-co"}},
		Agents:  []AgentRule{{Name: "notes", Requires: []Requirement{{Role: "author", Principal: "acme"}, {Role: "tool", Principal: "files-co"}}}},
	}
	w.files = []*tar.Header{{Typeflag: tar.TypeReg, Name: "agent", Mode: 0o755}, {Typeflag: tar.TypeDir, Name: "work", Mode: 0o755}}
	w.manifest = bundle.Manifest{
		Version: bundle.VersionManifest, Name: "notes", Command: []string{"/agent"}, Env: map[string]string{"MODE": "manifest"},
		Tools: []bundle.Tool{{Server: "files"}}, Models: []string{"small"}, Adapters: []bundle.File{}, Peers: []bundle.Peer{},
	}
	w.deploy = bundle.Deployment{Repository: repository, Instance: "notes-1", Audience: "demo", Serial: 1, Expires: clock.Add(time.Hour)}
	return w
}

func (w *world) pem(who string) string {
	text, err := w.keys[who].PublicPEM()
	w.must(err)
	return string(text)
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// publish pushes everything and returns the signed deployment.
func (w *world) publish() []byte {
	w.image = w.pushImage()
	w.manifest.Image = bundle.Blob{Digest: w.image.Digest, Size: w.image.Size}
	if len(w.manifest.Tools) > 0 {
		tools, err := bundle.MarshalDescriptors([]bundle.Descriptor{{Name: "read", Description: "Reads.", InputSchema: []byte(`{"type":"object"}`)}})
		w.must(err)
		d := w.pushArtifact(bundle.TypeTools, bundle.TypeTools, tools)
		w.sign(w.toolKey, d, bundle.Vouch{Role: "tool", Principal: "files-co"})
		w.descriptors, w.manifest.Tools[0].Descriptors = d.Digest, d.Digest
	}
	if len(w.model) > 0 {
		w.manifest.Model = w.pushModel()
	}
	raw, err := w.manifest.Marshal()
	w.must(err)
	d := w.pushArtifact(bundle.TypeAgent, bundle.TypeManifest, raw)
	w.bundle = d.Digest
	for _, who := range w.signers {
		w.sign(who, d, w.author)
	}
	w.deploy.Bundle = d.Digest
	return w.deployment()
}

func (w *world) deployment() []byte {
	raw, err := bundle.SignDeployment(w.keys[w.deployer], w.deploy)
	w.must(err)
	return raw
}

func (w *world) sign(who string, subject bundle.OCIDescriptor, v bundle.Vouch) {
	sig, err := bundle.SignPrincipal(w.keys[who], subject.Digest, v)
	w.must(err)
	m, err := bundle.SignatureManifest(sig, subject)
	w.must(err)
	w.pushBlob(sig)
	w.pushManifest(m)
}

func (w *world) pushImage() bundle.OCIDescriptor {
	layer := w.layer
	if layer == nil {
		layer = tarOf(w.t, w.files)
	}
	zipped := new(bytes.Buffer)
	z := gzip.NewWriter(zipped)
	_, err := z.Write(layer)
	w.must(err)
	w.must(z.Close())
	content, mediaType, notes := zipped.Bytes(), layerGzip, ""
	if w.seal != nil {
		content, notes = w.seal(content)
		mediaType += "+encrypted"
	}
	l, c := w.pushBlob(content), w.pushBlob([]byte(w.config))
	return w.pushManifest(fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":%q,"config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":%q,"size":%d},"layers":[{"mediaType":%q,"digest":%q,"size":%d%s}]}`,
		bundle.TypeOCIManifest, c.Digest, c.Size, mediaType, l.Digest, l.Size, notes))
}

func (w *world) pushArtifact(artifactType, layerType string, layer []byte) bundle.OCIDescriptor {
	w.pushBlob(layer)
	m, err := bundle.Artifact(artifactType, layerType, layer, nil, nil)
	w.must(err)
	return w.pushManifest(m)
}

// addModel gives the bundle a model, and the policy who makes it.
func (w *world) addModel(content []byte) {
	key, err := bundle.GenerateKey()
	w.must(err)
	w.keys["mia"] = key
	w.trust.Principals = append(w.trust.Principals, Principal{Name: "mia", Keys: []string{w.pem("mia")}, Roles: []string{"model"}, Names: []string{"small"}})
	w.trust.Agents[0].Requires = append(w.trust.Agents[0].Requires, Requirement{Role: "model", Principal: "mia"})
	w.model = content
	h := verity.New()
	h.Write(content)
	w.root, err = h.Root()
	w.must(err)
}

func (w *world) pushModel() *bundle.File {
	f := &bundle.File{Name: "small", Size: int64(len(w.model)), Root: w.root}
	m, config, err := bundle.FileArtifact(bundle.FileConfig{Kind: "model", Name: f.Name, Size: f.Size, Root: f.Root}, bundle.DigestOf(w.model))
	w.must(err)
	w.pushBlob(config)
	w.pushBlob(w.model)
	d := w.pushManifest(m)
	w.sign("mia", d, bundle.Vouch{Role: "model", Principal: "mia"})
	f.Digest = d.Digest
	return f
}

func (w *world) repo() name.Repository {
	r, err := name.NewRepository(strings.TrimPrefix(w.server.URL, "http://")+"/"+repository, name.Insecure)
	w.must(err)
	return r
}

func (w *world) pushBlob(b []byte) bundle.OCIDescriptor {
	w.must(remote.WriteLayer(w.repo(), static.NewLayer(b, types.OCILayer)))
	return bundle.OCIDescriptor{MediaType: "x", Digest: bundle.DigestOf(b), Size: int64(len(b))}
}

func (w *world) pushManifest(b []byte) bundle.OCIDescriptor {
	d := bundle.OCIDescriptor{MediaType: bundle.TypeOCIManifest, Digest: bundle.DigestOf(b), Size: int64(len(b))}
	w.pushBlob(bundle.EmptyConfig())
	w.must(remote.Put(w.repo().Digest(d.Digest.String()), rawManifest(b)))
	return d
}

// rawManifest is a manifest that is pushed as it is.
type rawManifest []byte

func (m rawManifest) RawManifest() ([]byte, error)      { return m, nil }
func (rawManifest) MediaType() (types.MediaType, error) { return types.OCIManifestSchema1, nil }
func (w *world) answer(path string, f http.HandlerFunc) { w.answerWhen(contains(path), f) }
func contains(path string) func(r *http.Request) bool {
	return func(r *http.Request) bool { return strings.Contains(r.URL.Path, path) }
}

func (w *world) answerWhen(match func(*http.Request) bool, f http.HandlerFunc) {
	w.spoil = func(rw http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodGet || !match(r) {
			return false
		}
		f(rw, r)
		return true
	}
}

func (w *world) loader(change func(*Config)) *Loader {
	cfg := Config{
		Platform: "demo", BootID: "00112233445566778899aabbccddeeff", Trust: w.trust, Dir: w.t.TempDir(), Shim: []byte("shim"),
		Registry: registry.Config{Mirror: w.server.URL, Idle: 300 * time.Millisecond, Timeout: 2 * time.Second, Tries: 3, Backoff: time.Millisecond},
		Bounds:   Bounds{Pulled: 1 << 20, Unpacked: 1 << 20, Entries: 100},
		Now:      func() time.Time { return clock },
		Log:      slog.New(slog.DiscardHandler),
	}
	if change != nil {
		change(&cfg)
	}
	l, err := New(cfg)
	w.must(err)
	return l
}

func tarOf(t testing.TB, headers []*tar.Header) []byte {
	t.Helper()
	b := new(bytes.Buffer)
	w := tar.NewWriter(b)
	for _, h := range headers {
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}
