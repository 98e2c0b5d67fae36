package evidence

import (
	"bytes"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
)

// Identifiers of the firmware identity in a leaf: TCG DICE Attestation
// Architecture 1.1, section 6.1. The parent is what Hopper uses.
var (
	oidComposite = asn1.ObjectIdentifier{2, 23, 133, 5, 4, 1}
	oidTCBInfo   = asn1.ObjectIdentifier{2, 23, 133, 5, 4, 1, 1}
	oidSHA384    = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 2}
)

// fwidEntry is a DICE FWID: one digest of firmware.
type fwidEntry struct {
	Algorithm asn1.ObjectIdentifier
	Digest    []byte
}

// compositeID is the RIoT CompositeDeviceID, the form of Hopper.
type compositeID struct {
	Version  int
	DeviceID asn1.RawValue // the public key of the device
	FWID     fwidEntry
}

// tagFWIDs is the context tag of the list in a DiceTcbInfo, the form of Blackwell.
const tagFWIDs = 6

// firmwareIDs are the SHA-384 firmware identifiers that a leaf certifies.
func firmwareIDs(leaf *x509.Certificate) ([][]byte, error) {
	var out [][]byte
	for _, e := range leaf.Extensions {
		if !e.Id.Equal(oidComposite) && !e.Id.Equal(oidTCBInfo) {
			continue
		}
		entries, err := parseFirmwareID(e.Value)
		if err != nil {
			return nil, fmt.Errorf("firmware identifier of the leaf: %w: %w", ErrFormat, err)
		}
		for _, f := range entries {
			if f.Algorithm.Equal(oidSHA384) && len(f.Digest) == digestSize {
				out = append(out, f.Digest)
			}
		}
	}
	return out, nil
}

// parseFirmwareID reads either form; which one, the first element says.
func parseFirmwareID(der []byte) ([]fwidEntry, error) {
	var body asn1.RawValue
	if rest, err := asn1.Unmarshal(der, &body); err != nil || len(rest) != 0 || body.Tag != asn1.TagSequence || !body.IsCompound {
		return nil, errors.New("not one sequence")
	}
	var first asn1.RawValue
	if _, err := asn1.Unmarshal(body.Bytes, &first); err != nil {
		return nil, err
	}
	if first.Class == asn1.ClassUniversal {
		var id compositeID
		if rest, err := asn1.Unmarshal(der, &id); err != nil || len(rest) != 0 {
			return nil, fmt.Errorf("composite device identifier: %w", err)
		}
		return []fwidEntry{id.FWID}, nil
	}
	return tcbInfoFWIDs(body.Bytes)
}

// tcbInfoFWIDs reads the list of FWIDs from the fields of a DiceTcbInfo. They are
// all optional, tagged, and in rising order.
func tcbInfoFWIDs(fields []byte) ([]fwidEntry, error) {
	var out []fwidEntry
	for last := -1; len(fields) > 0; {
		var f asn1.RawValue
		rest, err := asn1.Unmarshal(fields, &f)
		if err != nil {
			return nil, err
		}
		if f.Class != asn1.ClassContextSpecific || f.Tag <= last {
			return nil, fmt.Errorf("field %d is out of order", f.Tag)
		}
		last, fields = f.Tag, rest
		if f.Tag != tagFWIDs {
			continue
		}
		for list := f.Bytes; len(list) > 0; {
			var entry fwidEntry
			if list, err = asn1.Unmarshal(list, &entry); err != nil {
				return nil, err
			}
			out = append(out, entry)
		}
	}
	return out, nil
}

// checkFWID holds the firmware identifier of a report against those that the
// leaf certifies.
func checkFWID(leaf *x509.Certificate, reported []byte) (Check, error) {
	c := Check{Name: "firmware", Status: NotProven, Words: "the report carries no firmware identifier (drivers before 550)"}
	ids, err := firmwareIDs(leaf)
	if err != nil || reported == nil {
		return c, err
	}
	for _, id := range ids {
		if bytes.Equal(id, reported) {
			c.Status, c.Words = Proven, "the report names the firmware that the GPU's certificate names"
			return c, nil
		}
	}
	return c, fmt.Errorf("%w: firmware identifier %x is not in the GPU's certificate", ErrMismatch, reported)
}
