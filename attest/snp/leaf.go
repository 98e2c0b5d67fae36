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
		return refuse(PartCertificate, "%s certificate: %v", r.SigningKey, err)
	}
	if !slices.ContainsFunc(line.names, func(n string) bool { return c.product == n || strings.HasPrefix(c.product, n+"-") }) {
		return but(PartCertificate, "the certificate's product name", fmt.Sprintf("%q", c.product), fmt.Sprintf("one of %q", line.names))
	}
	if r.Version >= 3 && !line.has(r.Family, r.Model) {
		return but(PartCertificate, fmt.Sprintf("the report's CPU is not %s", line.product), fmt.Sprintf("family %#x model %#x", r.Family, r.Model), line.cpus())
	}
	tcb, err := c.tcbVersion(line)
	if err != nil {
		return refuse(PartCertificate, "%s certificate: %v", r.SigningKey, err)
	}
	if tcb != r.ReportedTCB {
		return but(PartCertificate, "the certificate is for another TCB", tcb, fmt.Sprintf("%s, the report's REPORTED_TCB", r.ReportedTCB))
	}
	switch r.SigningKey {
	case VCEK:
		return c.checkChip(r, line)
	case VLEK:
		if c.hwid != nil || c.csp == "" {
			return refuse(PartCertificate, "VLEK certificate: not bound to a cloud provider")
		}
		return nil
	}
	return refuse(PartCertificate, "%s is not known", r.SigningKey)
}

// checkChip: a host may hide CHIP_ID (MASK_CHIP_ID of the SNP ABI). The
// signature then still names the chip, by its certificate.
func (c *leafClaims) checkChip(r *Report, line *productLine) error {
	if r.MaskChipKey {
		return refuse(PartCertificate, "the report's key is masked: nobody signed it")
	}
	if len(c.hwid) != line.hwid || c.csp != "" || bytes.Equal(c.hwid, make([]byte, line.hwid)) {
		return but(PartCertificate, "the certificate's HWID", fmt.Sprintf("%x", c.hwid), fmt.Sprintf("%d bytes of a chip", line.hwid))
	}
	if id := append(bytes.Clone(c.hwid), make([]byte, 64-line.hwid)...); r.ChipID != [64]byte{} && !bytes.Equal(id, r.ChipID[:]) {
		return but(PartCertificate, "the certificate is another chip's", fmt.Sprintf("HWID %x", c.hwid), fmt.Sprintf("%x, the report's CHIP_ID", r.ChipID))
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
