package provenance

import (
	"crypto/ecdh"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"testing"
)

// A platform that lies can seal anything with the right key: what the auditor
// opens must still be what the leaf commits to.
func TestWhatOpensMustBeWhatIsCommittedTo(t *testing.T) {
	e, err := newEpoch("omega/x", 0, make([]byte, 32))
	if err != nil {
		t.Fatal(err)
	}
	plain := func(length uint32, entry string, pad int) []byte {
		b := binary.BigEndian.AppendUint32(make([]byte, saltSize), length)
		return append(append(b, entry...), make([]byte, pad)...)
	}
	dirty := plain(2, "{}", 10)
	dirty[len(dirty)-1] = 1
	tests := []struct {
		name      string
		plain     []byte
		committed string
		want      error
	}{
		{"honest", plain(2, "{}", 10), "{}", nil},
		{"another entry", plain(2, "{}", 10), "[]", ErrSealed},
		{"longer than it is", plain(99, "{}", 10), "{}", ErrSealed},
		{"nothing but a salt", make([]byte, saltSize), "", ErrSealed},
		{"words in the padding", dirty, "{}", ErrSealed},
		{"padding without end", plain(2, "{}", padding), "{}", ErrSealed},
	}
	for _, tt := range tests {
		l := &Leaf{Seq: 1, Commitment: Commitment([saltSize]byte{}, "omega/x", 0, 1, []byte(tt.committed))}
		l.Sealed = e.aead.Seal(nil, nonce(1), tt.plain, e.aad(l))
		if _, _, err := e.Open(l); !errors.Is(err, tt.want) {
			t.Errorf("%s: error %v, want %v", tt.name, err, tt.want)
		}
	}
}

func TestAnEpochsKeyMustBeTheOneCommittedTo(t *testing.T) {
	private, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	auditor := Auditor{Key: [32]byte(private.PublicKey().Bytes())}
	honest, other := make([]byte, 32), make([]byte, 32)
	other[0] = 1
	for _, tt := range []struct {
		name string
		key  []byte
		want error
	}{{"the committed key", honest, nil}, {"a key for this auditor alone", other, ErrSealed}} {
		header := &Leaf{Header: true, Commitment: keyCommitment("omega/x", 0, honest)}
		r, err := sealKey(auditor, "omega/x", header, tt.key)
		if err != nil {
			t.Fatal(err)
		}
		header.Recipients = []Recipient{r}
		if _, err := OpenEpoch("omega/x", header, private); !errors.Is(err, tt.want) {
			t.Errorf("%s: error %v, want %v", tt.name, err, tt.want)
		}
	}
}
