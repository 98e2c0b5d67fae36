package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"omega/agentloader/bundle"
	"omega/attest"
	"omega/internal/dsse"
)

// people sign what the agents of these tests are made of.
type people map[string]*bundle.PrivateKey

func newPeople(t *testing.T) people {
	t.Helper()
	out := people{}
	for _, who := range []string{"ann", "mia", "files-co", "revoker"} {
		k, err := bundle.GenerateKey()
		if err != nil {
			t.Fatal(err)
		}
		out[who] = k
	}
	return out
}

// part is a component that who signed, with the code that principals use.
func (p people) part(t *testing.T, kind, name string, digest attest.Bytes32, role, who string, salt byte) attest.Component {
	t.Helper()
	raw, err := bundle.SignPrincipal(p[who], bundle.Digest(digest), bundle.Vouch{Role: role, Principal: who})
	if err != nil {
		t.Fatal(err)
	}
	key, err := p[who].Public()
	if err != nil {
		t.Fatal(err)
	}
	signed, err := bundle.VerifyBundle(raw, bundle.Digest(digest), []bundle.Key{key})
	if err != nil {
		t.Fatal(err)
	}
	return attest.Component{Kind: kind, Name: name, Digest: digest, Role: role, Principal: who, Salt: attest.Bytes16{salt, digest[0]},
		Signatures: []attest.Signature{{Key: signed.Key, Payload: signed.Payload, Sig: signed.Sig}}}
}

// withAgents gives the platform two agents, each of five parts.
func (p people) withAgents(t *testing.T, on *platform) {
	t.Helper()
	for n, name := range []string{"researcher", "writer"} {
		b := byte(10 * (n + 1))
		bundled := p.part(t, "manifest", name, attest.Bytes32{b, 1}, "author", "ann", 1)
		image := bundled
		image.Kind, image.Digest, image.Salt = "image", attest.Bytes32{b, 2}, attest.Bytes16{2, b}
		parts := []attest.Component{
			{Kind: attest.KindPolicy, Name: "agent policy", Digest: attest.Bytes32{6}, Role: "operator", Principal: "measured image", Salt: attest.Bytes16{3, b}},
			bundled, image,
			p.part(t, "model", "llama-"+name, attest.Bytes32{b, 3}, "model", "mia", 4),
			p.part(t, "tool-descriptors", "files", attest.Bytes32{5}, "tool", "files-co", 5+b),
		}
		var err error
		on.agents, err = on.agents.With(attest.Agent{Instance: name + "-1", State: attest.AgentRunning, Name: name, Bundle: bundled.Digest, Salt: attest.Bytes16{6, b},
			Identity: attest.IdentityRoot(parts), Components: parts})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// rewrite changes evidence on its way.
func rewrite(t *testing.T, change func(*attest.Evidence)) func([]byte) []byte {
	return func(b []byte) []byte {
		e, err := attest.ParseEvidence(b)
		if err != nil {
			t.Error(err)
			return nil
		}
		change(e)
		out, err := json.Marshal(e)
		if err != nil {
			t.Error(err)
		}
		return out
	}
}

// again makes a lie hold together: identities and the agents' root are those of
// what is shown, as a platform that lies would state them.
func again(e *attest.Evidence) {
	for i := range e.Agents {
		e.Agents[i].Identity = attest.IdentityRoot(e.Agents[i].Components)
	}
	e.Session.AgentsRoot, e.Session.AgentCount = attest.AgentsRoot(e.Agents), uint32(len(e.Agents))
}

func TestTwoAgentsAreShownWithEveryPrincipal(t *testing.T) {
	p := newPlatform(t)
	newPeople(t).withAgents(t, p)
	code, out, words := omega(t, "verify", p.URL, "--allow-emulated", p.root, "--manifest", p.manifest, "--manifest-unsigned")
	if code != exitOK {
		t.Fatalf("exit %d: %s", code, words)
	}
	for _, want := range []string{"agent researcher-1", "agent writer-1", "signed by ann as author", "signed by mia as model", "signed by files-co as tool", "brought by the measured image", "llama-writer"} {
		if !strings.Contains(out, want) {
			t.Errorf("the words do not say %q", want)
		}
	}
}

// TestEachLieHasItsOwnMessageAndExitCode is the table of what may be wrong with
// evidence. Some lies are the platform's, signed by it; others are made on the way.
func TestEachLieHasItsOwnMessageAndExitCode(t *testing.T) {
	who := newPeople(t)
	part := func(e *attest.Evidence, agent, n int) *attest.Component { return &e.Agents[agent].Components[n] }
	yesterday := func(t *testing.T, p *platform) {
		b, err := p.evidence(t.Context(), [32]byte{1})
		if err != nil {
			t.Fatal(err)
		}
		p.mangle = func([]byte) []byte { return b }
	}
	onTheWay := func(change func(*attest.Evidence)) func(*testing.T, *platform) {
		return func(t *testing.T, p *platform) { p.mangle = rewrite(t, change) }
	}
	byThePlatform := func(change func(*attest.Evidence)) func(*testing.T, *platform) {
		return func(_ *testing.T, p *platform) { p.lie = func(e *attest.Evidence) { change(e); again(e) } }
	}
	bytesOnTheWay := func(change func([]byte) []byte) func(*testing.T, *platform) {
		return func(_ *testing.T, p *platform) { p.mangle = change }
	}
	tests := []struct {
		name   string
		change func(*testing.T, *platform)
		want   int
		words  string
	}{
		{"nothing", func(*testing.T, *platform) {}, exitOK, ""},
		{"the author's signature of the bundle removed", byThePlatform(func(e *attest.Evidence) { part(e, 0, 1).Signatures = nil }), exitSignature, `manifest "researcher": principal "ann" has not signed it`},
		{"the author's signature of the image removed", byThePlatform(func(e *attest.Evidence) { part(e, 0, 2).Signatures = nil }), exitSignature, `image "researcher": principal "ann" has not signed it`},
		{"the model provider's signature removed", byThePlatform(func(e *attest.Evidence) { part(e, 1, 3).Signatures = nil }), exitSignature, `model "llama-writer": principal "mia" has not signed it`},
		{"the tool provider's signature removed", byThePlatform(func(e *attest.Evidence) { part(e, 1, 4).Signatures = nil }), exitSignature, `tool-descriptors "files": principal "files-co" has not signed it`},
		{"a signature removed on the way", onTheWay(func(e *attest.Evidence) { part(e, 1, 3).Signatures = nil }), exitSignature, `principal "mia" has not signed it`},
		{"a changed signature", byThePlatform(func(e *attest.Evidence) {
			s := &part(e, 0, 3).Signatures[0]
			s.Sig = bytes.Clone(s.Sig)
			s.Sig[len(s.Sig)-1] ^= 1
		}), exitSignature, "signature is not valid"},
		{"another's signature", byThePlatform(func(e *attest.Evidence) { part(e, 0, 3).Signatures = part(e, 0, 4).Signatures }), exitSignature, "the statement is by"},
		{"a signature of another model", byThePlatform(func(e *attest.Evidence) { part(e, 0, 3).Signatures = part(e, 1, 3).Signatures }), exitSignature, "about something else"},
		{"two agents' models swapped", onTheWay(func(e *attest.Evidence) {
			*part(e, 0, 3), *part(e, 1, 3) = *part(e, 1, 3), *part(e, 0, 3)
		}), exitMismatch, "swapped with another agent's"},
		{"yesterday's evidence", yesterday, exitMismatch, "it is old, or somebody replays it"},
		{"another platform's evidence", func(_ *testing.T, p *platform) { p.tlsKey[0]++ }, exitMismatch, "relays another platform's evidence"},
		{"the debug profile", func(t *testing.T, p *platform) {
			p.lie = func(e *attest.Evidence) { e.Boot.Profile = "debug" }
			b, err := os.ReadFile(p.manifest)
			if err != nil {
				t.Fatal(err)
			}
			writeTestFile(t, p.manifest, bytes.Replace(b, []byte(`"profile":"cpu"`), []byte(`"profile":"debug"`), 1))
		}, exitMismatch, "the image has a shell inside"},
		{"an expired manifest", func(t *testing.T, p *platform) {
			b, err := os.ReadFile(p.manifest)
			if err != nil {
				t.Fatal(err)
			}
			writeTestFile(t, p.manifest, bytes.Replace(b, []byte("2099-01-01"), []byte("2020-01-01"), 1))
		}, exitSignature, "the manifest expired"},
		{"agents reordered", onTheWay(func(e *attest.Evidence) { e.Agents[0], e.Agents[1] = e.Agents[1], e.Agents[0] }), exitMismatch, "left out, added, changed or moved"},
		{"an agent duplicated", byThePlatform(func(e *attest.Evidence) { e.Agents = append(e.Agents, e.Agents[0]); e.Agents[2].Index = 2 }), exitMismatch, "its name twice"},
		{"an agent left out", onTheWay(func(e *attest.Evidence) { e.Agents = e.Agents[:1] }), exitMismatch, "agents"},
		{"a component duplicated", onTheWay(func(e *attest.Evidence) {
			e.Agents[0].Components = append(e.Agents[0].Components, *part(e, 0, 3))
		}), exitMismatch, "not made of the components shown"},
		{"components reordered", onTheWay(func(e *attest.Evidence) { *part(e, 0, 1), *part(e, 0, 2) = *part(e, 0, 2), *part(e, 0, 1) }), exitMismatch, "not made of the components shown"},
		{"a signature twice", byThePlatform(func(e *attest.Evidence) { c := part(e, 0, 3); c.Signatures = append(c.Signatures, c.Signatures[0]) }), exitSignature, "the same key twice"},
		{"the session of another answer", func(t *testing.T, p *platform) {
			b, err := p.evidence(t.Context(), [32]byte{1})
			if err != nil {
				t.Fatal(err)
			}
			old, err := attest.ParseEvidence(b)
			if err != nil {
				t.Fatal(err)
			}
			p.mangle = rewrite(t, func(e *attest.Evidence) { e.Session = old.Session })
		}, exitMismatch, "taken from other evidence"},
		{"the report of another answer", func(t *testing.T, p *platform) {
			b, err := p.evidence(t.Context(), [32]byte{1})
			if err != nil {
				t.Fatal(err)
			}
			old, err := attest.ParseEvidence(b)
			if err != nil {
				t.Fatal(err)
			}
			p.mangle = rewrite(t, func(e *attest.Evidence) { e.Report = old.Report })
		}, exitMismatch, "taken from other evidence"},
		{"truncated evidence", bytesOnTheWay(func(b []byte) []byte { return b[:len(b)-1] }), exitSignature, "not one complete value"},
		{"evidence twice", bytesOnTheWay(func(b []byte) []byte { return append(b, b...) }), exitSignature, "not one complete value"},
		{"oversized evidence", bytesOnTheWay(func(b []byte) []byte { return append(b, bytes.Repeat([]byte{' '}, attest.MaxEvidence)...) }), exitSignature, "limit"},
		{"a truncated report", onTheWay(func(e *attest.Evidence) { e.Report = e.Report[:1000] }), exitSignature, "report of 1000 bytes"},
		{"an oversized report", onTheWay(func(e *attest.Evidence) { e.Report = append(e.Report, 0) }), exitSignature, "report of 1185 bytes"},
		{"a truncated certificate table", onTheWay(func(e *attest.Evidence) { e.Certificates = e.Certificates[:len(e.Certificates)-1] }), exitSignature, "out of bounds"},
		{"no certificates", onTheWay(func(e *attest.Evidence) { e.Certificates = nil }), exitCollateral, "certificate"},
		{"a claim to be known", onTheWay(func(e *attest.Evidence) {
			e.Platform, e.Signature = e.Boot.Digest(), make([]byte, 64)
			e.Report, e.Certificates, e.Boot = nil, nil, attest.BootClaims{}
		}), exitSignature, "not remembered here"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := newPlatform(t)
			who.withAgents(t, p)
			tt.change(t, p)
			code, _, words := omega(t, "verify", p.URL, "--allow-emulated", p.root, "--manifest", p.manifest, "--manifest-unsigned")
			if code != tt.want || !strings.Contains(words, tt.words) || strings.Contains(words, "; next: ") != (code != exitOK) {
				t.Errorf("exit %d, want %d; stderr %q", code, tt.want, words)
			}
		})
	}
}

func TestWhatWasAppraisedIsRememberedInOneFile(t *testing.T) {
	p := newPlatform(t)
	newPeople(t).withAgents(t, p)
	file := filepath.Join(t.TempDir(), "deep", "have.json")
	args := []string{"verify", p.URL, "--allow-emulated", p.root, "--manifest", p.manifest, "--manifest-unsigned", "--have", file}
	verify := func(more ...string) (int, string, string) { return omega(t, append(args, more...)...) }
	if code, _, words := verify(); code != exitOK || len(p.asked.Have) != 0 {
		t.Fatalf("exit %d, %d digests named: %s", code, len(p.asked.Have), words)
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	code, out, words := verify()
	if code != exitOK || len(p.asked.Have) == 0 || !strings.Contains(out, "whose report you appraised") || !strings.Contains(out, "llama-writer") {
		t.Errorf("exit %d, %d digests named; %s %s", code, len(p.asked.Have), out, words)
	}
	if code, out, _ := verify("--min-svn", "1"); code != exitOK || len(p.asked.Have) != 0 || strings.Contains(out, "whose report you appraised") {
		t.Errorf("another appraisal: exit %d, %d digests named", code, len(p.asked.Have))
	}
	if code, out, _ := verify("--crl"); code != exitOK || len(p.asked.Have) != 0 || strings.Contains(out, "whose report you appraised") {
		t.Errorf("where AMD's list is demanded: exit %d, %d digests named", code, len(p.asked.Have))
	}
	// The platform starts anew: what is remembered is of another boot.
	p.lie = func(e *attest.Evidence) { e.Boot.HPKEKey[0]++ }
	if code, out, _ := verify(); code != exitOK || len(p.asked.Have) == 0 || strings.Contains(out, "whose report you appraised") {
		t.Errorf("after a restart: exit %d, %d digests named", code, len(p.asked.Have))
	}
	before, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	p.launch.Digest[0]++
	p.lie = func(e *attest.Evidence) { e.Boot.HPKEKey[0] += 2 }
	if code, _, _ := verify(); code != exitMismatch {
		t.Errorf("a platform that changed: exit %d", code)
	}
	if after, err := os.ReadFile(file); err != nil || !bytes.Equal(before, after) {
		t.Error("a refusal changed what is remembered")
	}
	for name, text := range map[string]string{"garbage": "x", "an unknown field": strings.Replace(string(before), `{`, `{"x":1,`, 1), "another version": strings.Replace(string(before), "verified/v1", "verified/v2", 1)} {
		writeTestFile(t, file, []byte(text))
		if code, _, words := verify(); code != exitUsage || !strings.Contains(words, "have.json") {
			t.Errorf("%s: exit %d, %s", name, code, words)
		}
	}
	m, err := parseMemory(before, time.Now())
	if err != nil || len(m.Platforms) == 0 {
		t.Fatalf("%v, %v", m, err)
	}
	if m, err := parseMemory(before, time.Now().AddDate(0, 0, 2)); err != nil || len(m.Platforms) != 0 {
		t.Errorf("after two days: %d platforms, %v", len(m.Platforms), err)
	}
}

func TestAnotherPlatformIsNotVerifiedByWhatIsRememberedOfTheFirst(t *testing.T) {
	first, second := newPlatform(t), newPlatform(t)
	second.manifest = first.manifest
	file := filepath.Join(t.TempDir(), "have.json")
	args := []string{"--allow-emulated", first.root, "--manifest", first.manifest, "--manifest-unsigned", "--have", file}
	if code, _, words := omega(t, append([]string{"verify", first.URL}, args...)...); code != exitOK {
		t.Fatalf("exit %d: %s", code, words)
	}
	raw, err := first.evidence(t.Context(), [32]byte{1})
	if err != nil {
		t.Fatal(err)
	}
	e, err := attest.ParseEvidence(raw)
	if err != nil {
		t.Fatal(err)
	}
	// The second platform has the first one answer for it.
	second.mangle = func([]byte) []byte {
		b, err := first.answer(context.Background(), attest.Request{Nonce: second.asked.Nonce, Have: []attest.Bytes32{e.Boot.Digest()}})
		if err != nil {
			t.Error(err)
		}
		return b
	}
	if code, _, words := omega(t, append([]string{"verify", second.URL}, args...)...); code != exitSignature || !strings.Contains(words, "not remembered here") || len(second.asked.Have) != 0 {
		t.Errorf("exit %d, %d digests named: %s", code, len(second.asked.Have), words)
	}
}

func TestOneComponentIsOpenedAndNothingElseIsShown(t *testing.T) {
	p := newPlatform(t)
	newPeople(t).withAgents(t, p)
	args := []string{"verify", p.URL, "--allow-emulated", p.root, "--manifest", p.manifest, "--manifest-unsigned"}
	code, out, words := omega(t, append(args, "--open", "model:llama-writer", "--instance", "writer-1")...)
	if code != exitOK || !strings.Contains(out, "signed by mia as model") {
		t.Fatalf("exit %d: %s %s", code, out, words)
	}
	for _, secret := range []string{"agent writer-1", "signed by ann", "files-co", "researcher"} {
		if strings.Contains(out, secret) {
			t.Errorf("the opening tells %q", secret)
		}
	}
	if code, _, words := omega(t, append(args, "--open", "model:gpt", "--instance", "writer-1")...); code != exitMismatch || !strings.Contains(words, "no component") {
		t.Errorf("what is not there: exit %d, %s", code, words)
	}
	if code, _, _ := omega(t, append(args, "--open", "model:llama-writer")...); code != exitUsage {
		t.Errorf("no instance: exit %d", code)
	}
	p.mangle = func([]byte) []byte {
		b, err := p.answer(t.Context(), attest.Request{Nonce: p.asked.Nonce, Open: &attest.Open{Instance: "writer-1", Kind: "tool-descriptors", Name: "files"}})
		if err != nil {
			t.Error(err)
		}
		return b
	}
	if code, _, words := omega(t, append(args, "--open", "model:llama-writer", "--instance", "writer-1")...); code != exitMismatch || !strings.Contains(words, "does not show") {
		t.Errorf("another component opened: exit %d, %s", code, words)
	}
}

func TestARevocationListBindsAtTheRelyingParty(t *testing.T) {
	who := newPeople(t)
	p := newPlatform(t)
	who.withAgents(t, p)
	pub, err := who["revoker"].PublicPEM()
	if err != nil {
		t.Fatal(err)
	}
	var spki strings.Builder
	for line := range strings.Lines(string(pub)) {
		if !strings.HasPrefix(line, "-") {
			spki.WriteString(strings.TrimSpace(line))
		}
	}
	dir := t.TempDir()
	policy, list := filepath.Join(dir, "policy.json"), filepath.Join(dir, "revoked.json")
	writeTestFile(t, policy, fmt.Appendf(nil, `{"version":"omega/appraisal-policy/v1","revocation":{"required":true,"keys":["%s"]}}`, spki.String()))
	args := []string{"verify", p.URL, "--allow-emulated", p.root, "--manifest", p.manifest, "--manifest-unsigned"}
	now := time.Now().UTC()
	tests := []struct {
		name, signer    string
		issued, expires time.Time
		revoked         string
		args            []string
		want            int
	}{
		{"nothing of the platform's", "revoker", now.Add(-time.Hour), now.Add(time.Hour), attest.Bytes32{99}.String(), []string{"--policy", policy, "--revoked", list}, exitOK},
		{"a model", "revoker", now.Add(-time.Hour), now.Add(time.Hour), attest.Bytes32{20, 3}.String(), []string{"--policy", policy, "--revoked", list}, exitMismatch},
		{"an expired list", "revoker", now.Add(-2 * time.Hour), now.Add(-time.Hour), attest.Bytes32{99}.String(), []string{"--policy", policy, "--revoked", list}, exitSignature},
		{"a stranger's list", "ann", now.Add(-time.Hour), now.Add(time.Hour), attest.Bytes32{99}.String(), []string{"--policy", policy, "--revoked", list}, exitSignature},
		{"no list where one is demanded", "revoker", now, now, "", []string{"--policy", policy}, exitCollateral},
		{"a list that is not there", "revoker", now, now, "", []string{"--policy", policy, "--revoked", list + "x"}, exitCollateral},
		{"nobody may sign", "revoker", now.Add(-time.Hour), now.Add(time.Hour), attest.Bytes32{99}.String(), []string{"--revoked", list}, exitUsage},
	}
	for _, tt := range tests {
		payload := fmt.Appendf(nil, `{"version":"omega/revocations/v1","serial":1,"issued":%q,"expires":%q,"components":["%s"],"keys":[]}`,
			tt.issued.Format(time.RFC3339), tt.expires.Format(time.RFC3339), tt.revoked)
		writeTestFile(t, list, sealRevocations(t, who[tt.signer], payload))
		if code, _, words := omega(t, append(args, tt.args...)...); code != tt.want {
			t.Errorf("%s: exit %d, want %d: %s", tt.name, code, tt.want, words)
		}
	}
}

// sealRevocations is a DSSE envelope, as any DSSE tool makes it.
func sealRevocations(t *testing.T, key *bundle.PrivateKey, payload []byte) []byte {
	t.Helper()
	text, err := key.MarshalPEM()
	if err != nil {
		t.Fatal(err)
	}
	sig := signWithPEM(t, text, dsse.PAE(attest.RevocationPayload, payload))
	b, err := json.Marshal(dsse.Envelope{PayloadType: attest.RevocationPayload, Payload: payload, Signatures: []dsse.Signature{{Sig: sig}}})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func FuzzParseMemory(f *testing.F) {
	f.Add([]byte(`{"version":"omega/verified/v1","platforms":[{"source":"x","known":{"policy":"` + attest.Bytes32{1}.String() + `"}}]}`))
	f.Fuzz(func(_ *testing.T, b []byte) { _, _ = parseMemory(b, time.Now()) })
}

func signWithPEM(t *testing.T, text, message []byte) []byte {
	t.Helper()
	block, _ := pem.Decode(text)
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(message)
	sig, err := ecdsa.SignASN1(rand.Reader, key.(*ecdsa.PrivateKey), sum[:])
	if err != nil {
		t.Fatal(err)
	}
	return sig
}

func TestABusyPlatformIsAskedAgain(t *testing.T) {
	p := newPlatform(t)
	var asked atomic.Int32
	answer := p.Config.Handler
	p.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if asked.Add(1) == 1 {
			http.Error(w, "busy", http.StatusTooManyRequests)
			return
		}
		answer.ServeHTTP(w, r)
	})
	if code, _, words := omega(t, "verify", p.URL, "--allow-emulated", p.root, "--manifest", p.manifest, "--manifest-unsigned"); code != exitOK || asked.Load() != 2 {
		t.Errorf("exit %d after %d questions: %s", code, asked.Load(), words)
	}
}
