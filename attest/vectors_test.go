package attest

import (
	"crypto/sha256"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// vectorFile is a worked example of every hash of docs/evidence.md, for those
// who write another verifier. OMEGA_UPDATE=1 writes it anew.
const vectorFile = "vectors.json"

// vectorSet is the example: the inputs as evidence has them, and the hashes.
type vectorSet struct {
	Evidence   *Evidence          `json:"evidence"`
	Opening    *Evidence          `json:"opening"`
	Invocation *SignedInvocation  `json:"invocation"`
	Hashes     map[string]Bytes32 `json:"sha256"`
	Long       map[string]Bytes64 `json:"sha512"`
}

// fill is bytes that look random, so that no field can be mistaken for another.
func fill[T ~[16]byte | ~[32]byte](n byte) (out T) {
	sum := sha256.Sum256([]byte{byte(len(out)), n})
	for i := range len(out) {
		out[i] = sum[i]
	}
	return out
}

func vectorAgents(t *testing.T) AgentSet {
	t.Helper()
	var set AgentSet
	for n, name := range []string{"researcher", "writer", "clerk"} {
		b := byte(16 * n)
		parts := []Component{
			{Kind: KindPolicy, Name: "agent policy", Digest: fill[Bytes32](1), Role: "operator", Principal: "measured image", Salt: fill[Bytes16](b + 1)},
			{Kind: "model", Name: "llama", Digest: fill[Bytes32](b + 2), Role: "model", Principal: "mia", Salt: fill[Bytes16](b + 2),
				Signatures: []Signature{{Key: []byte("key one"), Payload: []byte("statement"), Sig: []byte("signature one")}, {Key: []byte("key two"), Payload: []byte("statement"), Sig: []byte("signature two")}}},
			{Kind: KindImage, Name: name, Digest: fill[Bytes32](b + 3), Role: "author", Principal: "ann", Salt: fill[Bytes16](b + 3),
				Signatures: []Signature{{Key: []byte("key three"), Payload: []byte("other statement"), Sig: []byte("signature three")}}},
		}
		var err error
		set, err = set.With(Agent{Instance: name + "-1", State: AgentRunning, Name: name, Bundle: fill[Bytes32](b + 4), Salt: fill[Bytes16](b + 5),
			Identity: IdentityRoot(parts), Components: parts})
		if err != nil {
			t.Fatal(err)
		}
	}
	return set
}

func vectors(t *testing.T) vectorSet {
	t.Helper()
	set := vectorAgents(t)
	nonces := Nonces{fill[Bytes32](10), fill[Bytes32](20), fill[Bytes32](30)}
	gpu := []GPUEvidence{{Report: []byte("report"), Chain: []byte("chain")}}
	e := &Evidence{
		Version: EvidenceVersion, Report: []byte("a report has 1184 bytes"), Certificates: []byte("certificate table"),
		Boot: BootClaims{
			Version: BootVersion, BootID: fill[Bytes16](40), AttestationKey: fill[Bytes32](41), LogKey: fill[Bytes32](42), TLSKey: fill[Bytes32](43),
			HPKEKey: fill[Bytes32](44), LogOrigin: "omega/" + fill[Bytes16](40).String(), PolicyDigest: fill[Bytes32](1), ConfigDigest: fill[Bytes32](45),
			Profile: "gpu", SVN: 7, GPU: GPUReady, GPUEvidence: GPUDigest(gpu),
		},
		Session: Session{
			Version: SessionVersion, NonceRoot: nonces.Root(), NonceCount: 3, Checkpoint: []byte("a signed note"),
			AgentsRoot: set.Root(), AgentCount: 3,
		},
		Nonce: nonces.Proofs()[1], GPU: gpu,
	}
	opening := *e
	view := View{Visible: func(name string) bool { return name != "clerk" }}
	if err := view.Show(e, set); err != nil {
		t.Fatal(err)
	}
	view.Open = &Open{Instance: "writer-1", Kind: "model", Name: "llama"}
	if err := view.Show(&opening, set); err != nil {
		t.Fatal(err)
	}
	i := &SignedInvocation{Statement: Invocation{
		Version: InvocationVersion, Platform: e.Boot.Digest(), Instance: "writer-1", Identity: set.agents[1].Identity,
		Input: CommitInput(fill[Bytes16](50), []byte("question")), Output: CommitOutput(fill[Bytes16](51), []byte("answer")),
		LogIndex: 1 << 33, LogLeaf: fill[Bytes32](52), Labels: []string{"internal", "personal"},
	}, InputSalt: fill[Bytes16](50), OutputSalt: fill[Bytes16](51)}
	model := &set.agents[1].Components[1]
	return vectorSet{e, &opening, i, map[string]Bytes32{
		"boot": e.Boot.Digest(), "session": e.Session.Digest(), "nonce_root": nonces.Root(), "agents_root": set.Root(),
		"writer_leaf": set.agents[1].Leaf(), "writer_details": set.agents[1].details(), "writer_identity": set.agents[1].Identity,
		"writer_model": model.ID(), "writer_model_commitment": model.Commitment(), "gpu_evidence": GPUDigest(gpu),
		"gpu_boot_nonce":    GPUBootNonce(e.Boot.BootID, e.Boot.AttestationKey),
		"gpu_session_nonce": GPUSessionNonce(e.Boot.BootID, e.Session.NonceRoot),
	}, map[string]Bytes64{
		"report_data": ReportData(e.Boot.Digest(), e.Session.Digest()), "session_message": SessionMessage(e.Boot.Digest(), e.Session.Digest()),
		"invocation_message": i.Statement.Message(),
	}}
}

// TestTheEncodingIsTheOneThatIsPublished fails where a change alters any hash:
// such a change needs another version.
func TestTheEncodingIsTheOneThatIsPublished(t *testing.T) {
	got, err := json.MarshalIndent(vectors(t), "", " ")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join("testdata", vectorFile)
	if os.Getenv("OMEGA_UPDATE") != "" {
		if err := os.WriteFile(path, append(got, '\n'), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), string(got)+"\n"); d != "" {
		t.Error(d)
	}
}

// published is the example as it is checked in.
func published(t testing.TB) vectorSet {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", vectorFile))
	if err != nil {
		t.Fatal(err)
	}
	var v vectorSet
	if err := json.Unmarshal(b, &v); err != nil {
		t.Fatal(err)
	}
	return v
}

// TestTheVectorsHoldTogether reads the published example as a stranger would.
func TestTheVectorsHoldTogether(t *testing.T) {
	v := published(t)
	for name, e := range map[string]*Evidence{"evidence": v.Evidence, "opening": v.Opening} {
		if err := e.Validate(); err != nil || !e.Complete() || !e.Nonce.Holds(&e.Session) {
			t.Errorf("%s: complete %v, nonce %v, %v", name, e.Complete(), e.Nonce.Holds(&e.Session), err)
		}
	}
	if !v.Opening.Partial() || v.Opening.Agents[0].Components[1].Name != "llama" || v.Opening.Agents[0].Name != "" {
		t.Errorf("opening shows %+v", v.Opening.Agents)
	}
}
