package evidence

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/sha512"
	"encoding/binary"
	"fmt"
	"math/big"
)

// Lengths of the SPDM messages, DMTF DSP0274 1.1.0 section 10.11.
const (
	requestSize   = 37 // GET_MEASUREMENTS: header 4, nonce 32, slot 1
	headerSize    = 8  // MEASUREMENTS: header 4, block count 1, record length 3
	nonceSize     = 32
	digestSize    = 48 // SHA-384
	signatureSize = 96 // r and s on P-384
	maxReport     = 16 << 10
)

// Report is a request for measurements and the response that a GPU signed.
type Report struct {
	Nonce        [nonceSize]byte          // of the request
	Measurements map[int][digestSize]byte // by SPDM index, from 1
	Opaque       Opaque

	signed    []byte // request and response without the signature
	signature []byte
}

// ParseReport reads a report as NVML returns it: request, response, and nothing
// behind the signature but zeros, with which some drivers pad.
func ParseReport(b []byte) (*Report, error) {
	r, err := parseReport(b)
	if err != nil {
		return nil, fmt.Errorf("report: %w: %w", ErrFormat, err)
	}
	return r, nil
}

func parseReport(b []byte) (*Report, error) {
	if len(b) > maxReport {
		return nil, fmt.Errorf("%d bytes, at most %d", len(b), maxReport)
	}
	if len(b) < requestSize+headerSize {
		return nil, fmt.Errorf("%d bytes, too short", len(b))
	}
	request, response := b[:requestSize], b[requestSize:]
	// SPDM 1.1 GET_MEASUREMENTS (0xE0) that asks for a signature over all blocks.
	if request[0] != 0x11 || request[1] != 0xe0 || request[2]&1 == 0 || request[3] != 0xff {
		return nil, fmt.Errorf("request % x, want SPDM 1.1 GET_MEASUREMENTS, signed, of all blocks", request[:4])
	}
	if response[0] != 0x11 || response[1] != 0x60 {
		return nil, fmt.Errorf("response % x, want SPDM 1.1 MEASUREMENTS", response[:2])
	}
	c := cursor{b: response[4:]}
	blocks, record := int(c.take(1)[0]), c.block(c.uint24())
	c.take(nonceSize) // the responder's, only signed
	opaque := c.block(c.uint16())
	if c.short {
		return nil, fmt.Errorf("%d bytes end inside the response", len(b))
	}
	end := len(b) - len(c.b)
	signature := c.block(signatureSize)
	if c.short {
		return nil, fmt.Errorf("%d bytes end inside the signature", len(b))
	}
	if len(bytes.Trim(c.b, "\x00")) != 0 {
		return nil, fmt.Errorf("%d bytes behind the signature", len(c.b))
	}
	r := &Report{Nonce: [nonceSize]byte(request[4:]), signed: b[:end], signature: signature}
	var err error
	if r.Measurements, err = parseBlocks(record, blocks); err != nil {
		return nil, err
	}
	r.Opaque, err = parseOpaque(opaque)
	return r, err
}

// parseBlocks reads the measurement record, DSP0274 1.1.0 tables 53 and 54.
func parseBlocks(record []byte, count int) (map[int][digestSize]byte, error) {
	out := make(map[int][digestSize]byte, count)
	c := cursor{b: record}
	for range count {
		head := c.take(2)
		body := cursor{b: c.block(c.uint16())}
		_ = body.take(1) // what was measured; RIMs go by the index alone
		value := body.block(body.uint16())
		if c.short || body.short || len(body.b) != 0 {
			return nil, fmt.Errorf("measurement %d: wrong length", head[0])
		}
		index := int(head[0])
		if head[1] != 1 { // the DMTF's own form
			return nil, fmt.Errorf("measurement %d: specification %d, want 1", index, head[1])
		}
		if len(value) != digestSize {
			return nil, fmt.Errorf("measurement %d: %d bytes, want a SHA-384 digest", index, len(value))
		}
		if _, twice := out[index]; twice || index == 0 {
			return nil, fmt.Errorf("measurement %d: index is taken or zero", index)
		}
		out[index] = [digestSize]byte(value)
	}
	if len(c.b) != 0 {
		return nil, fmt.Errorf("%d bytes behind the measurements", len(c.b))
	}
	return out, nil
}

// verify checks the signature of the GPU's attestation key over the report.
func (r *Report) verify(key *ecdsa.PublicKey) error {
	if !verifyRaw(key, r.signed, r.signature) {
		return fmt.Errorf("report: %w", ErrSignature)
	}
	return nil
}

// verifyRaw checks an ECDSA P-384 SHA-384 signature that is r and s, 48 bytes
// each, big-endian.
func verifyRaw(key *ecdsa.PublicKey, signed, signature []byte) bool {
	if len(signature) != signatureSize {
		return false
	}
	digest := sha512.Sum384(signed)
	r := new(big.Int).SetBytes(signature[:signatureSize/2])
	s := new(big.Int).SetBytes(signature[signatureSize/2:])
	return ecdsa.Verify(key, digest[:], r, s)
}

// cursor reads little-endian fields. Behind the end it gives zeros and is short.
type cursor struct {
	b     []byte
	short bool
}

func (c *cursor) block(n int) []byte {
	if n > len(c.b) {
		c.short, c.b = true, nil
		return nil
	}
	out := c.b[:n]
	c.b = c.b[n:]
	return out
}

// take is block for a fixed small n; it never returns fewer than n bytes.
func (c *cursor) take(n int) []byte {
	if b := c.block(n); b != nil {
		return b
	}
	return make([]byte, n)
}

func (c *cursor) uint16() int { return int(binary.LittleEndian.Uint16(c.take(2))) }

func (c *cursor) uint24() int {
	b := c.take(3)
	return int(b[0]) | int(b[1])<<8 | int(b[2])<<16
}
