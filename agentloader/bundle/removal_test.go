package bundle

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func goodRemoval() Removal {
	return Removal{Bundle: DigestOf([]byte("bundle")), Instance: "notes-1", Audience: "lab", Serial: 7, Expires: time.Unix(1e9, 0).UTC(), GraceSeconds: 10}
}

func TestARemovalIsReadAsItWasSignedAndIsNoDeployment(t *testing.T) {
	key, pub := newKey(t)
	_, other := newKey(t)
	raw, err := SignRemoval(key, goodRemoval())
	if err != nil {
		t.Fatal(err)
	}
	got, ids, err := VerifyRemoval(raw, []Key{other, pub})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(goodRemoval(), *got); diff != "" || len(ids) != 1 || ids[0] != pub.ID {
		t.Errorf("signed by %v: %s", ids, diff)
	}
	if _, _, err := VerifyRemoval(raw, []Key{other}); !errors.Is(err, ErrSignature) {
		t.Errorf("a stranger's removal: %v", err)
	}
	if _, _, err := VerifyDeployment(raw, []Key{pub}); !errors.Is(err, ErrPredicate) {
		t.Errorf("a removal as a deployment: %v", err)
	}
	deployment, err := SignDeployment(key, Deployment{Bundle: DigestOf(nil), Repository: "a", Instance: "i", Audience: "p", Serial: 1, Expires: time.Unix(1e9, 0)})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := VerifyRemoval(deployment, []Key{pub}); !errors.Is(err, ErrPredicate) {
		t.Errorf("a deployment as a removal: %v", err)
	}
}

func TestARemovalMustBeWhole(t *testing.T) {
	key, _ := newKey(t)
	for name, change := range map[string]func(*Removal){
		"bundle":   func(r *Removal) { r.Bundle = Digest{} },
		"instance": func(r *Removal) { r.Instance = "../x" },
		"audience": func(r *Removal) { r.Audience = "" },
		"serial":   func(r *Removal) { r.Serial = 0 },
		"expiry":   func(r *Removal) { r.Expires = time.Time{} },
		"grace":    func(r *Removal) { r.GraceSeconds = maxGrace + 1 },
	} {
		r := goodRemoval()
		change(&r)
		if _, err := SignRemoval(key, r); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzVerifyRemoval(f *testing.F) {
	key, pub := newKey(f)
	raw, err := SignRemoval(key, goodRemoval())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw)
	f.Fuzz(func(t *testing.T, b []byte) {
		got, _, err := VerifyRemoval(b, []Key{pub})
		if err == nil && *got != goodRemoval() {
			t.Fatalf("believed %+v", got)
		}
		_, _ = ParseRemoval(b)
	})
}
