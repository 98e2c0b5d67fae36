package evidence

import (
	"bytes"
	"crypto/sha512"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"
)

// Identifiers of XML Signature 1.1 and of the algorithms that are allowed: each
// place has one.
const (
	nsSignature   = "http://www.w3.org/2000/09/xmldsig#"
	algEnveloped  = "http://www.w3.org/2000/09/xmldsig#enveloped-signature"
	algCanonical  = "http://www.w3.org/2006/12/xml-c14n11"
	algSignature  = "http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha384"
	algDigest     = "http://www.w3.org/2001/04/xmldsig-more#sha384"
	attrAlgorithm = "Algorithm"
)

// signature is the one enveloped signature of a document, read but not verified.
type signature struct {
	element *node // what the signature does not cover
	info    *node
	digest  []byte
	value   []byte
	certs   []*x509.Certificate
}

// findSignature reads the signature among the children of root. There must be
// exactly one in the document.
func findSignature(root *node) (*signature, error) {
	var s *signature
	children, err := root.elements()
	if err != nil {
		return nil, err
	}
	for _, c := range children {
		if !c.is(nsSignature, "Signature") {
			continue
		}
		if s != nil {
			return nil, errors.New("two signatures")
		}
		s = &signature{element: c}
	}
	if s == nil {
		return nil, errors.New("no signature")
	}
	parts, err := sequence(s.element, "SignedInfo", "SignatureValue", "KeyInfo")
	if err != nil {
		return nil, err
	}
	s.info = parts[0]
	if s.digest, err = readSignedInfo(s.info); err != nil {
		return nil, err
	}
	if s.value, err = base64Content(parts[1]); err != nil {
		return nil, err
	}
	s.certs, err = readKeyInfo(parts[2])
	return s, err
}

// readSignedInfo checks every algorithm and returns the digest of the one
// reference, which must be the document itself.
func readSignedInfo(info *node) ([]byte, error) {
	parts, err := sequence(info, "CanonicalizationMethod", "SignatureMethod", "Reference")
	if err != nil {
		return nil, err
	}
	if err := errors.Join(algorithm(parts[0], algCanonical), algorithm(parts[1], algSignature)); err != nil {
		return nil, err
	}
	reference := parts[2]
	if uri, ok := reference.attr("", "URI"); !ok || uri != "" || len(reference.attrs) != 1 {
		return nil, errors.New("reference is not the whole document")
	}
	if parts, err = sequence(reference, "Transforms", "DigestMethod", "DigestValue"); err != nil {
		return nil, err
	}
	transforms, err := sequence(parts[0], "Transform", "Transform")
	if err != nil {
		return nil, err
	}
	if err := errors.Join(algorithm(transforms[0], algEnveloped), algorithm(transforms[1], algCanonical), algorithm(parts[1], algDigest)); err != nil {
		return nil, err
	}
	return base64Content(parts[2])
}

func readKeyInfo(info *node) ([]*x509.Certificate, error) {
	parts, err := sequence(info, "X509Data")
	if err != nil {
		return nil, err
	}
	encoded, err := parts[0].elements()
	if err != nil {
		return nil, err
	}
	if len(encoded) == 0 || len(encoded) > maxChain {
		return nil, fmt.Errorf("%d certificates", len(encoded))
	}
	var out []*x509.Certificate
	for _, e := range encoded {
		if !e.is(nsSignature, "X509Certificate") || len(e.attrs) != 0 {
			return nil, fmt.Errorf("element %q beside the certificates", e.name)
		}
		der, err := base64Content(e)
		if err != nil {
			return nil, err
		}
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, err
		}
		out = append(out, c)
	}
	return out, nil
}

// verify checks the digest of the document and the signature over it by the
// first certificate, whose chain the caller checks.
func (s *signature) verify(root *node) error {
	digest := sha512.Sum384(canonical(root, s.element))
	if !bytes.Equal(digest[:], s.digest) {
		return fmt.Errorf("%w: the document was changed", ErrSignature)
	}
	key, err := attestationKey(s.certs[0])
	if err != nil {
		return err
	}
	if !verifyRaw(key, canonical(s.info, nil), s.value) {
		return fmt.Errorf("%w: not by %q", ErrSignature, s.certs[0].Subject.CommonName)
	}
	return nil
}

// sequence is the child elements of n, which must be exactly these of XML
// Signature, in order.
func sequence(n *node, names ...string) ([]*node, error) {
	children, err := n.elements()
	if err != nil {
		return nil, err
	}
	ok := len(children) == len(names)
	for i := 0; ok && i < len(names); i++ {
		ok = children[i].is(nsSignature, names[i])
	}
	if !ok {
		return nil, fmt.Errorf("%q holds other elements than %s", n.name, strings.Join(names, ", "))
	}
	return children, nil
}

// algorithm checks that n names one algorithm and gives it no parameters.
func algorithm(n *node, want string) error {
	got, _ := n.attr("", attrAlgorithm)
	if got != want || len(n.attrs) != 1 || len(n.children) != 0 {
		return fmt.Errorf("%s %q is not allowed, only %q", n.name, got, want)
	}
	return nil
}

func base64Content(n *node) ([]byte, error) {
	text, err := n.content()
	if err != nil {
		return nil, err
	}
	out, err := decodeBase64([]byte(text))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", n.name, err)
	}
	return out, nil
}
