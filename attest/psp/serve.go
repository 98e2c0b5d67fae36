package psp

import (
	"context"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha512"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/big"

	"omega/attest/snp"
)

// The port's protocol: a request is requestMagic, u32 big-endian 64 and the 64
// bytes of REPORT_DATA; the reply is replyMagic and then, each behind a u32
// big-endian length, the report and the certificate table.
const (
	requestMagic = "OPSP"
	replyMagic   = "OPSR"
	requestSize  = 4 + 4 + 64
)

// Launch is what the host launched.
type Launch struct {
	// Digest is the launch digest over the bytes that were launched.
	Digest   [48]byte
	HostData [32]byte
	// GuestPolicy zero stands for snp.PolicyStrict.
	GuestPolicy uint64
	// Firmware names the firmware that really runs, in at most 16 bytes.
	Firmware string
}

// Serve answers one guest's requests until rw ends or ctx is done; it closes
// rw, if that can be closed, when ctx is done. A malformed request ends it.
func (r *Root) Serve(ctx context.Context, rw io.ReadWriter, l Launch) error {
	if err := l.check(); err != nil {
		return err
	}
	if c, ok := rw.(io.Closer); ok {
		stop := context.AfterFunc(ctx, func() { c.Close() })
		defer stop()
	}
	for {
		data, err := readRequest(rw)
		switch {
		case ctx.Err() != nil || errors.Is(err, io.EOF):
			return ctx.Err()
		case err != nil:
			return fmt.Errorf("emulated PSP: request: %w", err)
		}
		report, err := r.report(l, data)
		if err != nil {
			return fmt.Errorf("emulated PSP: %w", err)
		}
		table := snp.Table{VCEK: r.vcek.Raw, ASK: r.ask.Raw, ARK: r.ark.Raw}
		if _, err := rw.Write(reply(report, table.Marshal())); err != nil {
			return fmt.Errorf("emulated PSP: reply: %w", err)
		}
	}
}

func (l *Launch) check() error {
	if len(l.Firmware) > 16 {
		return fmt.Errorf("firmware name %q has more than 16 bytes", l.Firmware)
	}
	for _, c := range []byte(l.Firmware) {
		if c <= ' ' || c > '~' {
			return fmt.Errorf("firmware name %q has a byte that is no printable ASCII", l.Firmware)
		}
	}
	return nil
}

// readRequest returns io.EOF only between requests.
func readRequest(r io.Reader) (data [64]byte, err error) {
	var b [requestSize]byte
	if _, err := io.ReadFull(r, b[:]); err != nil {
		return data, err
	}
	if string(b[:4]) != requestMagic || binary.BigEndian.Uint32(b[4:]) != uint32(len(data)) {
		return data, errors.New("not a report request")
	}
	copy(data[:], b[8:])
	return data, nil
}

func reply(report, table []byte) []byte {
	b := []byte(replyMagic)
	for _, part := range [][]byte{report, table} {
		b = binary.BigEndian.AppendUint32(b, uint32(len(part)))
		b = append(b, part...)
	}
	return b
}

// report makes and signs one report of version 3.
func (r *Root) report(l Launch, data [64]byte) ([]byte, error) {
	policy := snp.GuestPolicy(l.GuestPolicy)
	if policy == 0 {
		policy = snp.PolicyStrict
	}
	rep := &snp.Report{
		Version:     3,
		GuestPolicy: policy,
		FamilyID:    snp.EmulatedFamilyID,
		CurrentTCB:  tcb, ReportedTCB: tcb, CommittedTCB: tcb, LaunchTCB: tcb,
		PlatformInfo: snp.PlatformSMT | snp.PlatformECC | snp.PlatformAliasCheck,
		SigningKey:   snp.VCEK,
		ReportData:   data,
		Measurement:  l.Digest,
		HostData:     l.HostData,
		Family:       0x19, Model: 1, Stepping: 1, // Milan-B1
		ChipID:       r.chipID,
		CurrentBuild: snp.Firmware{Major: 1, Minor: 55}, CommittedBuild: snp.Firmware{Major: 1, Minor: 55},
	}
	copy(rep.ImageID[:], l.Firmware)
	if _, err := rand.Read(rep.ReportID[:]); err != nil {
		return nil, err
	}
	for i := range rep.ReportIDMA {
		rep.ReportIDMA[i] = 0xff // no migration agent
	}
	return r.sign(rep)
}

func (r *Root) sign(rep *snp.Report) ([]byte, error) {
	sum := sha512.Sum384(rep.Marshal()[:snp.SignedSize])
	R, S, err := ecdsa.Sign(rand.Reader, r.key, sum[:])
	if err != nil {
		return nil, fmt.Errorf("signing: %w", err)
	}
	littleEndian(rep.R[:], R)
	littleEndian(rep.S[:], S)
	return rep.Marshal(), nil
}

func littleEndian(dst []byte, v *big.Int) {
	v.FillBytes(dst)
	for i, j := 0, len(dst)-1; i < j; i, j = i+1, j-1 {
		dst[i], dst[j] = dst[j], dst[i]
	}
}
