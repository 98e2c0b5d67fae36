package agentloader

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	"omega/agentloader/bundle"
	"omega/agentloader/layout"
	"omega/agentloader/registry"
)

// onDisk copies everything that was published into a layout on a disk: what the registry answered.
func (w *world) onDisk(raw []byte) []byte {
	w.t.Helper()
	blobs, manifests := map[string][]byte{}, []map[string]any{}
	w.spoil = func(_ http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodGet || r.Header.Get("Recorded") != "" {
			return false
		}
		path, digest, ok := strings.Cut(r.URL.Path, "sha256:")
		if !ok || strings.Contains(path, "referrers") || blobs[digest] != nil {
			return false
		}
		req, err := http.NewRequest(http.MethodGet, w.server.URL+r.URL.Path, nil)
		w.must(err)
		req.Header.Set("Recorded", "1")
		resp, err := http.DefaultClient.Do(req)
		w.must(err)
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		w.must(err)
		blobs[digest] = b
		if strings.Contains(path, "manifests") {
			manifests = append(manifests, map[string]any{"mediaType": bundle.TypeOCIManifest, "digest": "sha256:" + digest, "size": len(b)})
		}
		return false
	}
	if _, err := w.loader(nil).Admit(w.t.Context(), raw); err != nil {
		w.t.Fatal(err)
	}
	w.spoil = nil
	out := new(bytes.Buffer)
	t := tar.NewWriter(out)
	put := func(name string, b []byte) {
		w.must(t.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Size: int64(len(b)), Mode: 0o644}))
		_, err := t.Write(b)
		w.must(err)
	}
	for digest, b := range blobs {
		put("blobs/sha256/"+digest, b)
	}
	index, err := json.Marshal(map[string]any{"schemaVersion": 2, "manifests": manifests})
	w.must(err)
	put("index.json", index)
	w.must(t.Close())
	return out.Bytes()
}

func TestBundlesComeFromADiskWithoutARegistry(t *testing.T) {
	w := newWorld(t)
	w.addModel(weights)
	raw := w.publish()
	disk := w.onDisk(raw)
	w.server.Close()
	fromDisk := func(b []byte) func(*Config) {
		return func(c *Config) {
			c.Registry = registry.Config{Mirror: w.server.URL, Tries: 1}
			c.Layout = bytes.NewReader(b)
		}
	}
	a, err := w.loader(fromDisk(disk)).Admit(t.Context(), raw)
	if err != nil {
		t.Fatal(err)
	}
	if len(a.Files) != 1 || len(a.Tools) != 1 || a.Bundle != w.bundle {
		t.Errorf("admitted %+v", a)
	}
	bad := bytes.Replace(disk, weights[:64], append([]byte("WEIGHTS!"), weights[8:64]...), 1)
	_, err = w.loader(fromDisk(bad)).Admit(t.Context(), raw)
	refused(t, err, layout.ErrDigest)
	_, err = w.loader(fromDisk(disk[:1024])).Admit(t.Context(), raw)
	refused(t, err, registry.ErrUnavailable) // a disk that holds nothing is passed over
}
