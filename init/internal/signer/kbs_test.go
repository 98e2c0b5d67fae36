package signer_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"omega/attest"
	"omega/attest/kbs"
	"omega/attest/kbs/kbstest"
	"omega/attest/kbs/rcar"
	"omega/attest/psp"
	"omega/attest/snp"
	"omega/init/internal/signer"
)

// pspDevice is the emulated PSP as the signer's device; it remembers what it
// was asked to sign.
type pspDevice struct {
	t    *testing.T
	root *psp.Root
	mu   sync.Mutex
	seen [][64]byte
}

func (d *pspDevice) Report(ctx context.Context, data [64]byte) (report, certs []byte, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.seen = append(d.seen, data)
	var out bytes.Buffer
	in := bytes.NewReader(append([]byte("OPSP\x00\x00\x00\x40"), data[:]...))
	if err := d.root.Serve(ctx, struct {
		*bytes.Reader
		writer
	}{in, writer{&out}}, psp.Launch{Digest: [48]byte{48}}); err != nil {
		return nil, nil, err
	}
	b := out.Bytes()[4:]
	n := binary.BigEndian.Uint32(b)
	return b[4 : 4+n], b[8+n:], nil
}

type writer struct{ to *bytes.Buffer }

func (w writer) Write(b []byte) (int, error) { return w.to.Write(b) }

// brokerRoot is one emulated PSP for all tests: its RSA keys take seconds.
var brokerRoot = sync.OnceValues(func() (*psp.Root, error) {
	dir, err := os.MkdirTemp("", "omega-psp-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	return psp.LoadOrCreateRoot(filepath.Join(dir, "root"))
})

func newBroker(t *testing.T) (*signer.Broker, *pspDevice) {
	t.Helper()
	root, err := brokerRoot()
	if err != nil {
		t.Fatal(err)
	}
	d := &pspDevice{t: t, root: root}
	s, err := signer.New(d, rand.Reader, [16]byte{1})
	if err != nil {
		t.Fatal(err)
	}
	return s.Broker(), d
}

func TestTheSignerGetsASecretOfAKeyBroker(t *testing.T) {
	b, device := newBroker(t)
	roots, err := snp.AMDRoots()
	if err != nil {
		t.Fatal(err)
	}
	policy := snp.DefaultPolicy()
	policy.Measurements = []attest.Bytes48{{48}}
	broker := &kbstest.Broker{Resources: map[string][]byte{"r/t/g": []byte("secret")}, Policy: policy, AMDRoots: roots, EmulatedRoot: device.root.ARK()}
	server := httptest.NewTLSServer(broker)
	defer server.Close()
	client, err := kbs.New(server.URL, server.Client().Transport, b)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := client.Get(t.Context(), "kbs:///r/t/g"); err != nil || string(got) != "secret" {
		t.Fatalf("got %q, %v", got, err)
	}
	broker.EmulatedRoot = nil
	if got, err := client.Get(t.Context(), "kbs:///r/t/g"); !errors.Is(err, kbs.ErrRefused) || got != nil {
		t.Errorf("an emulated platform got %q, %v", got, err)
	}
	// All that was signed has the broker's form, which no REPORT_DATA of
	// Omega's own has: zeros behind 48 bytes.
	for _, data := range device.seen {
		if !bytes.Equal(data[48:], make([]byte, 16)) || bytes.Equal(data[:48], make([]byte, 48)) {
			t.Errorf("signed %x", data)
		}
	}
}

func TestTheSignerSignsForNoncesOnly(t *testing.T) {
	b, device := newBroker(t)
	for _, nonce := range []string{"", "AAAA", `AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA","tee-pubkey":{}`, string(make([]byte, 4096))} {
		if _, _, err := b.AttestKey(t.Context(), nonce); err == nil {
			t.Errorf("nonce %.40q is signed for", nonce)
		}
	}
	if len(device.seen) != 0 {
		t.Errorf("%d reports were made", len(device.seen))
	}
}

func TestAKeyIsKeptForFewHandshakesAndEachHasItsOwn(t *testing.T) {
	b, _ := newBroker(t)
	nonce := base64.StdEncoding.EncodeToString(make([]byte, 32))
	var first uint64
	for i := range 9 {
		_, key, err := b.AttestKey(t.Context(), nonce)
		if err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			first = key
		} else if key == first {
			t.Error("two handshakes have one key")
		}
	}
	if _, err := b.UnwrapKey(t.Context(), first, rcar.Wrapped{}); err == nil {
		t.Error("the oldest key is still there")
	}
	if _, err := b.UnwrapKey(t.Context(), 1000, rcar.Wrapped{}); err == nil {
		t.Error("an unknown key unwraps")
	}
}
