package bundle

import (
	"bytes"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func newKey(t testing.TB) (*PrivateKey, Key) {
	t.Helper()
	key, err := GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	pub, err := key.Public()
	if err != nil {
		t.Fatal(err)
	}
	return key, pub
}

func TestKeysSurvivePEM(t *testing.T) {
	key, pub := newKey(t)
	private, err := key.MarshalPEM()
	if err != nil {
		t.Fatal(err)
	}
	public, err := key.PublicPEM()
	if err != nil {
		t.Fatal(err)
	}
	again, err := ParsePrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	if !again.key.Equal(key.key) {
		t.Error("private key changed")
	}
	parsed, err := ParseKey(public)
	if err != nil {
		t.Fatal(err)
	}
	if parsed.ID != pub.ID {
		t.Errorf("key id %s, want %s", parsed.ID, pub.ID)
	}
	for name, text := range map[string][]byte{
		"empty":        nil,
		"private":      private,
		"trailing":     append(bytes.Clone(public), "x"...),
		"two keys":     append(bytes.Clone(public), public...),
		"not PEM":      []byte("hello"),
		"Ed25519 key":  []byte(ed25519PEM),
		"broken bytes": bytes.Replace(public, []byte("MFkw"), []byte("MFkx"), 1),
	} {
		if _, err := ParseKey(text); !errors.Is(err, ErrKey) {
			t.Errorf("%s: error %v, want ErrKey", name, err)
		}
	}
}

const ed25519PEM = `-----BEGIN PUBLIC KEY-----
MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=
-----END PUBLIC KEY-----
`

func TestBundleSignatureIsBelievedOnlyForItsKeyAndSubject(t *testing.T) {
	key, pub := newKey(t)
	_, other := newKey(t)
	subject := DigestOf([]byte("subject"))
	good, err := SignPrincipal(key, subject, Vouch{Role: "author", Principal: "acme"})
	if err != nil {
		t.Fatal(err)
	}
	deployment, err := SignDeployment(key, Deployment{Bundle: subject, Repository: "a/b", Instance: "i", Audience: "p", Serial: 1, Expires: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	var asBundle sigstoreBundle
	if err := json.Unmarshal(good, &asBundle); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(deployment, asBundle.Envelope); err != nil {
		t.Fatal(err)
	}
	otherKind, err := json.Marshal(asBundle)
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name   string
		raw    []byte
		digest Digest
		keys   []Key
		want   error
	}{
		{"signed by the key", good, subject, []Key{other, pub}, nil},
		{"no key", good, subject, nil, ErrSignature},
		{"zero key", good, subject, []Key{{ID: pub.ID}}, ErrSignature},
		{"other key", good, subject, []Key{other}, ErrSignature},
		{"other subject", good, DigestOf([]byte("else")), []Key{pub}, ErrSubject},
		{"statement of another kind", otherKind, subject, []Key{pub}, ErrPredicate},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := VerifyBundle(tt.raw, tt.digest, tt.keys)
			if !errors.Is(err, tt.want) {
				t.Fatalf("error %v, want %v", err, tt.want)
			}
			if tt.want == nil && (got.Vouch != Vouch{"author", "acme"} || got.KeyID != pub.ID || !bytes.Equal(got.Key, pub.der) || !pub.verify(PAE(TypePayload, got.Payload), got.Sig)) {
				t.Errorf("got %+v", got)
			}
		})
	}
}

// Every changed byte of the signed payload or the signature must be noticed.
func TestBundleSignatureCoversEveryPayloadByte(t *testing.T) {
	key, pub := newKey(t)
	subject := DigestOf([]byte("subject"))
	good, err := SignPrincipal(key, subject, Vouch{Role: "tool", Principal: "files"})
	if err != nil {
		t.Fatal(err)
	}
	for i := range good {
		bad := bytes.Clone(good)
		bad[i] ^= 1
		got, err := VerifyBundle(bad, subject, []Key{pub})
		if err == nil && (got.Vouch != Vouch{"tool", "files"} || got.KeyID != pub.ID) {
			t.Fatalf("byte %d flipped: got %+v", i, got)
		}
		// Only the key hint, which is never believed, may change unnoticed.
		if err == nil && !bytes.Contains(good[max(0, i-60):i+1], []byte(`"hint":"`)) {
			t.Fatalf("byte %d flipped (%q) went unnoticed", i, good[max(0, i-10):i+1])
		}
	}
}

func TestDeploymentRoundTripsAndIsStrict(t *testing.T) {
	key, pub := newKey(t)
	d := Deployment{
		Bundle: DigestOf([]byte("b")), Repository: "registry.example:5000/agents/notes", Instance: "notes-1",
		Audience: "demo", Serial: 7, Expires: time.Date(2027, 1, 2, 3, 4, 5, 6, time.UTC),
	}
	raw, err := SignDeployment(key, d)
	if err != nil {
		t.Fatal(err)
	}
	got, ids, err := VerifyDeployment(raw, []Key{pub})
	if err != nil {
		t.Fatal(err)
	}
	d.Expires = d.Expires.Truncate(time.Second)
	if diff := cmp.Diff(&d, got); diff != "" || !slices.Equal(ids, []string{pub.ID}) {
		t.Errorf("keys %s, deployment changed:\n%s", ids, diff)
	}
	for name, change := range map[string]func(*Deployment){
		"no instance":          func(d *Deployment) { d.Instance = "" },
		"instance with slash":  func(d *Deployment) { d.Instance = "a/b" },
		"repository climbs":    func(d *Deployment) { d.Repository = "a/../b" },
		"repository is a URL":  func(d *Deployment) { d.Repository = "http://x/y" },
		"repository has query": func(d *Deployment) { d.Repository = "a/b?x" },
		"no audience":          func(d *Deployment) { d.Audience = "" },
		"no serial":            func(d *Deployment) { d.Serial = 0 },
		"serial too large":     func(d *Deployment) { d.Serial = 1<<53 + 1 },
		"no expiry":            func(d *Deployment) { d.Expires = time.Time{} },
		"no bundle":            func(d *Deployment) { d.Bundle = Digest{} },
	} {
		bad := d
		change(&bad)
		if _, err := SignDeployment(key, bad); err == nil {
			t.Errorf("%s: signed", name)
		}
	}
	if _, _, err := VerifyDeployment(append(raw, ' ', '{', '}'), []Key{pub}); err == nil {
		t.Error("trailing bytes accepted")
	}
}

func goodManifest() Manifest {
	return Manifest{
		Version: VersionManifest, Name: "notes", Image: Blob{DigestOf([]byte("image")), 500},
		Command: []string{"/agent", "-v"}, Env: map[string]string{"MODE": "demo"},
		Tools:  []Tool{{"files", DigestOf([]byte("tools"))}},
		Models: []string{"small"}, Limits: Limits{MemoryBytes: 1 << 28, CPUMillis: 500, Processes: 32},
		Adapters: []File{}, Peers: []Peer{},
	}
}

func TestManifestRoundTripsAndIsStrict(t *testing.T) {
	m := goodManifest()
	raw, err := m.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	got, err := ParseManifest(raw)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(&m, got); diff != "" {
		t.Errorf("manifest changed:\n%s", diff)
	}
	m.Restart = &Restart{When: RestartFailure, Max: 3}
	if raw, err = m.Marshal(); err != nil {
		t.Fatal(err)
	}
	if got, err := ParseManifest(raw); err != nil || got.Restart == nil || *got.Restart != *m.Restart {
		t.Errorf("restart: %+v, %v", got, err)
	}
	for name, change := range map[string]func(*Manifest){
		"version":              func(m *Manifest) { m.Version = "omega/agent/v2" },
		"name":                 func(m *Manifest) { m.Name = "../x" },
		"no image":             func(m *Manifest) { m.Image = Blob{} },
		"no command":           func(m *Manifest) { m.Command = nil },
		"NUL in command":       func(m *Manifest) { m.Command = []string{"a\x00b"} },
		"environment name":     func(m *Manifest) { m.Env = map[string]string{"A=B": "c"} },
		"server twice":         func(m *Manifest) { m.Tools = append(m.Tools, m.Tools[0]) },
		"tool not pinned":      func(m *Manifest) { m.Tools[0].Descriptors = Digest{} },
		"negative memory":      func(m *Manifest) { m.Limits.MemoryBytes = -1 },
		"model without a root": func(m *Manifest) { m.Model = &File{Name: "small", Digest: DigestOf(nil), Size: 1} },
		"model without bytes":  func(m *Manifest) { m.Model = &File{"small", DigestOf(nil), 0, DigestOf(nil)} },
		"model that climbs":    func(m *Manifest) { m.Model = &File{"../small", DigestOf(nil), 1, DigestOf(nil)} },
		"adapter of no model":  func(m *Manifest) { m.Adapters = []File{{"tuned", DigestOf(nil), 1, DigestOf(nil)}} },
		"data twice": func(m *Manifest) {
			m.Data = []File{{"books", DigestOf(nil), 1, DigestOf(nil)}, {"books", DigestOf(nil), 1, DigestOf(nil)}}
		},
		"too many processes":      func(m *Manifest) { m.Limits.Processes = 1 << 20 },
		"restart without a cap":   func(m *Manifest) { m.Restart = &Restart{When: RestartAlways} },
		"restart too often":       func(m *Manifest) { m.Restart = &Restart{RestartFailure, 1 << 20} },
		"restart on another word": func(m *Manifest) { m.Restart = &Restart{"sometimes", 1} },
	} {
		bad := goodManifest()
		change(&bad)
		if _, err := bad.Marshal(); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	for name, text := range map[string]string{
		"unknown field": strings.Replace(string(raw), `"env"`, `"extra":1,"env"`, 1),
		"trailing":      string(raw) + "{}",
		"duplicate":     strings.Replace(string(raw), `"name":`, `"name":"x","name":`, 1),
		"short digest":  strings.Replace(string(raw), "sha256:", "sha256:00", 1),
		"too long":      string(raw) + strings.Repeat(" ", MaxManifest),
	} {
		if _, err := ParseManifest([]byte(text)); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestDescriptorsArePinnedOneByOne(t *testing.T) {
	schema := json.RawMessage(`{"type":"object"}`)
	if _, err := MarshalDescriptors([]Descriptor{{"read", "Reads.", schema}, {"write", "", schema}}); err != nil {
		t.Error(err)
	}
	for name, list := range map[string][]Descriptor{
		"none":         {},
		"no name":      {{"", "x", schema}},
		"twice":        {{"a", "x", schema}, {"a", "y", schema}},
		"schema list":  {{"a", "x", json.RawMessage(`[]`)}},
		"schema null":  {{"a", "x", json.RawMessage(`null`)}},
		"schema empty": {{"a", "x", nil}},
	} {
		if _, err := MarshalDescriptors(list); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestArtifactIsAReferrer(t *testing.T) {
	subject := OCIDescriptor{MediaType: TypeOCIManifest, Digest: DigestOf([]byte("m")), Size: 1}
	raw, err := SignatureManifest([]byte("{}"), subject)
	if err != nil {
		t.Fatal(err)
	}
	m, err := ParseOCIManifest(raw)
	if err != nil {
		t.Fatal(err)
	}
	if m.Subject == nil || m.Subject.Digest != subject.Digest {
		t.Errorf("subject %+v", m.Subject)
	}
	if _, err := m.Layer(TypeSigstore, TypeSigstore); err != nil {
		t.Error(err)
	}
	if _, err := m.Layer(TypeAgent, TypeManifest); err == nil {
		t.Error("a signature passed for an agent")
	}
}
