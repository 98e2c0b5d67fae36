package measure

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha512"
	"encoding/asn1"
	"encoding/binary"
	"errors"
	"fmt"
	"math/big"
)

// An IDBlock is what an operator signs of a launch: the firmware starts a guest
// only if its digest and policy are these, and every report names the key (SNP
// ABI, table "ID Block Structure").
type IDBlock struct {
	LaunchDigest      [48]byte
	FamilyID, ImageID [16]byte
	GuestSVN          uint32
	Policy            uint64
}

// Sizes and versions of the SNP ABI's tables "ID Block Structure" and "ID
// Authentication Information Structure", and of its ECDSA P-384 keys and
// signatures (chapter 10, "Digital Signatures").
const (
	idBlockSize    = 0x60
	idBlockVersion = 1
	idAuthSize     = 0x1000
	algorithmP384  = 1
	curveP384      = 2
	publicKeySize  = 0x404
	numberSize     = 72 // of a coordinate, R or S, little-endian
)

// Offsets in the ID authentication information structure.
const (
	atIDBlockSig = 0x040
	atIDKey      = 0x240
	atIDKeySig   = 0x680
	atAuthorKey  = 0x880
)

// Bytes is the block as the firmware takes it.
func (b *IDBlock) Bytes() []byte {
	out := make([]byte, 0, idBlockSize)
	out = append(out, b.LaunchDigest[:]...)
	out = append(out, b.FamilyID[:]...)
	out = append(out, b.ImageID[:]...)
	out = binary.LittleEndian.AppendUint32(out, idBlockVersion)
	out = binary.LittleEndian.AppendUint32(out, b.GuestSVN)
	return binary.LittleEndian.AppendUint64(out, b.Policy)
}

// Sign returns the ID authentication information: the block's signature by id,
// and id's own by author, if there is one. Equal keys and blocks give equal
// bytes.
func (b *IDBlock) Sign(id, author *ecdsa.PrivateKey) ([]byte, error) {
	if id == nil {
		return nil, errors.New("ID block: no key")
	}
	key, err := publicKey(&id.PublicKey)
	if err != nil {
		return nil, fmt.Errorf("ID key: %w", err)
	}
	sig, err := signP384(id, b.Bytes())
	if err != nil {
		return nil, fmt.Errorf("ID key: %w", err)
	}
	out := make([]byte, idAuthSize)
	binary.LittleEndian.PutUint32(out, algorithmP384)
	copy(out[atIDBlockSig:], sig)
	copy(out[atIDKey:], key)
	if author == nil {
		return out, nil
	}
	authorKey, err := publicKey(&author.PublicKey)
	if err != nil {
		return nil, fmt.Errorf("author key: %w", err)
	}
	if sig, err = signP384(author, key); err != nil {
		return nil, fmt.Errorf("author key: %w", err)
	}
	binary.LittleEndian.PutUint32(out[4:], algorithmP384)
	copy(out[atIDKeySig:], sig)
	copy(out[atAuthorKey:], authorKey)
	return out, nil
}

// KeyDigest is ID_KEY_DIGEST or AUTHOR_KEY_DIGEST of a report: the SHA-384 of the
// key in the firmware's form.
func KeyDigest(key *ecdsa.PublicKey) ([48]byte, error) {
	b, err := publicKey(key)
	return sha512.Sum384(b), err
}

// publicKey is a key in the firmware's form: the curve, then the coordinates.
func publicKey(key *ecdsa.PublicKey) ([]byte, error) {
	if key.Curve != elliptic.P384() {
		return nil, errors.New("not an ECDSA key on P-384")
	}
	point, err := key.Bytes() // 4 || X || Y, SEC 1, 2.3.3
	if err != nil {
		return nil, err
	}
	out := make([]byte, publicKeySize)
	binary.LittleEndian.PutUint32(out, curveP384)
	half := (len(point) - 1) / 2
	littleEndian(out[4:4+numberSize], point[1:1+half])
	littleEndian(out[4+numberSize:4+2*numberSize], point[1+half:])
	return out, nil
}

// signP384 signs with SHA-384 and returns R and S in the firmware's form.
func signP384(key *ecdsa.PrivateKey, message []byte) ([]byte, error) {
	digest := sha512.Sum384(message)
	der, err := key.Sign(nil, digest[:], crypto.SHA384) // deterministic, RFC 6979
	if err != nil {
		return nil, err
	}
	var sig struct{ R, S *big.Int }
	if rest, err := asn1.Unmarshal(der, &sig); err != nil || len(rest) > 0 {
		return nil, errors.New("signature is not what ECDSA gives")
	}
	out := make([]byte, 2*numberSize)
	littleEndian(out[:numberSize], sig.R.Bytes())
	littleEndian(out[numberSize:], sig.S.Bytes())
	return out, nil
}

// littleEndian writes a big-endian number into out, reversed.
func littleEndian(out, number []byte) {
	for i, b := range number {
		out[len(number)-1-i] = b
	}
}
