package provenance

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/hpke"
	"crypto/rand"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"fmt"

	"omega/internal/labelhash"
	"omega/internal/merkle"
)

// Errors of reading sealed leaves.
var (
	// ErrNotRecipient reports an epoch that was not sealed for this auditor.
	ErrNotRecipient = errors.New("epoch is not sealed for this key")
	// ErrSealed reports a leaf that does not open, or whose commitment is wrong.
	ErrSealed = errors.New("sealed content does not match the leaf")
)

// Labels keep every use of a hash apart from the others.
const (
	labelKey   = "omega/provenance/epoch-key/v1"
	labelInfo  = "omega/provenance/epoch/v1"
	labelAAD   = "omega/provenance/entry/v1"
	saltSize   = 16
	lengthSize = 4
	// padding hides an entry's exact length: plaintexts are multiples of this.
	padding = 256
)

// An Auditor is one who may read what the log says.
type Auditor struct {
	Name string
	Key  [32]byte // X25519 public key
}

// An Epoch seals or opens the entries between two epoch headers under one key.
type Epoch struct {
	origin string
	number uint64
	aead   cipher.AEAD
}

// NewEpoch makes a fresh key and the header leaf, for index seq, that seals it
// for every auditor. With no auditor nobody can ever read the epoch's entries.
func NewEpoch(origin string, number, seq uint64, auditors []Auditor) (*Epoch, *Leaf, error) {
	if len(auditors) > maxRecipients {
		return nil, nil, fmt.Errorf("%w: %d auditors, at most %d", ErrLeaf, len(auditors), maxRecipients)
	}
	key := make([]byte, 32)
	rand.Read(key)
	defer clear(key)
	header := &Leaf{Epoch: number, Seq: seq, Header: true, Commitment: keyCommitment(origin, number, key)}
	for _, a := range auditors {
		r, err := sealKey(a, origin, header, key)
		if err != nil {
			return nil, nil, fmt.Errorf("sealing the epoch key for auditor %s: %w", a.Name, err)
		}
		header.Recipients = append(header.Recipients, r)
	}
	e, err := newEpoch(origin, number, key)
	return e, header, err
}

// OpenEpoch reads an epoch's key with an auditor's private key.
func OpenEpoch(origin string, header *Leaf, private *ecdh.PrivateKey) (*Epoch, error) {
	own := private.PublicKey().Bytes()
	for _, r := range header.Recipients {
		if !header.Header || subtle.ConstantTimeCompare(r.Key[:], own) != 1 {
			continue
		}
		key, err := openKey(r, origin, header, private)
		if err != nil {
			return nil, fmt.Errorf("%w: epoch %d: %w", ErrSealed, header.Epoch, err)
		}
		defer clear(key)
		if keyCommitment(origin, header.Epoch, key) != header.Commitment {
			return nil, fmt.Errorf("%w: epoch %d: key is not the one committed to", ErrSealed, header.Epoch)
		}
		return newEpoch(origin, header.Epoch, key)
	}
	return nil, ErrNotRecipient
}

// Seal makes the leaf for index seq that hides an entry's canonical JSON. One
// index must never be sealed twice in an epoch: it is the AEAD's nonce.
func (e *Epoch) Seal(seq uint64, entry []byte) (*Leaf, error) {
	if len(entry) > MaxEntry {
		return nil, fmt.Errorf("%w: %d bytes, at most %d", ErrTooLarge, len(entry), MaxEntry)
	}
	size := saltSize + lengthSize + len(entry)
	plain := make([]byte, (size+padding-1)/padding*padding)
	rand.Read(plain[:saltSize])
	binary.BigEndian.PutUint32(plain[saltSize:], uint32(len(entry)))
	copy(plain[saltSize+lengthSize:], entry)
	l := &Leaf{Epoch: e.number, Seq: seq}
	l.Commitment = Commitment([saltSize]byte(plain), e.origin, e.number, seq, entry)
	l.Sealed = e.aead.Seal(nil, nonce(seq), plain, e.aad(l))
	return l, nil
}

// Open returns the entry's JSON and the salt, which together open the leaf's
// commitment to whoever is shown them.
func (e *Epoch) Open(l *Leaf) (entry []byte, salt [saltSize]byte, err error) {
	if l.Header || l.Epoch != e.number {
		return nil, salt, fmt.Errorf("%w: leaf %d is not an entry of epoch %d", ErrSealed, l.Seq, e.number)
	}
	plain, err := e.aead.Open(nil, nonce(l.Seq), l.Sealed, e.aad(l))
	if err != nil {
		return nil, salt, fmt.Errorf("%w: leaf %d: %w", ErrSealed, l.Seq, err)
	}
	r := reader{b: plain}
	copy(salt[:], r.take(saltSize))
	entry = r.take(int(r.u32()))
	if r.short || len(r.b) >= padding || !zero(r.b) {
		return nil, salt, fmt.Errorf("%w: leaf %d: padding", ErrSealed, l.Seq)
	}
	if Commitment(salt, e.origin, e.number, l.Seq, entry) != l.Commitment {
		return nil, salt, fmt.Errorf("%w: leaf %d: commitment", ErrSealed, l.Seq)
	}
	return entry, salt, nil
}

// Commitment is the salted hash that a leaf holds of its entry.
func Commitment(salt [saltSize]byte, origin string, epoch, seq uint64, entry []byte) [32]byte {
	return [32]byte(merkle.Commit(salt, []byte(labelAAD), []byte(origin), u64(epoch), u64(seq), entry))
}

func newEpoch(origin string, number uint64, key []byte) (*Epoch, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return nil, err
	}
	return &Epoch{origin: origin, number: number, aead: aead}, nil
}

func (e *Epoch) aad(l *Leaf) []byte {
	sum := labelhash.Sum256(labelAAD, []byte(e.origin), u64(l.Epoch), u64(l.Seq), l.Commitment[:])
	return sum[:]
}

// sealKey is HPKE base mode (RFC 9180 section 5.1.1): X25519, HKDF-SHA256, AES-256-GCM.
func sealKey(a Auditor, origin string, header *Leaf, key []byte) (Recipient, error) {
	public, err := ecdh.X25519().NewPublicKey(a.Key[:])
	if err != nil {
		return Recipient{}, err
	}
	to, err := hpke.NewDHKEMPublicKey(public)
	if err != nil {
		return Recipient{}, err
	}
	enc, sender, err := hpke.NewSender(to, hpke.HKDFSHA256(), hpke.AES256GCM(), info(origin, header))
	if err != nil {
		return Recipient{}, err
	}
	sealed, err := sender.Seal(header.Commitment[:], key)
	if err != nil {
		return Recipient{}, err
	}
	r := Recipient{Key: a.Key}
	if copy(r.Enc[:], enc) != len(enc) || copy(r.Sealed[:], sealed) != len(sealed) {
		return Recipient{}, errors.New("hpke output has an unexpected size")
	}
	return r, nil
}

func openKey(r Recipient, origin string, header *Leaf, private *ecdh.PrivateKey) ([]byte, error) {
	own, err := hpke.NewDHKEMPrivateKey(private)
	if err != nil {
		return nil, err
	}
	recipient, err := hpke.NewRecipient(r.Enc[:], own, hpke.HKDFSHA256(), hpke.AES256GCM(), info(origin, header))
	if err != nil {
		return nil, err
	}
	return recipient.Open(header.Commitment[:], r.Sealed[:])
}

func info(origin string, header *Leaf) []byte {
	sum := labelhash.Sum256(labelInfo, []byte(origin), u64(header.Epoch), u64(header.Seq))
	return sum[:]
}

func keyCommitment(origin string, epoch uint64, key []byte) [32]byte {
	return labelhash.Sum256(labelKey, []byte(origin), u64(epoch), key)
}

// nonce is unique below one epoch's key, because an index is used once.
func nonce(seq uint64) []byte { return append(make([]byte, 4), u64(seq)...) }

func u64(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }

func zero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}
