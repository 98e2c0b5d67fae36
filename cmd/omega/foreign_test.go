package main

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"

	"omega/agentloader/bundle"
	"omega/agentloader/ocicrypt"
	"omega/images"
	"omega/internal/cache"
	"omega/internal/skip"
)

// foreign is a program of others, run with a home and a folder of its own.
type foreign struct {
	t       *testing.T
	program string
	dir     string
}

// needForeign finds a program: among the pinned ones, or on the machine.
func needForeign(t *testing.T, p *packer, name string) *foreign {
	t.Helper()
	program, err := exec.LookPath(name)
	for _, pinned := range images.ForeignTools() {
		if pinned == name {
			c, e := cache.Open("")
			if e != nil {
				t.Fatal(e)
			}
			program, err = images.Foreign(t.Context(), c, nil, name)
		}
	}
	if err != nil {
		skip.Missing(t, "%s is not there; `omega tools --tests` brings it: %v", name, err)
	}
	return &foreign{t: t, program: program, dir: p.dir}
}

// run returns what the program said and whether it was content.
func (f *foreign) run(args ...string) (string, bool) {
	f.t.Helper()
	cmd := exec.CommandContext(f.t.Context(), f.program, args...)
	cmd.Dir = f.dir
	cmd.Env = []string{"HOME=" + f.dir, "PATH=/usr/bin:/bin", "COSIGN_PASSWORD=", "TMPDIR=" + f.dir, "XDG_RUNTIME_DIR=" + f.dir}
	out, err := cmd.CombinedOutput()
	return string(out), err == nil
}

func (f *foreign) ok(args ...string) string {
	f.t.Helper()
	out, ok := f.run(args...)
	if !ok {
		f.t.Fatalf("%s %q: %s", f.program, args, out)
	}
	return out
}

// signedBundle is a bundle of the packer that everybody signed.
func (p *packer) signedBundle() (agent, tools string) {
	agent, tools = p.pack()
	p.sign("author", "author", "acme", agent)
	p.sign("files", "tool", "files-co", tools)
	return agent, tools
}

func (p *packer) verifies(ref string) (string, bool) {
	p.t.Helper()
	code, out, words := p.omega("bundle", "verify", "--policy", p.path("policy.yaml"), ref)
	return out + words, code == exitOK
}

func TestCosignAndOmegaReadOneAnothersSignatures(t *testing.T) {
	p := newPacker(t)
	cosign := needForeign(t, p, "cosign")
	const kind = "https://omega.invalid/principal/v1"
	agent, tools := p.pack()
	p.sign("files", "tool", "files-co", tools)
	p.write("vouch.json", `{"role":"author","principal":"acme"}`)
	for _, who := range []string{"author", "stranger"} {
		cosign.ok("import-key-pair", "--key", p.path(who), "--output-key-prefix", who+"-cosign")
	}
	attest := func(who string) {
		cosign.ok("attest", "--key", who+"-cosign.key", "--predicate", "vouch.json", "--type", kind,
			"--tlog-upload=false", "--use-signing-config=false", "--allow-http-registry", "--yes", agent)
	}
	attest("stranger")
	if said, ok := p.verifies(agent); ok {
		t.Errorf("a stranger's signature, made by cosign, is believed: %s", said)
	}
	attest("author")
	if said, ok := p.verifies(agent); !ok {
		t.Errorf("the author's signature, made by cosign, is not believed: %s", said)
	}
	verify := func(key, ref string) (string, bool) {
		return cosign.run("verify-attestation", "--key", p.path(key+".pub"), "--type", kind, "--insecure-ignore-tlog", "--allow-http-registry", ref)
	}
	if said, ok := verify("files", tools); !ok {
		t.Errorf("cosign does not believe what omega signed: %s", said)
	}
	if said, ok := verify("stranger", tools); ok {
		t.Errorf("cosign believes it of another key: %s", said)
	}
}

func TestCosignsOlderSignaturesCountIfTheySayAsWhom(t *testing.T) {
	p := newPacker(t)
	cosign := needForeign(t, p, "cosign")
	agent, tools := p.pack()
	p.sign("files", "tool", "files-co", tools)
	for _, who := range []string{"author", "stranger"} {
		cosign.ok("import-key-pair", "--key", p.path(who), "--output-key-prefix", who+"-cosign")
	}
	for _, tt := range []struct {
		name, who string
		notes     []string
		ok        bool
		says      string
	}{
		{"a stranger's", "stranger", []string{"-a", "role=author", "-a", "principal=acme"}, false, "no signature by a trusted key"},
		{"without a role", "author", nil, false, ""},
		{"in another role", "author", []string{"-a", "role=tool", "-a", "principal=acme"}, false, ""},
		{"the author's", "author", []string{"-a", "role=author", "-a", "principal=acme"}, true, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			args := append([]string{"sign", "--key", tt.who + "-cosign.key", "--new-bundle-format=false", "--use-signing-config=false",
				"--tlog-upload=false", "--allow-http-registry", "--yes"}, tt.notes...)
			cosign.ok(append(args, agent)...)
			said, ok := p.verifies(agent)
			if ok != tt.ok || !strings.Contains(said, tt.says) {
				t.Errorf("verified %v, want %v with %q: %s", ok, tt.ok, tt.says, said)
			}
		})
	}
}

func TestForeignToolsCopyBundles(t *testing.T) {
	from, to := newPacker(t), newPacker(t)
	agent, tools := from.signedBundle()
	to.write("policy.yaml", read(t, from.path("policy.yaml"))) // and its keys
	for _, key := range []string{"author.pub", "files.pub"} {
		to.write(key, read(t, from.path(key)))
	}
	_, digest, _ := strings.Cut(agent, "@")
	oras := needForeign(t, from, "oras")
	for _, ref := range []string{agent, tools} {
		_, d, _ := strings.Cut(ref, "@")
		oras.ok("copy", "--recursive", "--from-plain-http", "--to-plain-http", ref, to.repo+":oras-"+d[7:19])
	}
	if said, ok := to.verifies(to.repo + "@" + digest); !ok {
		t.Errorf("oras: %s", said)
	}
	image := imageIn(t, from, agent)
	crane := needForeign(t, from, "crane")
	crane.ok("copy", "--insecure", from.repo+"@"+image, to.repo+":image")
	crane.ok("copy", "--insecure", agent, to.repo+":agent")
	if got := strings.TrimSpace(crane.ok("digest", "--insecure", to.repo+":agent")); got != digest {
		t.Errorf("crane made another bundle of it: %s, not %s", got, digest)
	}
	skopeo := needForeign(t, from, "skopeo")
	skopeo.ok("--insecure-policy", "copy", "--preserve-digests", "--src-tls-verify=false", "--dest-tls-verify=false",
		"docker://"+from.repo+"@"+image, "docker://"+to.repo+":skopeo")
	if got := strings.TrimSpace(crane.ok("digest", "--insecure", to.repo+":skopeo")); got != image {
		t.Errorf("skopeo made another image of it: %s, not %s", got, image)
	}
}

func TestForeignToolsPushBundles(t *testing.T) {
	p := newPacker(t)
	agent, _ := p.signedBundle()
	// The same agent manifest, pushed by hand with oras, is a bundle of its own.
	oras := needForeign(t, p, "oras")
	crane := needForeign(t, p, "crane")
	layer := strings.Split(crane.ok("manifest", "--insecure", agent), `"layers":[{"digest":"`)[1][:71]
	p.write("pushed.json", crane.ok("blob", "--insecure", p.repo+"@"+layer))
	oras.ok("push", "--plain-http", "--artifact-type", "application/vnd.omega.agent.v1+json", "--disable-path-validation", p.repo+":pushed",
		"pushed.json:application/vnd.omega.agent.manifest.v1+json")
	pushed := p.repo + "@" + strings.TrimSpace(crane.ok("digest", "--insecure", p.repo+":pushed"))
	if said, ok := p.verifies(pushed); ok {
		t.Errorf("nobody signed that: %s", said)
	}
	p.sign("author", "author", "acme", pushed)
	if said, ok := p.verifies(pushed); !ok {
		t.Errorf("oras: %s", said)
	}
	// An image that skopeo keeps in a layout is packed as it is.
	skopeo := needForeign(t, p, "skopeo")
	image := imageIn(t, p, agent)
	skopeo.ok("--insecure-policy", "copy", "--preserve-digests", "--src-tls-verify=false", "docker://"+p.repo+"@"+image, "oci:"+p.path("kept")+":latest")
	again := p.ok("bundle", "pack", "--manifest", p.path("agent.json"), "--image", p.path("kept"), "--to", p.repo)
	if again != agent {
		t.Errorf("from skopeo's layout comes %s, not %s", again, agent)
	}
}

var foreignKey = bytes.Repeat([]byte{5}, 32)

const foreignKeyID = "kbs:///agents/layer/notes"

// TestLayersThatSkopeoEncryptedAreOpened lets skopeo encrypt for an RSA key, takes what it wrapped out of the JWE,
// and wraps that as a key broker's. Cipher, options and annotations are skopeo's.
func TestLayersThatSkopeoEncryptedAreOpened(t *testing.T) {
	p := newPacker(t)
	agent, _ := p.signedBundle()
	skopeo, crane := needForeign(t, p, "skopeo"), needForeign(t, p, "crane")
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	p.write("rsa.pub", string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})))
	image := imageIn(t, p, agent)
	skopeo.ok("--insecure-policy", "copy", "--src-tls-verify=false", "--dest-tls-verify=false",
		"--encryption-key", "jwe:"+p.path("rsa.pub"), "docker://"+p.repo+"@"+image, "docker://"+p.repo+":sealed")
	layer := func(ref string) bundle.OCIDescriptor {
		t.Helper()
		m, err := bundle.ParseOCIManifest([]byte(crane.ok("manifest", "--insecure", ref)))
		if err != nil || len(m.Layers) != 1 {
			t.Fatalf("%s: %v, %+v", ref, err, m)
		}
		return m.Layers[0]
	}
	plain, sealed := layer(p.repo+"@"+image), layer(p.repo+":sealed")
	if sealed.MediaType != plain.MediaType+ocicrypt.Suffix || sealed.Digest == plain.Digest {
		t.Fatalf("skopeo encrypted nothing: %+v", sealed)
	}
	const jwe, provider = "org.opencontainers.image.enc.keys.jwe", "org.opencontainers.image.enc.keys.provider.attestation-agent"
	note, err := ocicrypt.Wrap(openJWE(t, key, sealed.Annotations[jwe]), foreignKeyID, foreignKey, []byte("nonce of one"))
	if err != nil {
		t.Fatal(err)
	}
	sealed.Annotations[provider] = base64.StdEncoding.EncodeToString(note)
	s, err := ocicrypt.Parse(sealed.Annotations)
	if err != nil || s.KeyID != foreignKeyID {
		t.Fatalf("key %+v, %v", s, err)
	}
	u, err := s.Unwrap(foreignKey)
	if err != nil {
		t.Fatal(err)
	}
	r, err := u.Open(strings.NewReader(crane.ok("blob", "--insecure", p.repo+"@"+sealed.Digest.String())))
	if err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(r); err != nil || bundle.DigestOf(b) != plain.Digest {
		t.Errorf("%d bytes of another digest, %v", len(b), err)
	}
}

// openJWE opens what skopeo wrapped to an RSA key: RSA-OAEP and A256GCM, in JSON (RFC 7516 section 7.2).
func openJWE(t *testing.T, key *rsa.PrivateKey, note string) []byte {
	t.Helper()
	raw, err := base64.StdEncoding.DecodeString(note)
	if err != nil {
		t.Fatal(err)
	}
	var w struct {
		Protected string `json:"protected"`
		Key       string `json:"encrypted_key"`
		IV        string `json:"iv"`
		Text      string `json:"ciphertext"`
		Tag       string `json:"tag"`
	}
	if err := json.Unmarshal(raw, &w); err != nil {
		t.Fatalf("%v: %s", err, raw)
	}
	decode := func(s string) []byte {
		b, err := base64.RawURLEncoding.DecodeString(s)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	cek, err := rsa.DecryptOAEP(sha1.New(), nil, key, decode(w.Key), nil)
	if err != nil {
		t.Fatalf("%v: %s", err, decode(w.Protected))
	}
	block, err := aes.NewCipher(cek)
	if err != nil {
		t.Fatal(err)
	}
	g, err := cipher.NewGCM(block)
	if err != nil {
		t.Fatal(err)
	}
	out, err := g.Open(nil, decode(w.IV), append(decode(w.Text), decode(w.Tag)...), []byte(w.Protected))
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// imageIn is the digest of a bundle's image.
func imageIn(t *testing.T, p *packer, agent string) string {
	t.Helper()
	_, rest, ok := strings.Cut(p.ok("bundle", "inspect", agent), `"image": {`)
	_, rest, ok2 := strings.Cut(rest, `"digest": "`)
	if !ok || !ok2 {
		t.Fatal("inspect names no image")
	}
	return rest[:71]
}

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
