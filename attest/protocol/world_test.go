package protocol

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"math/big"
	"slices"
	"testing"
	"time"

	"omega/attest"
	"omega/attest/snp"
	"omega/internal/dsse"
)

// The TCBs of the model: the default policy's floor for Milan, and one below.
const (
	goodTCB snp.TCB = 0xdb18000000000004
	oldTCB  snp.TCB = 0xd118000000000004
)

// clock is the time of every test; certificates are made around it.
var clock = time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC)

// amd is a vendor with a root key; the model has the real one and a forger's.
type amd struct {
	root     snp.Root
	ask      *x509.Certificate
	askKey   *rsa.PrivateKey
	nextChip byte
}

// newAMD makes a vendor in the shape of AMD's. Its keys are short, which makes
// the search fast: the model takes for granted that signatures hold.
func newAMD(t testing.TB) *amd {
	t.Helper()
	arkKey, askKey := shortKey(t), shortKey(t)
	ark := issue(t, authority("ARK-Milan"), nil, arkKey.Public(), arkKey)
	ask := issue(t, authority("SEV-Milan"), ark, askKey.Public(), arkKey)
	return &amd{root: snp.Root{Product: snp.Milan, ARK: ark, Intermediates: []*x509.Certificate{ask}}, ask: ask, askKey: askKey}
}

func shortKey(t testing.TB) *rsa.PrivateKey {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func authority(name string) *x509.Certificate {
	c := template(name)
	c.BasicConstraintsValid, c.IsCA, c.KeyUsage = true, true, x509.KeyUsageCertSign
	return c
}

func template(name string) *x509.Certificate {
	return &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, SignatureAlgorithm: x509.SHA384WithRSAPSS,
		NotBefore: clock.AddDate(-1, 0, 0), NotAfter: clock.AddDate(1, 0, 0),
	}
}

func issue(t testing.TB, c, parent *x509.Certificate, public crypto.PublicKey, by *rsa.PrivateKey) *x509.Certificate {
	t.Helper()
	if parent == nil {
		parent = c
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, public, by)
	if err != nil {
		t.Fatal(err)
	}
	out, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// chip signs reports: a secure processor at one TCB.
type chip struct {
	id    [64]byte
	tcb   snp.TCB
	key   *ecdsa.PrivateKey
	table []byte
}

func (v *amd) chip(t testing.TB, tcb snp.TCB) *chip {
	t.Helper()
	v.nextChip++
	c := &chip{id: [64]byte{v.nextChip}, tcb: tcb}
	var err error
	if c.key, err = ecdsa.GenerateKey(elliptic.P384(), rand.Reader); err != nil {
		t.Fatal(err)
	}
	arc := func(last ...int) asn1.ObjectIdentifier {
		return append(asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 3704, 1}, last...)
	}
	leaf := template("SEV-VCEK")
	leaf.ExtraExtensions = []pkix.Extension{
		{Id: arc(1), Value: []byte{asn1.TagInteger, 1, 0}},
		{Id: arc(2), Value: append([]byte{asn1.TagIA5String, 8}, "Milan-B0"...)},
		{Id: arc(4), Value: c.id[:]},
	}
	for i, last := range []int{1, 2, 4, 5, 6, 7, 3, 8} { // publication 57230: the bytes of Milan's TCB_VERSION
		der, err := asn1.Marshal(int(byte(tcb >> (8 * i))))
		if err != nil {
			t.Fatal(err)
		}
		leaf.ExtraExtensions = append(leaf.ExtraExtensions, pkix.Extension{Id: arc(3, last), Value: der})
	}
	vcek := issue(t, leaf, v.ask, c.key.Public(), v.askKey)
	c.table = (&snp.Table{VCEK: vcek.Raw}).Marshal()
	return c
}

// launch is what was started on a chip, and how.
type launch struct {
	chip        *chip
	measurement [48]byte
	policy      snp.GuestPolicy
}

// report is the chip's signature over the launch and 64 bytes of its guest.
func (l launch) report(t testing.TB, data [64]byte) []byte {
	t.Helper()
	r := &snp.Report{
		Version: 3, GuestPolicy: l.policy, PlatformInfo: snp.PlatformAliasCheck, ReportData: data, Measurement: l.measurement,
		CurrentTCB: l.chip.tcb, ReportedTCB: l.chip.tcb, CommittedTCB: l.chip.tcb, LaunchTCB: l.chip.tcb,
		Family: 0x19, Model: 1, ChipID: l.chip.id,
	}
	return l.chip.sign(t, r)
}

func (c *chip) sign(t testing.TB, r *snp.Report) []byte {
	t.Helper()
	sum := sha512.Sum384(r.Marshal()[:snp.SignedSize])
	rr, ss, err := ecdsa.Sign(rand.Reader, c.key, sum[:])
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range []struct {
		to   []byte
		from *big.Int
	}{{r.R[:], rr}, {r.S[:], ss}} {
		n.from.FillBytes(n.to)
		slices.Reverse(n.to)
	}
	return r.Marshal()
}

// boot is one life of a platform: its claims, and the private keys behind its log
// and its word.
type boot struct {
	claims    attest.BootClaims
	log, tell ed25519.PrivateKey
}

// newBoot makes the claims of a boot of the release; seed stands for its keys.
func newBoot(seed byte, release attest.Release) boot {
	b := boot{log: ed25519.NewKeyFromSeed(bytes.Repeat([]byte{seed}, 32)), tell: ed25519.NewKeyFromSeed(bytes.Repeat([]byte{seed + 128}, 32))}
	b.claims = attest.BootClaims{
		Version: attest.BootVersion, BootID: [16]byte{seed}, AttestationKey: attest.Bytes32(b.tell.Public().(ed25519.PublicKey)), TLSKey: [32]byte{seed, 2}, HPKEKey: [32]byte{seed, 3},
		LogKey: attest.Bytes32(b.log.Public().(ed25519.PublicKey)), LogOrigin: "omega/" + hex.EncodeToString(append([]byte{seed}, make([]byte, 15)...)),
		PolicyDigest: release.PolicyDigest, Profile: release.Profile, SVN: release.SVN, GPU: attest.GPUAbsent,
	}
	return b
}

// checkpoint is a C2SP checkpoint of the boot's log.
func (b *boot) checkpoint() []byte {
	origin := b.claims.LogOrigin
	text := fmt.Sprintf("%s\n3\n%s\n", origin, base64.StdEncoding.EncodeToString(make([]byte, 32)))
	id := sha256.Sum256(append([]byte(origin+"\n\x01"), b.claims.LogKey[:]...))
	return fmt.Appendf(nil, "%s\n— %s %s\n", text, origin, base64.StdEncoding.EncodeToString(append(id[:4:4], ed25519.Sign(b.log, []byte(text))...)))
}

// session is the statement that the boot makes for a nonce and a set of agents.
// Somebody else's nonce shares it.
func (b *boot) session(nonce attest.Bytes32, agents []attest.Agent) attest.Session {
	shared := attest.Nonces{othersNonce, nonce}
	return attest.Session{
		Version: attest.SessionVersion, NonceRoot: shared.Root(), NonceCount: uint32(len(shared)), Checkpoint: b.checkpoint(),
		AgentsRoot: attest.AgentsRoot(agents), AgentCount: uint32(len(agents)),
	}
}

// othersNonce is that of an asker beside the Verifier.
var othersNonce = attest.Bytes32{0x77}

// principal signs components.
type principal struct {
	name, role string
	key        *ecdsa.PrivateKey
}

func newPrincipal(t testing.TB, name, role string) *principal {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return &principal{name, role, key}
}

func (p *principal) public() []byte {
	der, err := x509.MarshalPKIXPublicKey(p.key.Public())
	if err != nil {
		panic(err)
	}
	return der
}

func (p *principal) id() attest.Bytes32 { return sha256.Sum256(p.public()) }

// component is one that the principal has signed.
func (p *principal) component(t testing.TB, kind, name string, digest attest.Bytes32) attest.Component {
	t.Helper()
	payload := fmt.Appendf(nil, `{"_type":"https://in-toto.io/Statement/v1","subject":[{"digest":{"sha256":%q}}],"predicateType":"https://omega.invalid/principal/v1","predicate":{"role":%q,"principal":%q}}`,
		digest.String(), p.role, p.name)
	sum := sha256.Sum256(dsse.PAE("application/vnd.in-toto+json", payload))
	sig, err := ecdsa.SignASN1(rand.Reader, p.key, sum[:])
	if err != nil {
		t.Fatal(err)
	}
	return attest.Component{Kind: kind, Name: name, Digest: digest, Role: p.role, Principal: p.name, Salt: [16]byte(digest[:]),
		Signatures: []attest.Signature{{Key: p.public(), Payload: payload, Sig: sig}}}
}

// agent is made of its author's bundle and a provider's model.
func agent(t testing.TB, instance string, index uint32, author, provider *principal, policy attest.Bytes32) attest.Agent {
	t.Helper()
	bundle, model := attest.Bytes32{1, byte(index)}, attest.Bytes32{2, byte(index)}
	c := []attest.Component{
		author.component(t, "manifest", instance, bundle), provider.component(t, "model", "m", model),
		{Kind: attest.KindPolicy, Name: "policy", Digest: policy, Salt: [16]byte{3, byte(index)}},
	}
	return attest.Agent{Instance: instance, Index: index, State: attest.AgentRunning, Name: "agent-" + instance, Bundle: bundle,
		Identity: attest.IdentityRoot(c), Components: c}
}
