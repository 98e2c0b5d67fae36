package bundle

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
)

// shelf is a Source in memory that gives what was put in it, as it was put.
type shelf struct {
	manifests map[Digest][]byte
	blobs     map[Digest][]byte
	refers    map[Digest][]Digest
}

func newShelf() *shelf {
	return &shelf{map[Digest][]byte{}, map[Digest][]byte{}, map[Digest][]Digest{}}
}

var errMissing = errors.New("not on the shelf")

func (s *shelf) Manifest(_ context.Context, d Digest, _ int64) ([]byte, error) {
	if b, ok := s.manifests[d]; ok {
		return b, nil
	}
	return nil, fmt.Errorf("%s: %w", d, errMissing)
}

func (s *shelf) Blob(_ context.Context, d OCIDescriptor, _ int64) ([]byte, error) {
	if b, ok := s.blobs[d.Digest]; ok {
		return b, nil
	}
	return nil, fmt.Errorf("%s: %w", d.Digest, errMissing)
}

func (s *shelf) Referrers(_ context.Context, d Digest) ([]Digest, error) { return s.refers[d], nil }

// put shelves a manifest with its blobs.
func (s *shelf) put(manifest []byte, blobs ...[]byte) Digest {
	for _, b := range blobs {
		s.blobs[DigestOf(b)] = b
	}
	s.manifests[DigestOf(manifest)] = manifest
	return DigestOf(manifest)
}

// sign makes a principal's signature a referrer of d.
func (s *shelf) sign(t *testing.T, key *PrivateKey, d Digest, v Vouch) {
	t.Helper()
	sig, err := SignPrincipal(key, d, v)
	if err != nil {
		t.Fatal(err)
	}
	m, err := SignatureManifest(sig, OCIDescriptor{MediaType: TypeOCIManifest, Digest: d, Size: int64(len(s.manifests[d]))})
	if err != nil {
		t.Fatal(err)
	}
	s.refers[d] = append(s.refers[d], s.put(m, sig))
}

// workshop makes bundles whose author and model makers sign.
type workshop struct {
	*testing.T
	shelf *shelf
	keys  map[string]*PrivateKey
	trust Trust
	files map[string]File // by name, as the manifest names them
}

func newWorkshop(t *testing.T) *workshop {
	w := &workshop{T: t, shelf: newShelf(), keys: map[string]*PrivateKey{}, files: map[string]File{}}
	principal := func(name, role string, names ...string) {
		key, _ := newKey(t)
		pem, err := key.PublicPEM()
		if err != nil {
			t.Fatal(err)
		}
		w.keys[name] = key
		w.trust.Principals = append(w.trust.Principals, Principal{Name: name, Keys: []string{string(pem)}, Roles: []string{role}, Names: names})
	}
	principal("acme", "author", "*")
	principal("mia", RoleModel, "small", "large")
	principal("ada", RoleAdapter, "tuned", "other")
	principal("dan", RoleData, "books")
	w.trust.Agents = []AgentRule{
		{Name: "one", Requires: []Requirement{{"author", "acme"}, {RoleModel, "mia"}, {RoleAdapter, "ada"}, {RoleData, "dan"}}},
		{Name: "two", Requires: []Requirement{{"author", "acme"}, {RoleModel, "mia"}}},
		{Name: "none", Requires: []Requirement{{"author", "acme"}}},
	}
	small := w.file("mia", KindModel, "small", nil)
	large := w.file("mia", KindModel, "large", nil)
	w.file("ada", KindAdapter, "tuned", &small)
	w.file("ada", KindAdapter, "other", &large)
	w.file("dan", KindData, "books", nil)
	return w
}

// file shelves and signs the artifact of a file.
func (w *workshop) file(who, kind, name string, base *Digest) Digest {
	w.Helper()
	content := []byte("content of " + name)
	f := File{Name: name, Size: int64(len(content)), Root: DigestOf([]byte("root of " + name))}
	m, config, err := FileArtifact(FileConfig{Kind: kind, Name: name, Size: f.Size, Root: f.Root, Base: base}, DigestOf(content))
	if err != nil {
		w.Fatal(err)
	}
	f.Digest = w.shelf.put(m, config, content)
	w.shelf.sign(w.T, w.keys[who], f.Digest, Vouch{kind, who})
	w.files[name] = f
	return f.Digest
}

// bundle shelves an agent manifest that its author has signed.
func (w *workshop) bundle(m Manifest) Digest {
	w.Helper()
	raw, err := m.Marshal()
	if err != nil {
		w.Fatal(err)
	}
	a, err := Artifact(TypeAgent, TypeManifest, raw, nil, nil)
	if err != nil {
		w.Fatal(err)
	}
	d := w.shelf.put(a, raw)
	w.shelf.sign(w.T, w.keys["acme"], d, Vouch{"author", "acme"})
	return d
}

func (w *workshop) named(name string) *File { f := w.files[name]; return &f }

func (w *workshop) check(m Manifest) (*Checked, error) {
	w.Helper()
	c, err := NewChecker(w.trust)
	if err != nil {
		w.Fatal(err)
	}
	return c.Check(w.Context(), w.shelf, w.bundle(m))
}

func agentOf(name string, model *File, adapters, data []File) Manifest {
	m := goodManifest()
	m.Name, m.Tools, m.Models, m.Model, m.Data = name, nil, nil, model, data
	m.Adapters = append([]File{}, adapters...)
	return m
}

func TestFilesAreComponentsWithTheirOwnPrincipals(t *testing.T) {
	w := newWorkshop(t)
	m := agentOf("one", w.named("small"), []File{w.files["tuned"]}, []File{w.files["books"]})
	got, err := w.check(m)
	if err != nil {
		t.Fatal(err)
	}
	var said []string
	for _, c := range got.Components {
		said = append(said, fmt.Sprint(c.Kind, " ", c.Name, " ", c.Role, " ", c.Principal, " ", len(c.Signatures), " ", c.Digest == w.files[c.Name].Digest))
	}
	want := "[manifest one author acme 1 false image one author acme 1 false model small model mia 1 true adapter tuned adapter ada 1 true data books data dan 1 true]"
	if fmt.Sprint(said) != want {
		t.Errorf("components %q\nwant %s", said, want)
	}
	if len(got.Files) != 3 || got.Files[1].Kind != KindAdapter || got.Files[1].Blob.Digest != DigestOf([]byte("content of tuned")) {
		t.Errorf("files %+v", got.Files)
	}
}

func TestFilesOfAnotherAgentAreRefused(t *testing.T) {
	w := newWorkshop(t)
	small, large, tuned, other, books := w.named("small"), w.named("large"), w.files["tuned"], w.files["other"], w.files["books"]
	renamed := *large
	renamed.Name = "small"
	otherRoot := *small
	otherRoot.Root = large.Root
	shorter := *small
	shorter.Size--
	renamedTuned := tuned
	renamedTuned.Name = "other"
	tests := []struct {
		name string
		m    Manifest
		want error
		says string
	}{
		{"a model under another's name", agentOf("two", &renamed, nil, nil), ErrSwapped, `the bundle's model "small" is the model "large"`},
		{"a model with another's root", agentOf("two", &otherRoot, nil, nil), ErrSwapped, "verity root"},
		{"a model of another size", agentOf("two", &shorter, nil, nil), ErrSwapped, "verity root"},
		{"an adapter in a model's place", agentOf("two", &tuned, nil, nil), ErrSwapped, `model "tuned" is the adapter "tuned"`},
		{"data in an adapter's place", agentOf("one", small, []File{books}, []File{books}), ErrSwapped, `adapter "books" is the data "books"`},
		{"an adapter of another model", agentOf("one", small, []File{other}, []File{books}), ErrSwapped, "was made for the model"},
		{"an adapter under another's name", agentOf("one", small, []File{renamedTuned}, []File{books}), ErrSwapped, `adapter "other" is the adapter "tuned"`},
		{"a model that the policy does not ask for", agentOf("none", small, nil, nil), ErrUnknown, "asks for no model"},
		{"an adapter that the policy does not ask for", agentOf("two", small, []File{tuned}, nil), ErrUnknown, "asks for no adapter"},
		{"no model where the policy asks for one", agentOf("two", nil, nil, nil), ErrUnsigned, "requires a model of mia"},
		{"no data where the policy asks for some", agentOf("one", small, []File{tuned}, nil), ErrUnsigned, "requires a data of dan"},
		{"a model that is not there", agentOf("two", &File{"small", DigestOf(nil), 1, DigestOf(nil)}, nil, nil), errMissing, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := w.check(tt.m)
			if !errors.Is(err, tt.want) || !contains(err, tt.says) {
				t.Errorf("error %v, want %v with %q", err, tt.want, tt.says)
			}
		})
	}
}

func TestFilesNeedTheirOwnSignature(t *testing.T) {
	tests := []struct {
		name, who string
		vouch     Vouch
	}{
		{"the author's", "acme", Vouch{"author", "acme"}},
		{"the author's as a model maker", "acme", Vouch{RoleModel, "acme"}},
		{"the author's in the maker's name", "acme", Vouch{RoleModel, "mia"}},
		{"an adapter maker's", "ada", Vouch{RoleAdapter, "ada"}},
		{"the maker's in another role", "mia", Vouch{RoleAdapter, "mia"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorkshop(t)
			d := w.files["small"].Digest
			delete(w.shelf.refers, d)
			w.shelf.sign(t, w.keys[tt.who], d, tt.vouch)
			if _, err := w.check(agentOf("two", w.named("small"), nil, nil)); !errors.Is(err, ErrUnsigned) {
				t.Errorf("error %v, want ErrUnsigned", err)
			}
		})
	}
	w := newWorkshop(t)
	w.trust.Principals[1].Names = []string{"large"}
	if _, err := w.check(agentOf("two", w.named("small"), nil, nil)); err == nil {
		t.Error("a maker who may not sign for that name was believed")
	}
}

func contains(err error, words string) bool {
	return err != nil && strings.Contains(err.Error(), words)
}

func FuzzParseFileConfig(f *testing.F) {
	f.Add([]byte(`{"kind":"model","name":"small","root":"sha256:` + DigestOf(nil).Hex() + `","size":1,"version":"omega/file/v1"}`))
	f.Add([]byte(`{}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := parseFileConfig(b)
		if err != nil {
			return
		}
		_, again, err := FileArtifact(*c, DigestOf(nil))
		if err != nil {
			t.Fatalf("parsed but not written: %v", err)
		}
		if _, err := parseFileConfig(again); err != nil {
			t.Fatal(err)
		}
	})
}
