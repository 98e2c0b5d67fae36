// Package psp is the emulated PSP of the plain-QEMU profile. It runs on the
// host, outside of the guest, and signs reports of the form that AMD's secure
// processor makes, over a launch digest that the host computed from the bytes
// it launched. Its keys hang under a root made once per machine, which nobody
// trusts unless told so by name: it proves the path of evidence, no hardware.
package psp

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"time"

	"omega/attest/snp"
)

// Names of the files of a root. The ARK's and the ASK's private keys are
// forgotten once they have signed, so that no second VCEK can be made.
const (
	ARKFile  = "ark.pem"
	askFile  = "ask.pem"
	vcekFile = "vcek.pem"
	keyFile  = "vcek.key"
)

// organization stands in every certificate's name, so that nobody takes the
// root for AMD's.
const organization = "Omega emulated PSP, not AMD"

// tcb is the TCB_VERSION that the emulated PSP claims, a recent Milan's.
const tcb snp.TCB = 0xdb18000000000004

// Root is the emulated PSP of this machine: its VCEK and the chain above it.
type Root struct {
	ark, ask, vcek *x509.Certificate
	key            *ecdsa.PrivateKey
	chipID         [64]byte
}

// ARK is the root certificate, which a Verifier must be given by name.
func (r *Root) ARK() *x509.Certificate { return r.ark }

// LoadOrCreateRoot reads the root in dir, or makes it where there is none.
func LoadOrCreateRoot(dir string) (*Root, error) {
	r, err := load(dir)
	if errors.Is(err, fs.ErrNotExist) {
		if err = create(dir); err != nil {
			return nil, fmt.Errorf("creating emulated PSP root %s: %w", dir, err)
		}
		r, err = load(dir)
	}
	if err != nil {
		return nil, fmt.Errorf("emulated PSP root %s: %w; remove the folder to make a new one", dir, err)
	}
	return r, nil
}

func load(dir string) (*Root, error) {
	r := &Root{}
	for name, to := range map[string]**x509.Certificate{ARKFile: &r.ark, askFile: &r.ask, vcekFile: &r.vcek} {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			return nil, err
		}
		if *to, err = snp.ParseCertificate(b); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
	}
	b, err := os.ReadFile(filepath.Join(dir, keyFile))
	if err != nil {
		return nil, err
	}
	if r.key, err = parseKey(b); err != nil {
		return nil, fmt.Errorf("%s: %w", keyFile, err)
	}
	for _, e := range r.vcek.Extensions {
		if e.Id.Equal(oidHWID) && len(e.Value) == len(r.chipID) {
			copy(r.chipID[:], e.Value)
		}
	}
	return r, r.check()
}

// check signs a report and verifies it as a relying party would, so that a
// damaged or expired root is found before a guest depends on it.
func (r *Root) check() error {
	report, err := r.report(Launch{}, [64]byte{})
	if err != nil {
		return err
	}
	chain := snp.Chain{Leaf: r.vcek, Intermediate: r.ask}
	_, err = snp.Verify(report, chain, []snp.Root{{Product: snp.Milan, ARK: r.ark}}, time.Now())
	return err
}

func parseKey(b []byte) (*ecdsa.PrivateKey, error) {
	block, rest := pem.Decode(b)
	if block == nil || len(rest) != 0 {
		return nil, errors.New("not one PEM block")
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, err
	}
	ec, ok := key.(*ecdsa.PrivateKey)
	if !ok || ec.Curve != elliptic.P384() {
		return nil, errors.New("not a P-384 key")
	}
	return ec, nil
}

// create makes the whole root beside its place and moves it there at once, so
// that an interrupted or concurrent start leaves no half of it.
func create(dir string) error {
	if err := os.MkdirAll(filepath.Dir(dir), 0o700); err != nil {
		return err
	}
	tmp, err := os.MkdirTemp(filepath.Dir(dir), ".psp-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	files, err := makeChain()
	if err != nil {
		return err
	}
	for name, block := range files {
		if err := os.WriteFile(filepath.Join(tmp, name), pem.EncodeToMemory(block), 0o600); err != nil {
			return err
		}
	}
	err = os.Rename(tmp, dir)
	if err != nil {
		if _, again := os.Stat(filepath.Join(dir, ARKFile)); again == nil {
			return nil // another process was faster
		}
	}
	return err
}

// makeChain follows AMD's shape: ARK and ASK RSA-4096 with PSS and SHA-384, a
// VCEK on P-384 with the extensions of AMD publication 57230.
func makeChain() (map[string]*pem.Block, error) {
	arkKey, err := rsa.GenerateKey(rand.Reader, 4096)
	if err != nil {
		return nil, err
	}
	askKey, err := rsa.GenerateKey(rand.Reader, 4096)
	if err != nil {
		return nil, err
	}
	vcekKey, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		return nil, err
	}
	ark, err := issue(authority("ARK-Milan"), arkKey.Public(), issuer{nil, arkKey})
	if err != nil {
		return nil, err
	}
	ask, err := issue(authority("SEV-Milan"), askKey.Public(), issuer{ark, arkKey})
	if err != nil {
		return nil, err
	}
	leaf := template("SEV-VCEK", 7)
	if leaf.ExtraExtensions, err = vcekExtensions(); err != nil {
		return nil, err
	}
	vcek, err := issue(leaf, vcekKey.Public(), issuer{ask, askKey})
	if err != nil {
		return nil, err
	}
	key, err := x509.MarshalPKCS8PrivateKey(vcekKey)
	if err != nil {
		return nil, err
	}
	return map[string]*pem.Block{
		ARKFile:  {Type: "CERTIFICATE", Bytes: ark.Raw},
		askFile:  {Type: "CERTIFICATE", Bytes: ask.Raw},
		vcekFile: {Type: "CERTIFICATE", Bytes: vcek.Raw},
		keyFile:  {Type: "PRIVATE KEY", Bytes: key},
	}, nil
}

func template(name string, years int) *x509.Certificate {
	now := time.Now()
	return &x509.Certificate{
		Subject:            pkix.Name{Organization: []string{organization}, CommonName: name},
		NotBefore:          now.Add(-time.Hour),
		NotAfter:           now.AddDate(years, 0, 0),
		SignatureAlgorithm: x509.SHA384WithRSAPSS,
	}
}

func authority(name string) *x509.Certificate {
	t := template(name, 25)
	t.BasicConstraintsValid, t.IsCA, t.KeyUsage = true, true, x509.KeyUsageCertSign
	return t
}

// issuer signs certificates; one without a certificate signs its own.
type issuer struct {
	cert *x509.Certificate
	key  crypto.Signer
}

func issue(t *x509.Certificate, public crypto.PublicKey, by issuer) (*x509.Certificate, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, err
	}
	t.SerialNumber = serial.Add(serial, big.NewInt(1))
	parent := by.cert
	if parent == nil {
		parent = t
	}
	der, err := x509.CreateCertificate(rand.Reader, t, parent, public, by.key)
	if err != nil {
		return nil, fmt.Errorf("certificate %s: %w", t.Subject.CommonName, err)
	}
	return x509.ParseCertificate(der)
}

var (
	oidHWID    = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 3704, 1, 4}
	oidProduct = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 3704, 1, 2}
	oidStruct  = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 3704, 1, 1}
	oidTCB     = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 3704, 1, 3}
)

// tcbOIDs are the last numbers of the TCB extensions in the order of the bytes
// of Milan's TCB_VERSION.
var tcbOIDs = [8]int{1, 2, 4, 5, 6, 7, 3, 8}

func vcekExtensions() ([]pkix.Extension, error) {
	product, err := asn1.MarshalWithParams("Milan-B0", "ia5")
	if err != nil {
		return nil, err
	}
	out := []pkix.Extension{{Id: oidStruct, Value: []byte{asn1.TagInteger, 1, 0}}, {Id: oidProduct, Value: product}}
	for i, last := range tcbOIDs {
		v, err := asn1.Marshal(int(byte(tcb >> (8 * i))))
		if err != nil {
			return nil, err
		}
		out = append(out, pkix.Extension{Id: append(oidTCB[:len(oidTCB):len(oidTCB)], last), Value: v})
	}
	hwid := make([]byte, 64)
	if _, err := rand.Read(hwid); err != nil {
		return nil, err
	}
	return append(out, pkix.Extension{Id: oidHWID, Value: hwid}), nil
}
