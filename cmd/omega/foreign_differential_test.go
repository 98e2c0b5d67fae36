package main

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"testing"

	"omega/agentloader/bundle"
)

// TestOurSignatureCheckAgreesWithSigstores holds this program's reading of sigstore bundles against sigstore's own Go
// verifier, as cosign has it, over bundles that were changed in many ways. What we believe, it must believe. What
// only it believes stands in the table, with the reason.
func TestOurSignatureCheckAgreesWithSigstores(t *testing.T) {
	p := newPacker(t)
	cosign := needForeign(t, p, "cosign")
	blob := []byte("what is signed")
	p.write("blob", string(blob))
	key, err := bundle.ParsePrivateKey([]byte(read(t, p.path("author"))))
	if err != nil {
		t.Fatal(err)
	}
	pub, err := bundle.ParseKey([]byte(read(t, p.path("author.pub"))))
	if err != nil {
		t.Fatal(err)
	}
	raw, err := bundle.SignPrincipal(key, bundle.DigestOf(blob), bundle.Vouch{Role: "author", Principal: "acme"})
	if err != nil {
		t.Fatal(err)
	}
	good := string(raw)
	other, err := bundle.SignPrincipal(key, bundle.DigestOf([]byte("else")), bundle.Vouch{Role: "author", Principal: "acme"})
	if err != nil {
		t.Fatal(err)
	}
	change := func(from, to string) string { return strings.Replace(good, from, to, 1) }
	tests := []struct {
		name, text string
		strict     string // why only we refuse it
	}{
		{"as it was signed", good, ""},
		{"about another blob", string(other), ""},
		{"empty", "{}", ""},
		{"of another media type", change("bundle.v0.3+json", "bundle.v9.9+json"), ""},
		{"of an older media type", change("application/vnd.dev.sigstore.bundle.v0.3+json", "application/vnd.dev.sigstore.bundle+json;version=0.2"), "only the form that cosign 3 writes is read"},
		{"of another payload type", change("vnd.in-toto+json", "vnd.in-toto+xml"), ""},
		{"without a signature", change(`"signatures":[{`, `"signatures":[],"x":[{`), ""},
		{"without an envelope", change("dsseEnvelope", "dsseenvelope"), ""},
		{"without a key hint", change(`"publicKey":`, `"certificate":`), ""},
		{"with another key hint", change(`"hint":"`, `"hint":"AA`), ""},
		{"with an unknown field", change(`{"dsse`, `{"surprise":1,"dsse`), ""},
		{"with the media type twice", change(`{"dsse`, `{"mediaType":"x","dsse`), ""},
		{"with a word behind it", good + "x", ""},
		{"with spaces behind it", good + "  \n", ""},
	}
	for i, at := range []int{0, 40, 90, len(good) / 3, len(good) / 2, len(good) - 60, len(good) - 20} {
		b := []byte(good)
		b[at] ^= 2
		tests = append(tests, struct{ name, text, strict string }{fmt.Sprintf("with bit %d flipped", i), string(b), ""})
	}
	accepted := 0
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if err := os.WriteFile(p.path("bundle.json"), []byte(tt.text), 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := bundle.VerifyBundle([]byte(tt.text), bundle.DigestOf(blob), []bundle.Key{pub})
			ours := err == nil
			said, theirs := cosign.run("verify-blob-attestation", "--bundle", p.path("bundle.json"), "--key", p.path("author.pub"),
				"--type", "https://omega.invalid/principal/v1", "--insecure-ignore-tlog", p.path("blob"))
			switch {
			case ours && !theirs:
				t.Errorf("we believe what sigstore's verifier refuses: %s", said)
			case !ours && theirs && tt.strict == "":
				t.Errorf("only we refuse it (%v)", err)
			case ours && tt.strict != "":
				t.Errorf("we believe it; %s", tt.strict)
			}
			if theirs {
				accepted++
			}
		})
	}
	if accepted == 0 || bytes.Equal(raw, other) {
		t.Error("sigstore's verifier believed nothing: this proves nothing")
	}
}
