package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"log/slog"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"omega/attest"
	"omega/attest/kbs/kbstest"
	"omega/attest/psp"
	"omega/attest/snp"
	"omega/init/internal/signer"
	"omega/internal/wire"
	"omega/policy"
	"omega/policy/gateway"
)

// pspDevice is the emulated PSP as the signer's device.
type pspDevice struct{ root *psp.Root }

func (d pspDevice) Report(ctx context.Context, data [64]byte) (report, certs []byte, err error) {
	out := new(bytes.Buffer)
	in := bytes.NewReader(append([]byte("OPSP\x00\x00\x00\x40"), data[:]...))
	if err := d.root.Serve(ctx, struct {
		readOnly
		writeOnly
	}{readOnly{in}, writeOnly{out}}, psp.Launch{Digest: [48]byte{48}}); err != nil {
		return nil, nil, err
	}
	b := out.Bytes()[4:]
	n := binary.BigEndian.Uint32(b)
	return b[4 : 4+n], b[8+n:], nil
}

type readOnly struct{ from *bytes.Reader }

func (r readOnly) Read(p []byte) (int, error) { return r.from.Read(p) }

type writeOnly struct{ to *bytes.Buffer }

func (w writeOnly) Write(p []byte) (int, error) { return w.to.Write(p) }

// brokerRoot is one emulated PSP for all tests: its RSA keys take seconds.
var brokerRoot = sync.OnceValues(func() (*psp.Root, error) {
	dir, err := os.MkdirTemp("", "omega-psp-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	return psp.LoadOrCreateRoot(filepath.Join(dir, "root"))
})

// brokered is a gateway's secrets with a signer behind a channel and a broker
// behind TLS.
type brokered struct {
	*secrets
	broker *kbstest.Broker
	log    *bytes.Buffer
}

func newBrokered(t *testing.T, change func(*policy.Document)) *brokered {
	t.Helper()
	root, err := brokerRoot()
	if err != nil {
		t.Fatal(err)
	}
	made, err := signer.New(pspDevice{root}, rand.Reader, [16]byte{1})
	if err != nil {
		t.Fatal(err)
	}
	roots, err := snp.AMDRoots()
	if err != nil {
		t.Fatal(err)
	}
	accepts := snp.DefaultPolicy()
	accepts.Measurements = []attest.Bytes48{{48}}
	b := &brokered{log: new(bytes.Buffer), broker: &kbstest.Broker{Resources: map[string][]byte{"default/keys/search": []byte("s3cr3t-value")}, Policy: accepts, AMDRoots: roots, EmulatedRoot: root.ARK()}}
	server := httptest.NewTLSServer(b.broker)
	t.Cleanup(server.Close)
	pool := x509.NewCertPool()
	pool.AddCert(server.Certificate())
	d := &policy.Document{Broker: &policy.Broker{URL: "https://example.com", Private: true},
		Web: []policy.Web{{Name: "api", Secrets: []policy.Secret{{Name: "search", Header: "Authorization", Resource: "kbs:///default/keys/search"}, {Name: "lost", Header: "X-Lost", Resource: "kbs:///default/keys/lost"}}}}}
	if change != nil {
		change(d)
	}
	near, far, err := wire.Pair()
	if err != nil {
		t.Fatal(err)
	}
	ours, err := wire.NewConn(near)
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := wire.NewConn(far)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ours.Close(); _ = theirs.Close() })
	go func() { _ = wire.Serve(t.Context(), theirs, (&signerChild{signer: made}).brokerHandlers()) }()
	key := (*policy.Key)(nil)
	if d.Broker != nil {
		key = d.Broker.Key
	}
	if key != nil && key.ID == "its own" {
		sum := sha256.Sum256(server.Certificate().RawSubjectPublicKeyInfo)
		key.ID = hex.EncodeToString(sum[:])
	}
	if key != nil {
		pool = x509.NewCertPool() // nobody vouches for it
	}
	transport := gateway.Transport(pool, map[string]string{"example.com:443": server.Listener.Addr().String()}, true, key)
	if b.secrets, err = newSecrets(d, transport, brokerAttester{wire.NewClient(ours)}, slog.New(slog.NewTextHandler(b.log, nil))); err != nil {
		t.Fatal(err)
	}
	return b
}

func TestASecretComesFromTheBrokerOnceWhenItIsNeeded(t *testing.T) {
	b := newBrokered(t, nil)
	if n := len(b.broker.Seen()); n != 0 {
		t.Errorf("%d messages before anybody needs a secret", n)
	}
	var asking sync.WaitGroup
	for range 8 {
		asking.Go(func() {
			if v, err := b.value("search"); err != nil || string(v) != "s3cr3t-value" {
				t.Errorf("%q, %v", v, err)
			}
		})
	}
	asking.Wait()
	if n := len(b.broker.Seen()); n != 3 {
		t.Errorf("%d messages, want one handshake", n)
	}
	if strings.Contains(b.log.String(), "s3cr3t") {
		t.Errorf("the log has it: %s", b.log)
	}
}

func TestWithoutABrokersWordThereIsNoSecret(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*policy.Document)
		spoil  func(*brokered)
		secret string
		want   error
	}{
		"no broker in the policy":          {func(d *policy.Document) { d.Broker = nil }, nil, "search", errNoBroker},
		"a secret that the policy has not": {nil, nil, "other", errNotASecret},
		"an emulated platform":             {nil, func(b *brokered) { b.broker.EmulatedRoot = nil }, "search", errBrokerNo},
		"a resource that is not there":     {nil, nil, "lost", errBrokerNo},
		"another key than the policy names": {func(d *policy.Document) { d.Broker.Key = &policy.Key{ID: strings.Repeat("ab", 32)} }, nil,
			"search", errBrokerAway},
		"a broker that has another name": {func(d *policy.Document) { d.Broker.URL = "https://broker.example.org" }, nil, "search", errBrokerAway},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBrokered(t, test.change)
			if test.spoil != nil {
				test.spoil(b)
			}
			if v, err := b.value(test.secret); !errors.Is(err, test.want) || v != nil {
				t.Errorf("%q, %v, want %v", v, err, test.want)
			}
		})
	}
}

func TestABrokersKeyTakesThePlaceOfItsCertificatesIssuer(t *testing.T) {
	b := newBrokered(t, func(d *policy.Document) { d.Broker.Key = &policy.Key{ID: "its own"} })
	if v, err := b.value("search"); err != nil || string(v) != "s3cr3t-value" {
		t.Errorf("%q, %v", v, err)
	}
}

func TestARefusalIsBelievedForAWhile(t *testing.T) {
	b := newBrokered(t, nil)
	now := time.Now()
	b.now = func() time.Time { return now }
	root := b.broker.EmulatedRoot
	b.broker.EmulatedRoot = nil
	for range 3 {
		if _, err := b.value("search"); !errors.Is(err, errBrokerNo) {
			t.Fatal(err)
		}
	}
	asked := len(b.broker.Seen())
	b.broker.EmulatedRoot = root
	if _, err := b.value("search"); err == nil || len(b.broker.Seen()) != asked {
		t.Errorf("asked again at once: %v", err)
	}
	now = now.Add(secretPause)
	if v, err := b.value("search"); err != nil || string(v) != "s3cr3t-value" {
		t.Errorf("after a while: %q, %v", v, err)
	}
}

func TestHandshakesOfOneChildAreNotAnothers(t *testing.T) {
	root, err := brokerRoot()
	if err != nil {
		t.Fatal(err)
	}
	made, err := signer.New(pspDevice{root}, rand.Reader, [16]byte{1})
	if err != nil {
		t.Fatal(err)
	}
	s := &signerChild{signer: made}
	one, two := &brokerSide{signer: s}, &brokerSide{signer: s}
	reply, err := one.attest(t.Context(), brokerAttestRequest{Nonce: "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="})
	if err != nil {
		t.Fatal(err)
	}
	req := brokerUnwrapRequest{Key: reply.Key, Ephemeral: make([]byte, 65), Wrapped: make([]byte, 40)}
	if _, err := two.unwrap(t.Context(), req); err == nil || !strings.Contains(err.Error(), "not known") {
		t.Errorf("another child's key: %v", err)
	}
	if _, err := one.unwrap(t.Context(), req); err == nil || strings.Contains(err.Error(), "not known") {
		t.Errorf("its own key with nothing wrapped to it: %v", err)
	}
	req.Wrapped = req.Wrapped[:39]
	if _, err := one.unwrap(t.Context(), req); err == nil {
		t.Error("a wrapped key that is too short")
	}
}
