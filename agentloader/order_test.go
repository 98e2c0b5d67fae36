package agentloader

import (
	"errors"
	"testing"
	"time"

	"omega/agentloader/bundle"
)

func TestACallerDeploysOnlyAgentsThatAreItsOwn(t *testing.T) {
	w := newWorld(t)
	raw := w.publish()
	l := w.loader(nil)
	if _, err := l.AdmitFor(t.Context(), raw, func(name string) bool { return name == "others" }); !errors.Is(err, ErrCaller) {
		t.Errorf("another's agent: %v", err)
	}
	// The deployment is not used up by somebody who may not hand it in.
	if _, err := l.AdmitFor(t.Context(), raw, func(name string) bool { return name == "notes" }); err != nil {
		t.Errorf("its own agent: %v", err)
	}
	if _, err := l.AdmitFor(t.Context(), raw, func(string) bool { return true }); !errors.Is(err, ErrReplayed) {
		t.Errorf("once more: %v", err)
	}
}

func TestACallerLearnsNothingOfABundleThatIsNotItsOwn(t *testing.T) {
	w := newWorld(t)
	w.signers = nil
	_, err := w.loader(nil).AdmitFor(t.Context(), w.publish(), func(string) bool { return false })
	if !errors.Is(err, ErrCaller) || errors.Is(err, bundle.ErrUnsigned) {
		t.Errorf("%v", err)
	}
}

func TestRemovalsAreCheckedAsDeploymentsAre(t *testing.T) {
	running := bundle.DigestOf([]byte("what runs"))
	tests := []struct {
		name   string
		change func(*world, *bundle.Removal)
		want   error
	}{
		{"a good one", func(*world, *bundle.Removal) {}, nil},
		{"for this boot", func(_ *world, r *bundle.Removal) { r.Audience = "00112233445566778899aabbccddeeff" }, nil},
		{"signed by a stranger", func(w *world, _ *bundle.Removal) { w.deployer = "stranger" }, bundle.ErrSignature},
		{"signed by an author", func(w *world, _ *bundle.Removal) { w.deployer = "acme" }, bundle.ErrSignature},
		{"by a deployer of other agents", func(w *world, _ *bundle.Removal) { w.trust.Principals[2].Names = []string{"x*"} }, bundle.ErrUnsigned},
		{"by one of two needed deployers", func(w *world, _ *bundle.Removal) {
			w.trust.Principals[2].Keys = append(w.trust.Principals[2].Keys, w.pem("stranger"))
			w.trust.Principals[2].Threshold = 2
		}, bundle.ErrUnsigned},
		{"for another platform", func(_ *world, r *bundle.Removal) { r.Audience = "other" }, ErrAudience},
		{"for another boot", func(_ *world, r *bundle.Removal) { r.Audience = "ffffffffffffffffffffffffffffffff" }, ErrAudience},
		{"expired", func(_ *world, r *bundle.Removal) { r.Expires = clock }, ErrExpired},
		{"of an instance that does not run", func(_ *world, r *bundle.Removal) { r.Instance = "notes-2" }, ErrInstance},
		{"of another bundle than the one that runs", func(_ *world, r *bundle.Removal) { r.Bundle = bundle.DigestOf(nil) }, ErrRemoval},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			r := bundle.Removal{Bundle: running, Instance: "notes-1", Audience: "demo", Serial: 5, Expires: clock.Add(time.Hour)}
			tt.change(w, &r)
			raw, err := bundle.SignRemoval(w.keys[w.deployer], r)
			w.must(err)
			find := func(instance string) (Running, bool) { return Running{"notes", running}, instance == "notes-1" }
			l := w.loader(nil)
			_, err = l.Remove(raw, find)
			var refusal *Refusal
			if !errors.Is(err, tt.want) || (err != nil) != errors.As(err, &refusal) {
				t.Fatalf("%v, want %v", err, tt.want)
			}
			if tt.want != nil {
				if refusal.Instance != r.Instance || refusal.Bundle != r.Bundle {
					t.Errorf("the refusal names %q and %s", refusal.Instance, refusal.Bundle)
				}
				return
			}
			if _, err := l.Remove(raw, find); !errors.Is(err, ErrReplayed) {
				t.Errorf("once more: %v", err)
			}
		})
	}
}

func TestADeploymentsSerialIsUsedUpForRemovalsToo(t *testing.T) {
	w := newWorld(t)
	raw := w.publish()
	l := w.loader(nil)
	if _, err := l.Admit(t.Context(), raw); err != nil {
		t.Fatal(err)
	}
	removal, err := bundle.SignRemoval(w.keys["ops"], bundle.Removal{Bundle: w.bundle, Instance: "notes-1", Audience: "demo", Serial: w.deploy.Serial, Expires: clock.Add(time.Hour)})
	w.must(err)
	if _, err := l.Remove(removal, func(string) (Running, bool) { return Running{"notes", w.bundle}, true }); !errors.Is(err, ErrReplayed) {
		t.Errorf("%v", err)
	}
}
