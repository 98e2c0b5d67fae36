package evidence

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"encoding/binary"
	"encoding/pem"
	"fmt"
	"math/big"
	"strings"
	"testing"
	"time"
)

// forgeTime is when everything that the tests sign is valid.
var forgeTime = time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)

// party is a certificate of ours and its key.
type party struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// issue makes a certificate; without an issuer, a root.
func issue(t *testing.T, name string, issuer *party, edit func(*x509.Certificate)) *party {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	serial, _ := rand.Int(rand.Reader, big.NewInt(1<<60))
	c := &x509.Certificate{Subject: pkix.Name{CommonName: name}, SerialNumber: serial, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign, NotBefore: forgeTime.AddDate(-1, 0, 0), NotAfter: forgeTime.AddDate(1, 0, 0), SignatureAlgorithm: x509.ECDSAWithSHA384}
	if edit != nil {
		edit(c)
	}
	parent, signer := c, key
	if issuer != nil {
		parent, signer = issuer.cert, issuer.key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, &key.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &party{cert, key}
}

func leafOnly(c *x509.Certificate) { c.IsCA, c.KeyUsage = false, x509.KeyUsageDigitalSignature }

// raw is a signature as r and s.
func (p *party) raw(t *testing.T, signed []byte) []byte {
	t.Helper()
	digest := sha512.Sum384(signed)
	r, s, err := ecdsa.Sign(rand.Reader, p.key, digest[:])
	if err != nil {
		t.Fatal(err)
	}
	out := make([]byte, signatureSize)
	r.FillBytes(out[:48])
	s.FillBytes(out[48:])
	return out
}

// fake is a GPU of ours, with collateral to match. Its zero fields are filled by
// newFake; tests change them before they make evidence.
type fake struct {
	device, rim     []*party // leaf first, root last
	nonce           [32]byte
	opaque          []field
	driver, vbios   map[int]string // active RIM index -> hex digest(s), comma separated
	driverV, vbiosV string
	blocks          map[int][48]byte
}

type field struct {
	kind  int
	value []byte
}

func newFake(t *testing.T, leafExtension []byte) *fake {
	t.Helper()
	f := &fake{driverV: "590.1.2", vbiosV: "97.00.83.00.09", blocks: map[int][48]byte{}, nonce: [32]byte{1, 2, 3}}
	root := issue(t, "device root", nil, nil)
	model := issue(t, "model", root, nil)
	brom := issue(t, "BROM", model, nil)
	leaf := issue(t, "FMC", brom, func(c *x509.Certificate) {
		leafOnly(c)
		if leafExtension != nil {
			c.ExtraExtensions = []pkix.Extension{{Id: oidTCBInfo, Value: leafExtension}}
		}
	})
	f.device = []*party{leaf, brom, model, root}
	rimRoot := issue(t, "RIM root", nil, nil)
	rimCA := issue(t, "RIM CA", rimRoot, nil)
	f.rim = []*party{issue(t, "RIM signer", rimCA, leafOnly), rimCA, rimRoot}
	f.opaque = []field{{opaqueDriver, []byte("590.1.2\x00")}, {opaqueVBIOS, []byte{0, 0x83, 0, 0x97, 9, 0, 0, 0}}}
	for i := 1; i <= 64; i++ {
		f.blocks[i] = sha512.Sum384([]byte{byte(i)})
	}
	f.driver = map[int]string{3: f.hex(4), 7: f.hex(8), indexNVDEC0: f.hex(indexNVDEC0 + 1)}
	f.vbios = map[int]string{9: strings.Repeat("00", 48) + "," + f.hex(10)}
	return f
}

// hex is the digest in SPDM block i.
func (f *fake) hex(i int) string { return fmt.Sprintf("%x", f.blocks[i]) }

func (f *fake) report(t *testing.T) []byte {
	b := append([]byte{0x11, 0xe0, 1, 0xff}, f.nonce[:]...)
	var record, opaque []byte
	for i := 1; i <= 64; i++ {
		if v, ok := f.blocks[i]; ok {
			record = append(record, byte(i), 1, 51, 0, 1, 48, 0)
			record = append(record, v[:]...)
		}
	}
	for _, o := range f.opaque {
		opaque = binary.LittleEndian.AppendUint16(opaque, uint16(o.kind))
		opaque = binary.LittleEndian.AppendUint16(opaque, uint16(len(o.value)))
		opaque = append(opaque, o.value...)
	}
	b = append(b, 0, 0x11, 0x60, 0, 0, byte(len(f.blocks)), byte(len(record)), byte(len(record)>>8), 0)
	b = append(append(b, record...), make([]byte, 32)...)
	b = append(binary.LittleEndian.AppendUint16(b, uint16(len(opaque))), opaque...)
	return append(b, f.device[0].raw(t, b)...)
}

func (f *fake) evidence(t *testing.T) Evidence {
	var chain bytes.Buffer
	for _, p := range f.device {
		if err := pem.Encode(&chain, &pem.Block{Type: "CERTIFICATE", Bytes: p.cert.Raw}); err != nil {
			t.Fatal(err)
		}
	}
	return Evidence{Report: f.report(t), Chain: chain.Bytes()}
}

func (f *fake) params(t *testing.T) Params {
	return Params{
		Nonce: f.nonce, Now: forgeTime,
		Roots: Roots{Device: sha256.Sum256(f.device[3].cert.Raw), RIM: sha256.Sum256(f.rim[2].cert.Raw)},
		RIMs:  [][]byte{f.sign(t, rimBody(f.driverV, f.driver)), f.sign(t, rimBody(f.vbiosV, f.vbios))},
	}
}

// rimBody is a RIM up to its signature.
func rimBody(version string, active map[int]string) string {
	var b strings.Builder
	fmt.Fprintf(&b, `<SoftwareIdentity xmlns="%[1]s" xmlns:n="%[1]s" xmlns:h="%[2]s" name="GB100"><n:Meta product="GB100" colloquialVersion="%[3]s"/><n:Payload>`, nsSWID, nsSHA384, version)
	for i := range 64 {
		state, digests := "False", strings.Repeat("00", 48)
		if v, ok := active[i]; ok {
			state, digests = "True", v
		}
		all := strings.Split(digests, ",")
		fmt.Fprintf(&b, `<n:Resource type="Measurement" index="%d" active="%s" alternatives="%d" size="48"`, i, state, len(all))
		for k, d := range all {
			fmt.Fprintf(&b, ` h:Hash%d="%s"`, k, d)
		}
		b.WriteString("/>\n")
	}
	return b.String() + "</n:Payload>"
}

// sign adds an enveloped signature to a document that lacks its end. It trusts
// the canonicaliser, which the recorded RIMs check.
func (f *fake) sign(t *testing.T, body string) []byte {
	t.Helper()
	return f.signWith(t, body, algEnveloped)
}

func (f *fake) signWith(t *testing.T, body, transform string) []byte {
	const end = "</SoftwareIdentity>"
	root, err := parseXML([]byte(body + end))
	if err != nil {
		t.Fatal(err)
	}
	digest := sha512.Sum384(canonical(root, nil))
	b64 := base64.StdEncoding.EncodeToString
	info := fmt.Sprintf(`<ds:SignedInfo><ds:CanonicalizationMethod Algorithm="%s"/><ds:SignatureMethod Algorithm="%s"/><ds:Reference URI=""><ds:Transforms><ds:Transform Algorithm="%s"/><ds:Transform Algorithm="%s"/></ds:Transforms><ds:DigestMethod Algorithm="%s"/><ds:DigestValue>%s</ds:DigestValue></ds:Reference></ds:SignedInfo>`,
		algCanonical, algSignature, transform, algCanonical, algDigest, b64(digest[:]))
	open := body + `<ds:Signature xmlns:ds="` + nsSignature + `">`
	if root, err = parseXML([]byte(open + info + "</ds:Signature>" + end)); err != nil {
		t.Fatal(err)
	}
	children, _ := root.elements()
	value := f.rim[0].raw(t, canonical(children[len(children)-1].children[0], nil))
	var certs strings.Builder
	for _, p := range f.rim {
		certs.WriteString("<ds:X509Certificate>" + b64(p.cert.Raw) + "</ds:X509Certificate>")
	}
	return []byte(open + info + "<ds:SignatureValue>" + b64(value) + "</ds:SignatureValue><ds:KeyInfo><ds:X509Data>" +
		certs.String() + "</ds:X509Data></ds:KeyInfo></ds:Signature>" + end)
}

// tcbInfo is a DiceTcbInfo: vendor, a firmware identifier, flags.
func tcbInfo(t *testing.T, digest []byte) []byte {
	t.Helper()
	entry, err := asn1.Marshal(fwidEntry{oidSHA384, digest})
	if err != nil {
		t.Fatal(err)
	}
	der, err := asn1.Marshal([]asn1.RawValue{
		{Class: asn1.ClassContextSpecific, Tag: 0, Bytes: []byte("NVIDIA")},
		{Class: asn1.ClassContextSpecific, Tag: tagFWIDs, IsCompound: true, Bytes: entry},
		{Class: asn1.ClassContextSpecific, Tag: 7, Bytes: []byte{0, 0}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return der
}
