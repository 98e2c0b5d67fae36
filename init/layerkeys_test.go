package main

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"omega/agentloader/ocicrypt"
	"omega/attest"
	"omega/attest/kbs"
)

// TestALayersKeyIsReleasedToAnAttestedPlatform goes the whole way of a key: the broker holds the platform's
// evidence against its policy, the signer unwraps, the layer opens.
func TestALayersKeyIsReleasedToAnAttestedPlatform(t *testing.T) {
	b := newBrokered(t, nil)
	kek, layer := bytes.Repeat([]byte{3}, 32), []byte("a layer")
	b.broker.Resources["agents/layer/notes"] = kek
	sealed, notes, err := ocicrypt.Seal(layer, "kbs:///agents/layer/notes", kek)
	if err != nil {
		t.Fatal(err)
	}
	s, err := ocicrypt.Parse(notes)
	if err != nil {
		t.Fatal(err)
	}
	key, err := b.get(t.Context(), s.KeyID)
	if err != nil {
		t.Fatal(err)
	}
	u, err := s.Unwrap(key)
	if err != nil {
		t.Fatal(err)
	}
	r, err := u.Open(bytes.NewReader(sealed))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, layer) {
		t.Errorf("%q, %v", got, err)
	}
	b.broker.Policy.Measurements = []attest.Bytes48{{1}}
	if _, err := b.get(t.Context(), s.KeyID); !errors.Is(err, kbs.ErrRefused) {
		t.Errorf("to another image: %v, want a refusal", err)
	}
}

func TestTheFetcherHasAWayToTheSigner(t *testing.T) {
	for _, l := range links {
		if l == (link{"fetcher", "signer"}) {
			return
		}
	}
	t.Error("no channel from the fetcher to the signer")
}
