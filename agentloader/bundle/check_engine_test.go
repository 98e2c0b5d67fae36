package bundle

import (
	"errors"
	"testing"
)

// An agent's identity has the engine, signed by the engine's own principal. Whoever
// is not asked for brings none, and an engine's rule lets in engines alone.
func TestWhoseEngineAnAgentUses(t *testing.T) {
	w := newWorkshop(t)
	key, _ := newKey(t)
	pem, err := key.PublicPEM()
	if err != nil {
		t.Fatal(err)
	}
	w.keys["eva"] = key
	w.trust.Principals = append(w.trust.Principals, Principal{Name: "eva", Keys: []string{string(pem)}, Roles: []string{RoleEngine}, Names: []string{"llama"}})
	uses := []Requirement{{"author", "acme"}, {RoleModel, "mia"}, {RoleEngine, "eva"}}
	w.trust.Agents = append(w.trust.Agents, AgentRule{Name: "desk", Requires: uses},
		AgentRule{Name: "llama", Requires: []Requirement{{RoleEngine, "eva"}, {RoleModel, "mia"}}})
	checker, err := NewChecker(w.trust)
	if err != nil {
		t.Fatal(err)
	}
	base := func(name string) Manifest {
		model := w.files["small"]
		return Manifest{Version: VersionManifest, Name: name, Image: Blob{Digest: DigestOf([]byte("image")), Size: 5}, Command: []string{"/a"}, Model: &model}
	}
	engine := base("llama")
	engine.Serve, engine.Engine = &Serve{Port: 8080}, &Engine{}
	signed := w.bundle(engine)
	w.shelf.sign(t, key, signed, Vouch{RoleEngine, "eva"})
	engine.Command = []string{"/b"}
	unsigned := w.bundle(engine)
	agent := func(name string, uses *Digest) Digest {
		m := base(name)
		if uses != nil {
			m.Models, m.Inference = []string{"tiny"}, &Inference{Engine: "llama", Bundle: *uses}
		}
		return w.bundle(m)
	}
	disguised := base("llama") // no engine, signed as one
	disguise := w.bundle(disguised)
	w.shelf.sign(t, key, disguise, Vouch{RoleEngine, "eva"})
	for _, tt := range []struct {
		name   string
		bundle Digest
		want   error
	}{
		{"the engine itself", signed, nil},
		{"an engine that its principal did not sign", unsigned, ErrUnsigned},
		{"an agent of a signed engine", agent("desk", &signed), nil},
		{"an agent of an engine that nobody signed", agent("desk", &unsigned), ErrUnsigned},
		{"an agent without the engine that the policy asks for", agent("desk", nil), ErrUnsigned},
		{"an agent with an engine that the policy does not ask for", agent("two", &signed), ErrUnknown},
		{"an agent under an engine's rule", disguise, ErrUnsigned},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := checker.Check(t.Context(), w.shelf, tt.bundle)
			if !errors.Is(err, tt.want) {
				t.Fatalf("%v, want %v", err, tt.want)
			}
			if tt.want != nil || got.Manifest.Inference == nil {
				return
			}
			last := got.Components[len(got.Components)-1]
			if last.Kind != KindEngine || last.Digest != signed || last.Principal != "eva" || len(last.Signatures) != 1 {
				t.Errorf("the identity says %+v", last)
			}
		})
	}
}
