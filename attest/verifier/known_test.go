package verifier_test

import (
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"omega/attest"
	"omega/attest/verifier"
)

var attestationKey = ed25519.NewKeyFromSeed([]byte(strings.Repeat("k", 32)))

// remembered is a world whose Verifier has appraised the platform, and asks
// again with another nonce.
func remembered(t *testing.T) *world {
	t.Helper()
	w := newWorld(t)
	r, err := verifier.Appraise(w.e, w.p)
	if err != nil {
		t.Fatal(err)
	}
	if w.p.Known, err = verifier.Remember(w.e, r, w.p); err != nil {
		t.Fatal(err)
	}
	if err := w.p.Known.Validate(); err != nil {
		t.Fatal(err)
	}
	w.p.Nonce = [32]byte{2}
	return w
}

// again is what an honest platform answers to who knows the given digests.
func (w *world) again(have []attest.Bytes32, mine ...attest.Agent) *attest.Evidence {
	w.t.Helper()
	var set attest.AgentSet
	for _, a := range append(w.e.Agents, mine...) {
		var err error
		if set, err = set.With(a); err != nil {
			w.t.Fatal(err)
		}
	}
	nonces := attest.Nonces{{7}, w.p.Nonce}
	e := &attest.Evidence{Version: attest.EvidenceVersion, Platform: w.e.Boot.Digest(), Session: w.e.Session, Nonce: nonces.Proofs()[1]}
	e.Session.NonceRoot, e.Session.NonceCount = nonces.Root(), 2
	e.Session.AgentsRoot, e.Session.AgentCount = set.Root(), uint32(set.Len())
	view := attest.View{Visible: func(string) bool { return true }, Have: have}
	if err := view.Show(e, set); err != nil {
		w.t.Fatal(err)
	}
	w.signSession(e)
	return e
}

// signSession signs the session with the attestation key, as it is.
func (w *world) signSession(e *attest.Evidence) {
	message := attest.SessionMessage(e.Platform, e.Session.Digest())
	e.Signature = ed25519.Sign(attestationKey, message[:])
}

func TestAKnownPlatformShowsOnlyWhatIsNew(t *testing.T) {
	w := remembered(t)
	e := w.again(w.p.Known.Have(), agent("a-3", 2))
	for i := range 2 {
		if len(e.Agents[i].Components) != 0 {
			t.Errorf("agent %d shows what is known", i)
		}
	}
	raw, err := e.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	if e, err = attest.ParseEvidence(raw); err != nil {
		t.Fatal(err)
	}
	r, err := verifier.Appraise(e, w.p)
	if err != nil || r.Verdict != attest.VerdictEmulated {
		t.Fatalf("verdict %s, %v", r.Verdict, err)
	}
	filled := w.p.Known.Fill(e)
	for _, g := range filled.Agents {
		if len(g.Components) != 4 || g.Components[3].Name != "llama" || len(g.Components[3].Signatures) != 1 {
			t.Errorf("agent %s has %d parts", g.Instance, len(g.Components))
		}
	}
	more, err := verifier.Remember(e, r, w.p)
	if err != nil || len(more.Agents) != 3 || !more.Expires.Equal(w.p.Known.Expires) {
		t.Errorf("remembered %d agents until %s, before %s: %v", len(more.Agents), more.Expires, w.p.Known.Expires, err)
	}
	if err := more.Validate(); err != nil {
		t.Error(err)
	}
}

func TestDemandsHoldForWhatIsKnownToo(t *testing.T) {
	tests := []struct {
		name, policy, check string
	}{
		{"the principals are named", `,"principals":[{"name":"ann","key_ids":["` + ann.ID() + `"]},{"name":"mia","key_ids":["` + mia.ID() + `"]}]`, ""},
		{"the agent runs", `,"must_run":["demo"]`, ""},
	}
	for _, tt := range tests {
		w := newWorld(t)
		w.p.Policy = policyOf(t, tt.policy)
		r, err := verifier.Appraise(w.e, w.p)
		if err != nil {
			t.Fatal(err)
		}
		if w.p.Known, err = verifier.Remember(w.e, r, w.p); err != nil {
			t.Fatal(err)
		}
		w.p.Nonce = [32]byte{2}
		e := w.again(w.p.Known.Have())
		if r, err := verifier.Appraise(e, w.p); err != nil {
			t.Errorf("%s: %q failed: %v", tt.name, failed(r), err)
		}
		stranger := agent("a-3", 2)
		stranger.Components[3].Signatures = []attest.Signature{bob.vouch(stranger.Components[3].Digest, "model", "mia")}
		reseal(&stranger)
		r, err = verifier.Appraise(w.again(w.p.Known.Have(), stranger), w.p)
		if want := strings.Contains(tt.policy, "principals"); want != (failed(r) == "principals") || want != (err != nil) {
			t.Errorf("%s: a new agent by another key: %q failed: %v", tt.name, failed(r), err)
		}
	}
}

// TestWhatIsRememberedIsWorthNothingElsewhere gives the memory to the wrong
// platform, policy or time, or has the platform lie about what is known.
func TestWhatIsRememberedIsWorthNothingElsewhere(t *testing.T) {
	tests := []struct {
		name   string
		change func(w *world, e *attest.Evidence)
		class  error
		check  string
	}{
		{"nothing is remembered", func(w *world, _ *attest.Evidence) { w.p.Known = nil }, verifier.ErrSignature, "signature"},
		{"another boot", func(w *world, _ *attest.Evidence) { w.p.Known.Boot.BootID[0]++ }, verifier.ErrSignature, "signature"},
		{"another platform's name", func(_ *world, e *attest.Evidence) { e.Platform[0]++ }, verifier.ErrSignature, "signature"},
		{"another platform that signs for itself", func(w *world, e *attest.Evidence) { e.Platform[0]++; w.signSession(e) }, verifier.ErrSignature, "signature"},
		{"another attestation key", func(_ *world, e *attest.Evidence) { e.Signature[5]++ }, verifier.ErrSignature, "signature"},
		{"a report's binding in place of the key's", func(w *world, e *attest.Evidence) {
			data := attest.ReportData(e.Platform, e.Session.Digest())
			e.Signature = ed25519.Sign(attestationKey, data[:])
		}, verifier.ErrSignature, "signature"},
		{"another appraisal policy", func(w *world, _ *attest.Evidence) { w.p.MinSVN = 0 }, verifier.ErrMismatch, "signature"},
		{"another policy file", func(w *world, _ *attest.Evidence) { w.p.Policy = policyOf(w.t, `,"must_run":["demo"]`) }, verifier.ErrMismatch, "signature"},
		{"another manifest", func(w *world, _ *attest.Evidence) { w.p.Manifest = manifest([48]byte{49}) }, verifier.ErrMismatch, "signature"},
		{"too late", func(w *world, _ *attest.Evidence) { w.p.Now = w.p.Now.Add(verifier.DefaultMaxAge) }, verifier.ErrSignature, "signature"},
		{"no emulated PSP any more", func(w *world, _ *attest.Evidence) { w.p.EmulatedRoot = nil }, verifier.ErrMismatch, "signature"},
		{"yesterday's answer", func(w *world, _ *attest.Evidence) { w.p.Nonce = [32]byte{3} }, verifier.ErrMismatch, "nonce"},
		{"another connection", func(w *world, _ *attest.Evidence) { w.p.TLSKey = &[32]byte{9} }, verifier.ErrMismatch, "tls_key"},
		{"an identity that nobody knows", func(_ *world, e *attest.Evidence) { e.Agents[1].Components = nil }, verifier.ErrMismatch, "agent a-2"},
		{"a component that nobody knows", func(_ *world, e *attest.Evidence) {
			c := &e.Agents[1].Components[3]
			*c = attest.Component{Known: c.ID(), Salt: c.Salt}
		}, verifier.ErrMismatch, "agent a-2"},
		{"one agent's known identity as another's", func(w *world, e *attest.Evidence) {
			e.Agents[0].Identity = w.e.Agents[1].Identity
		}, verifier.ErrMismatch, "agents"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := remembered(t)
			have := w.p.Known.Have()
			w.p.Known.Agents = w.p.Known.Agents[:1] // the other is known to nobody
			w.p.Known.Components = w.p.Known.Components[:4]
			e := w.again(have[:2])
			if r, err := verifier.Appraise(e, w.p); err != nil {
				t.Fatalf("before the change: %q: %v", failed(r), err)
			}
			tt.change(w, e)
			r, err := verifier.Appraise(e, w.p)
			if !errors.Is(err, tt.class) || failed(r) != tt.check || r.Verdict != attest.VerdictRefused {
				t.Errorf("verdict %s, failed check %q, error %v", r.Verdict, failed(r), err)
			}
		})
	}
}

func TestAKnownComponentIsTakenForItself(t *testing.T) {
	w := remembered(t)
	first := w.e.Agents[0].Components
	e := w.again([]attest.Bytes32{w.e.Boot.Digest(), first[0].ID(), first[3].ID()})
	if got := e.Agents[0].Components; got[0].Shown() || !got[1].Shown() || got[3].Shown() {
		t.Fatalf("components %+v", got)
	}
	if r, err := verifier.Appraise(e, w.p); err != nil {
		t.Errorf("%q: %v", failed(r), err)
	}
	if diff := cmp.Diff(w.e.Agents, w.p.Known.Fill(e).Agents); diff != "" {
		t.Error(diff)
	}
}

func TestNothingIsRememberedOfARefusedPlatform(t *testing.T) {
	w := newWorld(t)
	w.p.Nonce = [32]byte{9}
	r, err := verifier.Appraise(w.e, w.p)
	if err == nil {
		t.Fatal("the wrong nonce is accepted")
	}
	if k, err := verifier.Remember(w.e, r, w.p); err == nil {
		t.Errorf("remembered %+v", k)
	}
}

func TestMemoryThatNoAppraisalLeftIsRefused(t *testing.T) {
	good := remembered(t).p.Known
	for name, change := range map[string]func(*verifier.Known){
		"no verdict":             func(k *verifier.Known) { k.Verdict = "" },
		"a refusal":              func(k *verifier.Known) { k.Verdict = attest.VerdictRefused },
		"no expiry":              func(k *verifier.Known) { k.Expires = time.Time{} },
		"no policy":              func(k *verifier.Known) { k.Policy = attest.Bytes32{} },
		"other claims":           func(k *verifier.Known) { k.Boot.Version = "omega/boot/v2" },
		"a salt":                 func(k *verifier.Known) { k.Components[0].Salt = attest.Bytes16{1} },
		"a hidden component":     func(k *verifier.Known) { k.Components[0] = attest.Component{Hidden: attest.Bytes32{1}} },
		"an agent without parts": func(k *verifier.Known) { k.Agents[0].Components = []attest.Bytes32{{1}} },
	} {
		b, err := json.Marshal(good)
		if err != nil {
			t.Fatal(err)
		}
		bad := &verifier.Known{}
		if err := json.Unmarshal(b, bad); err != nil {
			t.Fatal(err)
		}
		change(bad)
		if bad.Validate() == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestAnOpeningIsAppraisedForItsOneComponent(t *testing.T) {
	open := func(w *world, o attest.Open) {
		var set attest.AgentSet
		for _, a := range w.e.Agents {
			var err error
			if set, err = set.With(a); err != nil {
				w.t.Fatal(err)
			}
		}
		view := attest.View{Visible: func(string) bool { return true }, Open: &o}
		if err := view.Show(w.e, set); err != nil {
			w.t.Fatal(err)
		}
	}
	for name, tt := range map[string]struct {
		open   attest.Open
		change func(*world)
		check  string
	}{
		"a model":                {attest.Open{Instance: "a-2", Kind: "model", Name: "llama"}, func(*world) {}, ""},
		"an agent":               {attest.Open{Instance: "a-2"}, func(*world) {}, ""},
		"an agent moved":         {attest.Open{Instance: "a-2"}, func(w *world) { w.e.Agents[0].Index = 0 }, "agents"},
		"an agent's part":        {attest.Open{Instance: "a-2"}, func(w *world) { w.e.Agents[0].Components[3].Signatures = nil }, "agent a-2"},
		"an agent's other end":   {attest.Open{Instance: "a-2"}, func(w *world) { w.e.Agents[0].State = attest.AgentExited }, "agents"},
		"an image":               {attest.Open{Instance: "a-1", Kind: "image", Name: "demo"}, func(*world) {}, ""},
		"another agent's place":  {attest.Open{Instance: "a-2", Kind: "model", Name: "llama"}, func(w *world) { w.e.Agents[0].Index = 0 }, "agents"},
		"another path":           {attest.Open{Instance: "a-2", Kind: "model", Name: "llama"}, func(w *world) { w.e.AgentPath[0][0]++ }, "agents"},
		"no path":                {attest.Open{Instance: "a-2", Kind: "model", Name: "llama"}, func(w *world) { w.e.AgentPath = nil }, "agents"},
		"another component":      {attest.Open{Instance: "a-2", Kind: "model", Name: "llama"}, func(w *world) { w.e.Agents[0].Components[3].Name = "gpt" }, "agent #1"},
		"a component less":       {attest.Open{Instance: "a-2", Kind: "model", Name: "llama"}, func(w *world) { w.e.Agents[0].Components = w.e.Agents[0].Components[1:] }, "agent #1"},
		"no signature":           {attest.Open{Instance: "a-2", Kind: "model", Name: "llama"}, func(w *world) { w.e.Agents[0].Components[3].Signatures = nil }, "agent #1"},
		"another hidden part":    {attest.Open{Instance: "a-2", Kind: "model", Name: "llama"}, func(w *world) { w.e.Agents[0].Components[0].Hidden[0]++ }, "agent #1"},
		"an agent's other state": {attest.Open{Instance: "a-2", Kind: "model", Name: "llama"}, func(w *world) { w.e.Agents[0].Details[0]++ }, "agents"},
	} {
		w := newWorld(t)
		open(w, tt.open)
		tt.change(w)
		if r, err := verifier.Appraise(w.e, w.p); failed(r) != tt.check || (err != nil) != (tt.check != "") {
			t.Errorf("%s: %q failed, want %q: %v", name, failed(r), tt.check, err)
		}
	}
}
