package bundle

import (
	"errors"
	"os"
	"testing"
)

// The bytes are cosign's own (testdata/README.md).
func TestCosignsSignaturesAreRead(t *testing.T) {
	read := func(name string) []byte {
		b, err := os.ReadFile("testdata/" + name)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	key, err := ParseKey(read("cosign.pub"))
	if err != nil {
		t.Fatal(err)
	}
	subject, err := ParseDigest(string(read("cosign.subject")))
	if err != nil {
		t.Fatal(err)
	}
	raw := read("cosign.sigstore.json")
	got, err := VerifyBundle(raw, subject, []Key{key})
	if err != nil {
		t.Fatal(err)
	}
	if (got.Vouch != Vouch{"author", "acme"}) || got.KeyID != key.ID {
		t.Errorf("got %+v", got)
	}
	_, other := newKey(t)
	if _, err := VerifyBundle(raw, subject, []Key{other}); !errors.Is(err, ErrSignature) {
		t.Errorf("other key: error %v, want ErrSignature", err)
	}
	if _, err := VerifyBundle(raw, DigestOf(raw), []Key{key}); !errors.Is(err, ErrSubject) {
		t.Errorf("other subject: error %v, want ErrSubject", err)
	}
}
