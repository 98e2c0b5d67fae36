package bundle

import (
	"testing"
	"time"
)

func FuzzParseManifest(f *testing.F) {
	m := goodManifest()
	raw, err := m.Marshal()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw)
	f.Add([]byte("{}"))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := ParseManifest(b)
		if err != nil {
			return
		}
		again, err := m.Marshal()
		if err != nil {
			t.Fatalf("parsed but not written: %v", err)
		}
		if _, err := ParseManifest(again); err != nil {
			t.Fatalf("written but not parsed: %v", err)
		}
	})
}

func FuzzVerifyBundle(f *testing.F) {
	key, pub := newKey(f)
	subject := DigestOf([]byte("subject"))
	raw, err := SignPrincipal(key, subject, Vouch{"author", "acme"})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw)
	f.Add([]byte(`{"mediaType":"application/vnd.dev.sigstore.bundle.v0.3+json"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := VerifyBundle(b, subject, []Key{pub})
		if err == nil && (got.Vouch != Vouch{"author", "acme"} || got.KeyID != pub.ID) {
			t.Fatalf("believed %+v", got)
		}
	})
}

func FuzzVerifyDeployment(f *testing.F) {
	key, pub := newKey(f)
	d := Deployment{Bundle: DigestOf(nil), Repository: "a", Instance: "i", Audience: "p", Serial: 1, Expires: time.Unix(1e9, 0)}
	raw, err := SignDeployment(key, d)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw)
	f.Fuzz(func(t *testing.T, b []byte) {
		got, _, err := VerifyDeployment(b, []Key{pub})
		if err == nil && (got.Bundle != d.Bundle || got.Serial != 1) {
			t.Fatalf("believed %+v", got)
		}
		_, _ = ParseDeployment(b)
	})
}

func FuzzParseOCIManifest(f *testing.F) {
	raw, err := Artifact(TypeAgent, TypeManifest, []byte("{}"), nil, nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw)
	f.Fuzz(func(_ *testing.T, b []byte) {
		_, _ = ParseOCIManifest(b)
		_, _ = ParseOCIIndex(b, MaxOCIManifest)
	})
}

func FuzzParseDescriptors(f *testing.F) {
	f.Add([]byte(`[{"name":"a","description":"b","input_schema":{}}]`))
	f.Fuzz(func(t *testing.T, b []byte) {
		list, err := ParseDescriptors(b)
		if err != nil {
			return
		}
		if _, err := MarshalDescriptors(list); err != nil {
			t.Fatalf("parsed but not written: %v", err)
		}
	})
}
