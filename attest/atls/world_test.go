package atls

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"omega/attest"
	"omega/attest/cmw"
	"omega/attest/eat"
	"omega/attest/psp"
	"omega/attest/snp"
	"omega/attest/verifier"
)

// testRoot is one emulated PSP for all tests: its RSA keys take seconds.
var testRoot = sync.OnceValues(func() (*psp.Root, error) {
	dir, err := os.MkdirTemp("", "omega-psp-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	return psp.LoadOrCreateRoot(filepath.Join(dir, "root"))
})

// machine is a platform with an emulated PSP below it.
type machine struct {
	root   *psp.Root
	launch psp.Launch
	boot   attest.BootClaims
	key    *ecdsa.PrivateKey
	log    ed25519.PrivateKey
	spki   [32]byte
}

func newMachine(t *testing.T, id byte) *machine {
	t.Helper()
	root, err := testRoot()
	if err != nil {
		t.Fatal(err)
	}
	m := &machine{root: root, launch: psp.Launch{Digest: [48]byte{id}, Firmware: "seabios-1.16.3"}}
	m.log = ed25519.NewKeyFromSeed(bytes.Repeat([]byte{id}, 32))
	if m.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		t.Fatal(err)
	}
	spki, err := x509.MarshalPKIXPublicKey(m.key.Public())
	if err != nil {
		t.Fatal(err)
	}
	m.spki = sha256.Sum256(spki)
	m.boot = attest.BootClaims{
		Version: attest.BootVersion, BootID: [16]byte{id}, AttestationKey: [32]byte{id}, LogKey: attest.Bytes32(m.log.Public().(ed25519.PublicKey)),
		TLSKey: m.spki, HPKEKey: [32]byte{5}, LogOrigin: "omega/" + hex.EncodeToString(append([]byte{id}, make([]byte, 15)...)),
		PolicyDigest: [32]byte{id, 6}, Profile: "cpu", SVN: 1, GPU: attest.GPUAbsent,
	}
	return m
}

// manifest is the release that the machine runs.
func (m *machine) manifest() *attest.Manifest {
	return &attest.Manifest{Predicate: attest.Release{
		Profile: "cpu", SVN: 1, Expires: time.Now().AddDate(0, 1, 0), PolicyDigest: m.boot.PolicyDigest,
		LaunchDigests: []attest.LaunchDigest{{VCPUs: 2, CPU: "EPYC-Milan", Digest: m.launch.Digest}},
	}}
}

// appraiser accepts the machine and no other.
func (m *machine) appraiser(t *testing.T) *Appraiser {
	t.Helper()
	roots, err := snp.AMDRoots()
	if err != nil {
		t.Fatal(err)
	}
	return &Appraiser{Params: verifier.Params{
		Manifest: m.manifest(), AMDRoots: roots, EmulatedRoot: m.root.ARK(), Report: snp.DefaultPolicy(), MinSVN: 1,
	}}
}

func (m *machine) report(ctx context.Context, data [64]byte) (report, certs []byte, err error) {
	port := &memoryPort{in: bytes.NewReader(append([]byte("OPSP\x00\x00\x00\x40"), data[:]...))}
	if err := m.root.Serve(ctx, port, m.launch); err != nil {
		return nil, nil, err
	}
	b := port.out.Bytes()[4:]
	n := binary.BigEndian.Uint32(b)
	return b[4 : 4+n], b[8+n:], nil
}

type memoryPort struct {
	in  *bytes.Reader
	out bytes.Buffer
}

func (p *memoryPort) Read(b []byte) (int, error)  { return p.in.Read(b) }
func (p *memoryPort) Write(b []byte) (int, error) { return p.out.Write(b) }

// token is the evidence for the machine's TLS certificate.
func (m *machine) token(t *testing.T, at time.Time) []byte {
	t.Helper()
	c := &attest.CertificateEvidence{Version: attest.CertificateVersion, Boot: m.boot, NotBefore: at.Unix()}
	var err error
	if c.Report, c.Certificates, err = m.report(t.Context(), c.ReportData(m.spki)); err != nil {
		t.Fatal(err)
	}
	table, err := snp.ParseTable(c.Certificates)
	if err != nil {
		t.Fatal(err)
	}
	table.ARK = nil // as the signer does
	c.Certificates = table.Marshal()
	b, err := eat.MarshalCertificate(c)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// certificate is a certificate for key that carries the record.
func certificate(t *testing.T, key *ecdsa.PrivateKey, r *cmw.Record, at time.Time) *tls.Certificate {
	t.Helper()
	template := &x509.Certificate{NotBefore: at, NotAfter: at.Add(attest.CertificateMaxAge)}
	if r != nil {
		ext, err := r.Extension()
		if err != nil {
			t.Fatal(err)
		}
		template.ExtraExtensions = []pkix.Extension{ext}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func record(token []byte) *cmw.Record {
	return &cmw.Record{Type: eat.CertificateMediaType, Value: token, Kind: cmw.Evidence}
}

// platform is what the machine shows of itself.
func (m *machine) platform(t *testing.T) Platform {
	t.Helper()
	c := certificate(t, m.key, record(m.token(t, time.Now())), time.Now())
	return Platform{Certificate: func() (*tls.Certificate, error) { return c, nil }, Evidence: m.evidence}
}

// evidence is what an honest guest answers to a nonce.
func (m *machine) evidence(ctx context.Context, nonce [32]byte) ([]byte, error) {
	nonces := attest.Nonces{nonce}
	e := &attest.Evidence{
		Version: attest.EvidenceVersion, Boot: m.boot, Agents: []attest.Agent{}, Nonce: nonces.Proofs()[0],
		Session: attest.Session{Version: attest.SessionVersion, NonceRoot: nonces.Root(), NonceCount: 1, AgentsRoot: attest.AgentsRoot(nil)},
	}
	text := fmt.Sprintf("%s\n3\n%s\n", m.boot.LogOrigin, base64.StdEncoding.EncodeToString(make([]byte, 32)))
	id := sha256.Sum256(append([]byte(m.boot.LogOrigin+"\n\x01"), m.boot.LogKey[:]...))
	e.Session.Checkpoint = fmt.Appendf(nil, "%s\n\u2014 %s %s\n", text, m.boot.LogOrigin,
		base64.StdEncoding.EncodeToString(append(id[:4:4], ed25519.Sign(m.log, []byte(text))...)))
	var err error
	if e.Report, e.Certificates, err = m.report(ctx, attest.ReportData(e.Boot.Digest(), e.Session.Digest())); err != nil {
		return nil, err
	}
	return e.Marshal()
}
