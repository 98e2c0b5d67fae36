package attest

import (
	"bytes"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"

	"omega/internal/membound"
)

func everyone(string) bool { return true }

// shown is the evidence of the vectors' agents as a view shows them.
func shown(t *testing.T, v View) (*Evidence, AgentSet) {
	t.Helper()
	set := vectorAgents(t)
	e := &Evidence{Platform: Bytes32{1}, Session: Session{AgentsRoot: set.Root(), AgentCount: uint32(set.Len())}}
	if err := v.Show(e, set); err != nil {
		t.Fatal(err)
	}
	if !e.Complete() {
		t.Error("what is shown does not lead to the root")
	}
	return e, set
}

func TestAViewShowsNoAgentUnlessToldTo(t *testing.T) {
	for name, v := range map[string]View{"the zero view": {}, "a view of nobody": {Visible: func(string) bool { return false }}} {
		e, _ := shown(t, v)
		for _, a := range e.Agents {
			if a.Hidden.IsZero() || a.Instance != "" || a.Name != "" || len(a.Components) > 0 {
				t.Errorf("%s: %+v", name, a)
			}
		}
	}
}

func TestAnothersAgentIsALeafAndAnIndex(t *testing.T) {
	e, set := shown(t, View{Visible: func(name string) bool { return name == "writer" }})
	b, err := json.Marshal(e.Agents)
	if err != nil {
		t.Fatal(err)
	}
	for _, secret := range []string{"researcher", "clerk", set.agents[0].Bundle.String(), set.agents[2].Identity.String(), set.agents[0].Components[1].Digest.String()} {
		if bytes.Contains(b, []byte(secret)) {
			t.Errorf("evidence tells %s of an agent that is not the asker's", secret)
		}
	}
	if e.Agents[1].Name != "writer" || e.Agents[2].Index != 2 {
		t.Errorf("agents %+v", e.Agents)
	}
}

func TestWhatIsKnownIsLeftOut(t *testing.T) {
	set := vectorAgents(t)
	writer := &set.agents[1]
	e, _ := shown(t, View{Visible: everyone, Have: []Bytes32{set.agents[0].Identity, writer.Components[1].ID(), {9}}})
	if len(e.Agents[0].Components) != 0 || e.Agents[0].Name != "researcher" {
		t.Errorf("a known identity: %+v", e.Agents[0])
	}
	c := e.Agents[1].Components
	if c[1].Known != writer.Components[1].ID() || c[1].Salt == (Bytes16{}) || c[1].Kind != "" || c[1].Signatures != nil || !c[2].Shown() {
		t.Errorf("a known component: %+v", c)
	}
	if IdentityRoot(c) != [32]byte(writer.Identity) {
		t.Error("the identity is not that of what is left")
	}
	if len(e.Agents[2].Components) != 3 {
		t.Error("what is not known is left out")
	}
	if len(writer.Components[1].Signatures) != 2 {
		t.Error("the set itself was changed")
	}
}

func TestWhatIsKnownOfAnotherBootIsShown(t *testing.T) {
	set := vectorAgents(t)
	e := &Evidence{Boot: BootClaims{Version: BootVersion}}
	v := View{Visible: everyone, Have: []Bytes32{set.agents[0].Identity, set.agents[1].Components[1].ID()}}
	if err := v.Show(e, set); err != nil {
		t.Fatal(err)
	}
	if len(e.Agents[0].Components) != 3 || !e.Agents[1].Components[1].Shown() {
		t.Error("evidence with a report leaves out what an asker knows of another boot")
	}
}

func TestAnOpeningShowsOneComponentAndNothingElse(t *testing.T) {
	e, set := shown(t, View{Visible: everyone, Open: &Open{Instance: "writer-1", Kind: "model", Name: "llama"}})
	if !e.Partial() || len(e.Agents) != 1 {
		t.Fatalf("agents %+v", e.Agents)
	}
	b, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	model := set.agents[1].Components[1]
	if !bytes.Contains(b, []byte(model.Digest.String())) || len(e.Agents[0].Components[1].Signatures) != 2 {
		t.Error("the component is not shown with its signatures")
	}
	other := set.agents[1].Components[2]
	for _, secret := range []string{"writer", "running", other.Digest.String(), other.Salt.String(), "ann", set.agents[1].Bundle.String(), set.agents[1].Salt.String(), "clerk"} {
		if bytes.Contains(b, []byte(secret)) {
			t.Errorf("the opening tells %s", secret)
		}
	}
}

func TestOneAgentIsShownWholeWithItsPath(t *testing.T) {
	e, set := shown(t, View{Visible: everyone, Open: &Open{Instance: "writer-1"}, Have: []Bytes32{vectorAgents(t).agents[1].Components[0].ID()}})
	if !e.Partial() || len(e.Agents) != 1 || e.Agents[0].Name != "writer" || !e.Agents[0].Components[1].Shown() || e.Agents[0].Components[0].Known.IsZero() {
		t.Fatalf("agents %+v", e.Agents)
	}
	b, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	for _, secret := range []string{"researcher", "clerk", set.agents[0].Identity.String()} {
		if bytes.Contains(b, []byte(secret)) {
			t.Errorf("it tells %s of another agent", secret)
		}
	}
	hidden := View{Visible: func(string) bool { return false }, Open: &Open{Instance: "writer-1"}}
	if err := hidden.Show(&Evidence{}, set); !errors.Is(err, ErrNoSuchPart) {
		t.Errorf("an agent that may not be seen: %v", err)
	}
}

func TestAComponentOfSeveralAgentsStandsWholeInTheFirst(t *testing.T) {
	for name, visible := range map[string]func(string) bool{"everybody": everyone, "not the first": func(n string) bool { return n != "researcher" }} {
		e, _ := shown(t, View{Visible: visible})
		whole := map[Bytes32]bool{}
		for _, a := range e.Agents {
			for _, c := range a.Components {
				if c.Shown() == whole[c.ID()] {
					t.Errorf("%s: %s of %s: shown %v", name, c.ID(), a.Instance, c.Shown())
				}
				whole[c.ID()] = true
			}
		}
	}
}

func TestWhatIsNotThereAndWhatMayNotBeSeenAreToldAlike(t *testing.T) {
	set := vectorAgents(t)
	clerks := View{Visible: func(name string) bool { return name != "clerk" }}
	for _, o := range []Open{{"nobody", "model", "llama"}, {"clerk-1", "model", "llama"}, {"writer-1", "model", "gpt"}, {"writer-1", "adapter", "llama"}} {
		v := clerks
		v.Open = &o
		if err := v.Show(&Evidence{}, set); !errors.Is(err, ErrNoSuchPart) {
			t.Errorf("%+v: %v", o, err)
		}
	}
}

// TestAGuessCannotBeConfirmedWithoutTheSalt guesses everything about a public
// model but its salt, as who holds an opening of another component could.
func TestAGuessCannotBeConfirmedWithoutTheSalt(t *testing.T) {
	set := vectorAgents(t)
	e, _ := shown(t, View{Visible: everyone, Open: &Open{Instance: "writer-1", Kind: KindPolicy, Name: "agent policy"}})
	hidden := e.Agents[0].Components[1].Hidden
	guess := set.agents[1].Components[1] // right in every word, signatures too
	if guess.Commitment() != hidden {
		t.Fatal("the commitment is not to the component")
	}
	for _, salt := range []Bytes16{{}, {1}, set.agents[0].Components[1].Salt, e.Agents[0].Components[0].Salt} {
		guess.Salt = salt
		if guess.Commitment() == hidden || Bytes32(guess.ID()) == hidden {
			t.Errorf("the guess is confirmed with the salt %s", salt)
		}
	}
	again := set.agents[1].Components[1]
	again.Salt = set.agents[2].Components[1].Salt
	if again.Commitment() == hidden {
		t.Error("one component in two agents shows by its commitment")
	}
}

func TestTheSetOfAgentsIsNeverChangedInPlace(t *testing.T) {
	before := vectorAgents(t)
	root := before.Root()
	after, err := before.WithState(0, AgentExited)
	if err != nil || after.Root() == root || before.Root() != root || before.agents[0].State != AgentRunning {
		t.Errorf("before %s, after %s, %v", before.agents[0].State, after.agents[0].State, err)
	}
	one, err := before.With(agentNamed("x"))
	if err != nil {
		t.Fatal(err)
	}
	two, err := before.With(agentNamed("y"))
	if err != nil || one.agents[3].Instance != "x" || two.agents[3].Instance != "y" || two.agents[3].Index != 3 {
		t.Errorf("two additions to one set: %+v, %+v, %v", one.agents[3], two.agents[3], err)
	}
	if two.Root() != Bytes32(AgentsRoot(two.agents)) || after.Root() != Bytes32(AgentsRoot(after.agents)) {
		t.Error("the root is not that of the agents")
	}
}

func agentNamed(instance string) Agent {
	c := []Component{{Kind: KindPolicy, Salt: Bytes16{1}}}
	return Agent{Instance: instance, State: AgentAdmitted, Name: "n", Bundle: Bytes32{1}, Identity: IdentityRoot(c), Components: c}
}

func TestAnAgentNotLikeItsIdentityIsNotTaken(t *testing.T) {
	good := agentNamed("x")
	set := vectorAgents(t)
	for name, change := range map[string]func(*Agent){
		"another identity":  func(a *Agent) { a.Identity[0]++ },
		"no components":     func(a *Agent) { a.Components, a.Identity = nil, IdentityRoot(nil) },
		"an instance twice": func(a *Agent) { a.Instance = "writer-1" },
		"an unknown state":  func(a *Agent) { a.State = "" },
		"hidden":            func(a *Agent) { *a = Agent{Hidden: Bytes32{1}} },
	} {
		a := good
		change(&a)
		if _, err := set.With(a); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

func TestAnotherNonceAnotherPlaceAndAnotherCountAreNotProven(t *testing.T) {
	for n := 1; n <= 9; n++ {
		var nonces Nonces
		for i := range n {
			nonces = append(nonces, Bytes32{byte(i + 1)})
		}
		s := Session{NonceRoot: nonces.Root(), NonceCount: uint32(n)}
		for i, p := range nonces.Proofs() {
			if p.Nonce != nonces[i] || !p.Holds(&s) {
				t.Errorf("%d of %d is not proven", i, n)
			}
			for name, change := range map[string]func(*NonceProof, *Session){
				"another nonce": func(p *NonceProof, _ *Session) { p.Nonce[31]++ },
				"another place": func(p *NonceProof, _ *Session) { p.Index++ },
				"far away":      func(p *NonceProof, _ *Session) { p.Index = 1 << 31 },
				"another root":  func(_ *NonceProof, s *Session) { s.NonceRoot[0]++ },
				"nobody":        func(_ *NonceProof, s *Session) { s.NonceCount = 0 },
				"too many":      func(_ *NonceProof, s *Session) { s.NonceCount = MaxNonces + 1 },
				"a longer path": func(p *NonceProof, _ *Session) { p.Path = append(slices.Clone(p.Path), Bytes32{}) },
			} {
				bad, session := p, s
				change(&bad, &session)
				if bad.Holds(&session) {
					t.Errorf("%d of %d: %s is proven", i, n, name)
				}
			}
		}
	}
}

func TestFormsOfEvidenceAreNotMixed(t *testing.T) {
	for name, change := range map[string]func(*Evidence){
		"a report and a known platform":   func(e *Evidence) { e.Platform, e.Signature = Bytes32{1}, make([]byte, 64) },
		"a signature without a platform":  func(e *Evidence) { e.Signature = make([]byte, 64) },
		"a platform without a signature":  func(e *Evidence) { known(e); e.Signature = nil },
		"a known platform and its claims": func(e *Evidence) { boot := e.Boot; known(e); e.Boot = boot },
		"a hidden agent with a name":      func(e *Evidence) { e.Agents[0].Hidden = Bytes32{1} },
		"details and a name":              func(e *Evidence) { e.Agents[0].Details = Bytes32{1} },
		"a hidden component with a kind":  func(e *Evidence) { e.Agents[0].Components[0].Hidden = Bytes32{1} },
		"a known component with a kind":   func(e *Evidence) { e.Agents[0].Components[0].Known = Bytes32{1} },
		"a component without a kind":      func(e *Evidence) { e.Agents[0].Components[0].Kind = "" },
		"a hidden and known component": func(e *Evidence) {
			e.Agents[0].Components[0] = Component{Hidden: Bytes32{1}, Known: Bytes32{1}}
		},
		"a path that is too long": func(e *Evidence) { e.Nonce.Path = make([]Bytes32, 40) },
		"a large key":             func(e *Evidence) { e.Agents[0].Components[0].Signatures[0].Key = make([]byte, 1000) },
		"many signatures":         func(e *Evidence) { e.Agents[0].Components[0].Signatures = make([]Signature, 9) },
		"many GPUs":               func(e *Evidence) { e.GPU = make([]GPUEvidence, 17) },
	} {
		e := sample()
		change(e)
		if _, err := e.Marshal(); err == nil {
			t.Errorf("%s: written", name)
		}
		b, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ParseEvidence(b); err == nil {
			t.Errorf("%s: read", name)
		}
	}
	e := sample()
	known(e)
	if _, err := e.Marshal(); err != nil {
		t.Errorf("a known platform: %v", err)
	}
}

// known turns e into evidence for who knows the platform.
func known(e *Evidence) {
	e.Report, e.Certificates, e.Boot = nil, nil, BootClaims{}
	e.Platform, e.Signature = Bytes32{1}, make([]byte, 64)
}

func TestRequestsAreReadStrictly(t *testing.T) {
	nonce := `"nonce":"` + Bytes32{1}.String() + `"`
	v := `{"version":"omega/evidence-request/v1",`
	if r, err := ParseRequest([]byte(v + nonce + `,"have":["` + Bytes32{2}.String() + `"],"open":{"instance":"a","kind":"model","name":"m"}}`)); err != nil || r.Have[0] != (Bytes32{2}) || r.Open.Name != "m" {
		t.Errorf("%+v, %v", r, err)
	}
	for name, text := range map[string]string{
		"nothing":             "",
		"another version":     `{"version":"omega/evidence-request/v2",` + nonce + `}`,
		"no nonce":            v + `"have":[]}`,
		"the zero nonce":      v + `"nonce":"` + Bytes32{}.String() + `"}`,
		"an unknown field":    v + nonce + `,"x":1}`,
		"a key twice":         v + nonce + `,` + nonce + `}`,
		"too many digests":    v + nonce + `,"have":[` + strings.Repeat(`"`+Bytes32{}.String()+`",`, MaxHave) + `"` + Bytes32{}.String() + `"]}`,
		"an empty opening":    v + nonce + `,"open":{"instance":"","kind":"","name":""}}`,
		"a control character": v + nonce + `,"open":{"instance":"a\u001b","kind":"k","name":""}}`,
		"trailing bytes":      v + nonce + `}x`,
		"too long":            v + nonce + `}` + strings.Repeat(" ", MaxRequest),
	} {
		if _, err := ParseRequest([]byte(text)); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	for _, text := range []string{"model", ":m", ":"} {
		if _, ok := ParseOpen("a", text); ok {
			t.Errorf("component %q is accepted", text)
		}
	}
	if o, ok := ParseOpen("a", ""); !ok || *o != (Open{Instance: "a"}) {
		t.Errorf("an agent without a component is opened as %+v, %v", o, ok)
	}
	if _, ok := ParseOpen("", ""); ok {
		t.Error("an opening of nothing is accepted")
	}
}

func FuzzParseRequest(f *testing.F) {
	f.Add([]byte(`{"version":"omega/evidence-request/v1","nonce":"` + Bytes32{1}.String() + `","have":[],"open":{"instance":"a","kind":"model","name":"m"}}`))
	f.Fuzz(func(t *testing.T, b []byte) { membound.Check(t, b, func() { _, _ = ParseRequest(b) }) })
}
