package front

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"omega/attest"
	"omega/attest/atls"
	"omega/attest/eat"
	"omega/attest/psp"
	"omega/attest/snp"
	"omega/attest/verifier"
	"omega/init/internal/signer"
)

// pspRoot is one emulated PSP for all tests: its RSA keys take seconds.
var pspRoot = sync.OnceValues(func() (*psp.Root, error) {
	dir, err := os.MkdirTemp("", "omega-psp-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	return psp.LoadOrCreateRoot(filepath.Join(dir, "root"))
})

// device is an emulated PSP as the signer's report device.
type device struct {
	root   *psp.Root
	launch psp.Launch
}

type port struct {
	in  *bytes.Reader
	out bytes.Buffer
}

func (p *port) Read(b []byte) (int, error)  { return p.in.Read(b) }
func (p *port) Write(b []byte) (int, error) { return p.out.Write(b) }

func (d *device) Report(ctx context.Context, data [64]byte) (report, certs []byte, err error) {
	p := &port{in: bytes.NewReader(append([]byte("OPSP\x00\x00\x00\x40"), data[:]...))}
	if err := d.root.Serve(ctx, p, d.launch); err != nil {
		return nil, nil, err
	}
	b := p.out.Bytes()[4:]
	n := binary.BigEndian.Uint32(b)
	return b[4 : 4+n], b[8+n:], nil
}

// guest is a signer and a front as they run in a guest, in one process.
type guest struct {
	signer *signer.Signer
	id     *Identity
	launch psp.Launch
	policy attest.Bytes32
	root   *psp.Root
}

func newGuest(t *testing.T, n byte) *guest {
	t.Helper()
	root, err := pspRoot()
	if err != nil {
		t.Fatal(err)
	}
	g := &guest{launch: psp.Launch{Digest: [48]byte{n}, Firmware: "seabios-1.16.3"}, policy: attest.Bytes32{n}, root: root}
	if g.signer, err = signer.New(&device{root, g.launch}, rand.Reader, [16]byte{n}); err != nil {
		t.Fatal(err)
	}
	if g.id, err = NewIdentity(); err != nil {
		t.Fatal(err)
	}
	claims := attest.BootClaims{
		Version: attest.BootVersion, BootID: [16]byte{n}, PolicyDigest: g.policy, Profile: "cpu", SVN: 1, GPU: attest.GPUAbsent,
	}
	if err := g.signer.SetClaims(claims, nil); err != nil {
		t.Fatal(err)
	}
	if err := g.signer.SetFrontKeys(g.id.KeyDigest, [32]byte{5}); err != nil {
		t.Fatal(err)
	}
	text := fmt.Appendf(nil, "%s\n1\n%s\n", g.signer.Origin(), base64.StdEncoding.EncodeToString(make([]byte, 32)))
	if _, err := g.signer.SignCheckpoint(text); err != nil {
		t.Fatal(err)
	}
	g.certify(t, time.Now())
	return g
}

// certify gives the front a certificate with evidence of that time.
func (g *guest) certify(t *testing.T, at time.Time) {
	t.Helper()
	c, err := g.signer.Certificate(t.Context(), at)
	if err != nil {
		t.Fatal(err)
	}
	token, err := eat.MarshalCertificate(c)
	if err != nil {
		t.Fatal(err)
	}
	if err := g.id.Issue(token); err != nil {
		t.Fatal(err)
	}
}

func (g *guest) evidence(ctx context.Context, r attest.Request) ([]byte, error) {
	e, err := g.signer.Evidence(ctx, r.Nonce, attest.View{Visible: func(string) bool { return true }, Have: r.Have, Open: r.Open})
	if err != nil {
		return nil, err
	}
	return e.Marshal()
}

// serve runs the front on a free port and returns its address.
func (g *guest) serve(t *testing.T, peers *Peers) string {
	t.Helper()
	f := testFront()
	f.Evidence = g.evidence
	return g.serveWith(t, f, peers)
}

// appraiser accepts this guest's image and no other.
func (g *guest) appraiser(t *testing.T) *atls.Appraiser {
	t.Helper()
	roots, err := snp.AMDRoots()
	if err != nil {
		t.Fatal(err)
	}
	return &atls.Appraiser{Params: verifier.Params{
		AMDRoots: roots, EmulatedRoot: g.root.ARK(), Report: snp.DefaultPolicy(), MinSVN: 1,
		Manifest: &attest.Manifest{Predicate: attest.Release{
			Profile: "cpu", SVN: 1, Expires: time.Now().AddDate(0, 1, 0), PolicyDigest: g.policy,
			LaunchDigests: []attest.LaunchDigest{{VCPUs: 2, CPU: "EPYC-Milan", Digest: g.launch.Digest}},
		}},
	}}
}

// TestAClientWithNothingButTLSVerifiesAFront has only crypto/tls, net/http and
// attest/atls.
func TestAClientWithNothingButTLSVerifiesAFront(t *testing.T) {
	g, other := newGuest(t, 1), newGuest(t, 2)
	address := g.serve(t, nil)
	ask := func(a *atls.Appraiser) (string, error) {
		client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{
			InsecureSkipVerify: true, VerifyConnection: a.VerifyConnection,
		}}}
		resp, err := client.Get("https://" + address + "/log/checkpoint")
		if err != nil {
			return "", err
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		return string(body), err
	}
	if body, err := ask(g.appraiser(t)); err != nil || body != "note" {
		t.Errorf("%q, %v", body, err)
	}
	if _, err := ask(other.appraiser(t)); !errors.Is(err, attest.ErrMismatch) {
		t.Errorf("another release: %v", err)
	}
	strict := g.appraiser(t)
	strict.Params.EmulatedRoot = nil
	if _, err := ask(strict); !errors.Is(err, verifier.ErrEmulated) {
		t.Errorf("without the test root: %v", err)
	}
	g.certify(t, time.Now().Add(-25*time.Hour))
	if _, err := ask(g.appraiser(t)); !errors.Is(err, attest.ErrSignature) {
		t.Errorf("a certificate that was not renewed: %v", err)
	}
	g.certify(t, time.Now())
	if _, err := ask(g.appraiser(t)); err != nil {
		t.Errorf("after its renewal: %v", err)
	}
}
