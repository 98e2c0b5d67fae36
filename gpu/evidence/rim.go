package evidence

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"strconv"
	"time"
)

// Namespaces of a RIM: ISO 19770-2 SWID tags, and the digests of the TCG's RIM
// information model.
const (
	nsSWID   = "http://standards.iso.org/iso/19770/-2/2015/schema.xsd"
	nsSHA384 = "http://www.w3.org/2001/04/xmlenc#sha384"
)

// indexOffset lies between a RIM and a report: RIM index i is SPDM block i+1.
const indexOffset = 1

// maxAlternatives bounds the digests for one index; real RIMs have up to 4.
const maxAlternatives = 64

// RIM is a reference integrity manifest: what a driver or a VBIOS measures to.
type RIM struct {
	SHA256  [sha256.Size]byte // of the file
	Product string            // "GH100"
	Version string            // of the driver or the VBIOS
	Expires time.Time         // first end of validity of the signer's chain

	// active are the allowed digests by SPDM index, of those that must match.
	active map[int][][digestSize]byte
	certs  []*x509.Certificate
}

// ParseRIM reads a RIM and checks the signature by the certificate in it. Whose
// certificate that is, VerifySigner checks.
func ParseRIM(b []byte) (*RIM, error) {
	root, err := parseXML(b)
	if err != nil {
		return nil, fmt.Errorf("RIM: %w: %w", ErrFormat, err)
	}
	s, err := findSignature(root)
	if err != nil {
		return nil, fmt.Errorf("RIM: %w: signature: %w", ErrFormat, err)
	}
	if err := s.verify(root); err != nil {
		return nil, fmt.Errorf("RIM: %w", err)
	}
	r := &RIM{SHA256: sha256.Sum256(b), active: map[int][][digestSize]byte{}, certs: s.certs, Expires: notAfter(s.certs)}
	if err := r.read(root, s.element); err != nil {
		return nil, fmt.Errorf("RIM: %w: %w", ErrFormat, err)
	}
	return r, nil
}

// VerifySigner checks that the signer's chain ends at the pinned root and is
// valid at now.
func (r *RIM) VerifySigner(root [sha256.Size]byte, now time.Time) error {
	if err := verifyChain(r.certs, root, now); err != nil {
		return fmt.Errorf("RIM %s %s: %w", r.Product, r.Version, err)
	}
	return nil
}

// read takes the signed content of the document.
func (r *RIM) read(root, signature *node) error {
	if !root.is(nsSWID, "SoftwareIdentity") {
		return fmt.Errorf("document %q", root.name)
	}
	var meta, payload *node
	children, err := root.elements()
	if err != nil {
		return err
	}
	for _, c := range children {
		switch {
		case c == signature || c.is(nsSWID, "Entity"):
		case c.is(nsSWID, "Meta") && meta == nil:
			meta = c
		case c.is(nsSWID, "Payload") && payload == nil:
			payload = c
		default:
			return fmt.Errorf("element %q", c.name)
		}
	}
	if meta == nil || payload == nil {
		return fmt.Errorf("no Meta or no Payload")
	}
	r.Product, _ = meta.attr("", "product")
	r.Version, _ = meta.attr("", "colloquialVersion")
	if r.Product == "" || r.Version == "" {
		return fmt.Errorf("no product or no version")
	}
	return r.readPayload(payload)
}

func (r *RIM) readPayload(payload *node) error {
	resources, err := payload.elements()
	if err != nil {
		return err
	}
	seen := map[int]bool{}
	for _, e := range resources {
		index, active, digests, err := readResource(e)
		if err != nil {
			return err
		}
		if seen[index] {
			return fmt.Errorf("measurement %d twice", index-indexOffset)
		}
		if seen[index] = true; active {
			r.active[index] = digests
		}
	}
	if len(r.active) == 0 {
		return fmt.Errorf("no active measurement")
	}
	return nil
}

// readResource reads one measurement. The index is SPDM's.
func readResource(e *node) (index int, active bool, digests [][digestSize]byte, err error) {
	text := func(name string) string {
		v, _ := e.attr("", name)
		return v
	}
	number, err := strconv.ParseUint(text("index"), 10, 8)
	if !e.is(nsSWID, "Resource") || text("type") != "Measurement" || err != nil || number == 255 {
		return 0, false, nil, fmt.Errorf("element %q of type %q, index %q", e.name, text("type"), text("index"))
	}
	switch text("active") {
	case "True":
		active = true
	case "False":
	default:
		return 0, false, nil, fmt.Errorf("measurement %d: active=%q", number, text("active"))
	}
	count, err := strconv.ParseUint(text("alternatives"), 10, 16)
	if err != nil || count == 0 || count > maxAlternatives || text("size") != strconv.Itoa(digestSize) {
		return 0, false, nil, fmt.Errorf("measurement %d: alternatives=%q size=%q", number, text("alternatives"), text("size"))
	}
	found := 0
	for _, a := range e.attrs {
		if uri, _ := e.attrSpace(a); uri == nsSHA384 {
			found++
		}
	}
	if found != int(count) {
		return 0, false, nil, fmt.Errorf("measurement %d: %d digests, %d announced", number, found, count)
	}
	for i := range int(count) {
		v, _ := e.attr(nsSHA384, "Hash"+strconv.Itoa(i))
		d, err := hex.DecodeString(v)
		if err != nil || len(d) != digestSize {
			return 0, false, nil, fmt.Errorf("measurement %d: digest %d is %q", number, i, v)
		}
		digests = append(digests, [digestSize]byte(d))
	}
	return int(number) + indexOffset, active, digests, nil
}
