package snp

import (
	"bytes"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// amdArc holds AMD's extensions (publication 57230, "VCEK Certificate").
var amdArc = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 3704, 1}

// Extensions below amdArc.
const (
	oidStructVersion = 1
	oidProductName   = 2
	oidTCB           = 3
	oidHWID          = 4
	oidCSP           = 5
)

// leafClaims are the extensions of a VCEK or VLEK certificate.
type leafClaims struct {
	product string
	tcb     map[int]byte // by the last number of the extension
	hwid    []byte
	csp     string
}

// checkLeaf demands that certificate and report speak of the same machine: the
// certificate alone says which TCB the key stands for.
func checkLeaf(r *Report, line *productLine, leaf *x509.Certificate) error {
	c, err := parseLeaf(leaf)
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(line.names, func(n string) bool { return c.product == n || strings.HasPrefix(c.product, n+"-") }) {
		return fmt.Errorf("product name %q under the root of %s", c.product, line.product)
	}
	if r.Version >= 3 && !line.has(r.Family, r.Model) {
		return fmt.Errorf("CPU family %#x model %#x is not %s", r.Family, r.Model, line.product)
	}
	tcb, err := c.tcbVersion(line)
	if err != nil {
		return err
	}
	if tcb != r.ReportedTCB {
		return fmt.Errorf("TCB %s, the report has REPORTED_TCB %s", tcb, r.ReportedTCB)
	}
	switch r.SigningKey {
	case VCEK:
		return c.checkChip(r, line)
	case VLEK:
		if c.hwid != nil || c.csp == "" {
			return errors.New("not bound to a cloud provider")
		}
		return nil
	}
	return fmt.Errorf("%s is not known", r.SigningKey)
}

func (c *leafClaims) checkChip(r *Report, line *productLine) error {
	if r.MaskChipKey {
		return errors.New("the report's key is masked")
	}
	if len(c.hwid) != line.hwid || c.csp != "" {
		return fmt.Errorf("HWID of %d bytes, want %d", len(c.hwid), line.hwid)
	}
	if r.ChipID == ([64]byte{}) {
		return errors.New("the report hides its CHIP_ID, so it cannot be bound to a chip")
	}
	if !bytes.Equal(append(bytes.Clone(c.hwid), make([]byte, 64-line.hwid)...), r.ChipID[:]) {
		return errors.New("HWID is not the report's CHIP_ID")
	}
	return nil
}

// tcbVersion demands exactly the version numbers that the product has.
func (c *leafClaims) tcbVersion(line *productLine) (TCB, error) {
	if len(c.tcb) != len(line.tcb) {
		return 0, fmt.Errorf("%d TCB extensions, want %d", len(c.tcb), len(line.tcb))
	}
	var t TCB
	for i, part := range line.tcb {
		svn, ok := c.tcb[part.oid]
		if !ok {
			return 0, fmt.Errorf("no TCB extension for %s", part.name)
		}
		t |= TCB(svn) << (8 * i)
	}
	return t, nil
}

func parseLeaf(leaf *x509.Certificate) (*leafClaims, error) {
	c := &leafClaims{tcb: map[int]byte{}}
	for _, e := range leaf.Extensions {
		if len(e.Id) <= len(amdArc) || !e.Id[:len(amdArc)].Equal(amdArc) {
			if e.Critical {
				return nil, fmt.Errorf("critical extension %s is not known", e.Id)
			}
			continue
		}
		if err := c.add(e.Id[len(amdArc):], e.Value); err != nil {
			return nil, fmt.Errorf("extension %s: %w", e.Id, err)
		}
	}
	return c, nil
}

// add reads one extension of AMD's. x509 has refused duplicates already.
func (c *leafClaims) add(id asn1.ObjectIdentifier, value []byte) error {
	if len(id) == 2 && id[0] == oidTCB {
		svn, err := smallInt(value)
		c.tcb[id[1]] = svn
		return err
	}
	if len(id) != 1 {
		return errors.New("not known")
	}
	var err error
	switch id[0] {
	case oidStructVersion:
		_, err = smallInt(value)
	case oidProductName:
		c.product, err = ia5(value)
	case oidHWID: // the bare bytes, not an OCTET STRING
		c.hwid = value
	case oidCSP:
		c.csp, err = ia5(value)
	default:
		err = errors.New("not known")
	}
	return err
}

func smallInt(der []byte) (byte, error) {
	var v int
	rest, err := asn1.Unmarshal(der, &v)
	if err != nil || len(rest) != 0 || v < 0 || v > 255 {
		return 0, errors.New("not an integer from 0 to 255")
	}
	return byte(v), nil
}

func ia5(der []byte) (string, error) {
	var s string
	if len(der) == 0 || der[0] != asn1.TagIA5String {
		return "", errors.New("not an IA5String")
	}
	rest, err := asn1.UnmarshalWithParams(der, &s, "ia5")
	if err != nil || len(rest) != 0 {
		return "", errors.New("not an IA5String")
	}
	return s, nil
}
