package measure

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha512"
	"math/big"
	"slices"
	"testing"
)

func testKey(t *testing.T, curve elliptic.Curve) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// number reads one of the firmware's little-endian numbers.
func number(b []byte) *big.Int {
	b = slices.Clone(b)
	slices.Reverse(b)
	return new(big.Int).SetBytes(b)
}

// signedBy reads key and signature as the SNP ABI lays them out, without any of
// the code that wrote them.
func signedBy(key, sig, message []byte) bool {
	point := append([]byte{4}, number(key[4:76]).FillBytes(make([]byte, 48))...)
	pub, err := ecdsa.ParseUncompressedPublicKey(elliptic.P384(), append(point, number(key[76:148]).FillBytes(make([]byte, 48))...))
	if err != nil {
		return false
	}
	digest := sha512.Sum384(message)
	return key[0] == 2 && bytes.Equal(key[1:4], make([]byte, 3)) && ecdsa.Verify(pub, digest[:], number(sig[:72]), number(sig[72:144]))
}

func sampleIDBlock() *IDBlock {
	return &IDBlock{LaunchDigest: [48]byte{1, 2, 3}, FamilyID: [16]byte{'f'}, ImageID: [16]byte{'i'}, GuestSVN: 7, Policy: 0x30000}
}

func TestIDBlockIsLaidOutAsTheABISays(t *testing.T) {
	b := sampleIDBlock().Bytes()
	want := make([]byte, 0x60)
	copy(want, []byte{1, 2, 3})
	want[0x30], want[0x40], want[0x50], want[0x54], want[0x5a] = 'f', 'i', 1, 7, 3
	if !bytes.Equal(b, want) {
		t.Errorf("got %x", b)
	}
}

func TestIDAuthCarriesBothSignatures(t *testing.T) {
	id, author := testKey(t, elliptic.P384()), testKey(t, elliptic.P384())
	block := sampleIDBlock()
	both, err := block.Sign(id, author)
	if err != nil || len(both) != 0x1000 {
		t.Fatalf("%d bytes, %v", len(both), err)
	}
	idKey, authorKey := both[0x240:0x644], both[0x880:0xc84]
	if both[0] != 1 || both[4] != 1 {
		t.Errorf("algorithms %d and %d", both[0], both[4])
	}
	if !signedBy(idKey, both[0x40:0x240], block.Bytes()) {
		t.Error("the block is not signed by the ID key")
	}
	if !signedBy(authorKey, both[0x680:0x880], idKey) {
		t.Error("the ID key is not signed by the author key")
	}
	if got, err := KeyDigest(&id.PublicKey); err != nil || got != sha512.Sum384(idKey) {
		t.Errorf("ID_KEY_DIGEST %x, %v", got, err)
	}
	if got, err := KeyDigest(&author.PublicKey); err != nil || got != sha512.Sum384(authorKey) {
		t.Errorf("AUTHOR_KEY_DIGEST %x, %v", got, err)
	}
	alone, err := block.Sign(id, nil)
	if err != nil || !bytes.Equal(alone[0x40:0x644], both[0x40:0x644]) || alone[4] != 0 || !bytes.Equal(alone[0x644:], make([]byte, 0x1000-0x644)) {
		t.Errorf("without an author: %v", err)
	}
	block.Policy++
	if signedBy(idKey, both[0x40:0x240], block.Bytes()) {
		t.Error("the signature holds for another policy")
	}
}

func TestOnlyKeysOnP384SignIDBlocks(t *testing.T) {
	good, bad := testKey(t, elliptic.P384()), testKey(t, elliptic.P256())
	for _, tt := range []struct {
		name       string
		id, author *ecdsa.PrivateKey
	}{
		{"no key", nil, nil}, {"an ID key on P-256", bad, nil}, {"an author key on P-256", good, bad},
	} {
		if _, err := sampleIDBlock().Sign(tt.id, tt.author); err == nil {
			t.Errorf("%s: no error", tt.name)
		}
	}
	if _, err := KeyDigest(&bad.PublicKey); err == nil {
		t.Error("a key on P-256 has an ID_KEY_DIGEST")
	}
}
