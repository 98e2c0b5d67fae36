package kbstest

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
)

// publicKey is the key that a platform named (kbs-types 0.15, TeePubKey::EC).
type publicKey struct {
	Kty string `json:"kty"`
	Crv string `json:"crv"`
	Alg string `json:"alg"`
	X   string `json:"x"`
	Y   string `json:"y"`
}

var url64 = base64.RawURLEncoding.Strict()

// seal encrypts to the key: ECDH-ES+A256KW and A256GCM (RFC 7518), as
// trustee 78962cd does in kbs/src/jwe/mod.rs.
func (k *publicKey) seal(secret []byte) ([]byte, error) {
	if k.Kty != "EC" || k.Crv != "P-256" || k.Alg != "ECDH-ES+A256KW" {
		return nil, fmt.Errorf("key %q on %q for %q", k.Kty, k.Crv, k.Alg)
	}
	x, err := url64.DecodeString(k.X)
	if err != nil {
		return nil, err
	}
	y, err := url64.DecodeString(k.Y)
	if err != nil {
		return nil, err
	}
	peer, err := ecdh.P256().NewPublicKey(append(append([]byte{4}, x...), y...))
	if err != nil {
		return nil, err
	}
	own, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	z, err := own.ECDH(peer)
	if err != nil {
		return nil, err
	}
	cek, iv := make([]byte, 32), make([]byte, 12)
	_, _ = rand.Read(cek) // never fails (crypto/rand)
	_, _ = rand.Read(iv)
	wrapped, err := wrap(derive(z, k.Alg), cek)
	if err != nil {
		return nil, err
	}
	point := own.PublicKey().Bytes()
	header := fmt.Sprintf(`{"alg":%q,"enc":"A256GCM","epk":{"crv":"P-256","kty":"EC","x":%q,"y":%q}}`, k.Alg, url64.EncodeToString(point[1:33]), url64.EncodeToString(point[33:]))
	protected := url64.EncodeToString([]byte(header))
	block, err := aes.NewCipher(cek)
	if err != nil {
		return nil, err
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		return nil, err
	}
	sealed := gcm.Seal(nil, iv, secret, []byte(protected))
	n := len(sealed) - gcm.Overhead()
	return json.Marshal(map[string]string{
		"protected": protected, "encrypted_key": url64.EncodeToString(wrapped), "iv": url64.EncodeToString(iv),
		"ciphertext": url64.EncodeToString(sealed[:n]), "tag": url64.EncodeToString(sealed[n:]),
	})
}

// derive is the Concat KDF of RFC 7518 section 4.6.2 for 256 bits without party
// names.
func derive(z []byte, alg string) []byte {
	in := append([]byte{0, 0, 0, 1}, z...)
	in = binary.BigEndian.AppendUint32(in, uint32(len(alg)))
	in = append(in, alg...)
	in = append(in, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0)
	sum := sha256.Sum256(in)
	return sum[:]
}

// wrap is AES key wrap (RFC 3394 section 2.2.1).
func wrap(kek, key []byte) ([]byte, error) {
	block, err := aes.NewCipher(kek)
	if err != nil {
		return nil, err
	}
	if len(key)%8 != 0 {
		return nil, errors.New("key is not in whole half blocks")
	}
	out := append([]byte{0xa6, 0xa6, 0xa6, 0xa6, 0xa6, 0xa6, 0xa6, 0xa6}, key...)
	n := len(key) / 8
	for j := range 6 {
		for i := 1; i <= n; i++ {
			b := append(append([]byte{}, out[:8]...), out[8*i:8*i+8]...)
			block.Encrypt(b, b)
			binary.BigEndian.PutUint64(out, binary.BigEndian.Uint64(b)^uint64(n*j+i))
			copy(out[8*i:], b[8:])
		}
	}
	return out, nil
}
