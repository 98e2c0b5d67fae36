package ocicrypt

import (
	"bytes"
	"encoding/base64"
	"errors"
	"io"
	"maps"
	"strings"
	"testing"
)

var (
	kek   = bytes.Repeat([]byte{7}, 32)
	plain = []byte(strings.Repeat("a layer ", 5000))
)

const keyID = "kbs:///agents/layer/notes"

// open does what a loader does.
func open(sealed []byte, notes map[string]string, kek []byte) ([]byte, error) {
	s, err := Parse(notes)
	if err != nil {
		return nil, err
	}
	u, err := s.Unwrap(kek)
	if err != nil {
		return nil, err
	}
	r, err := u.Open(bytes.NewReader(sealed))
	if err != nil {
		return nil, err
	}
	return io.ReadAll(r)
}

func TestALayerIsOpenedWithItsKeyAlone(t *testing.T) {
	sealed, notes, err := Seal(plain, keyID, kek)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(sealed, plain[:64]) {
		t.Error("the layer is not encrypted")
	}
	if got, err := open(sealed, notes, kek); err != nil || !bytes.Equal(got, plain) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	if s, err := Parse(notes); err != nil || s.KeyID != keyID {
		t.Errorf("key %q, %v", s.KeyID, err)
	}
	again, _, err := Seal(plain, keyID, kek)
	if err != nil || bytes.Equal(again, sealed) {
		t.Errorf("two layers under one key stream, %v", err)
	}
	note := func(name string, change func(string) string) map[string]string {
		out := maps.Clone(notes)
		raw, _ := base64.StdEncoding.DecodeString(out[name])
		out[name] = base64.StdEncoding.EncodeToString([]byte(change(string(raw))))
		return out
	}
	flipped := func(at int) []byte { b := bytes.Clone(sealed); b[at] ^= 1; return b }
	_, others, err := Seal(plain, keyID, kek)
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name   string
		sealed []byte
		notes  map[string]string
		kek    []byte
		want   error
	}{
		{"another key", sealed, notes, bytes.Repeat([]byte{8}, 32), ErrKey},
		{"a short key", sealed, notes, kek[:16], ErrKey},
		{"a flipped first bit", flipped(0), notes, kek, ErrBytes},
		{"a flipped last bit", flipped(len(sealed) - 1), notes, kek, ErrBytes},
		{"a cut", sealed[:len(sealed)-1], notes, kek, ErrBytes},
		{"nothing", nil, notes, kek, ErrBytes},
		{"another layer's annotations", sealed, others, kek, ErrBytes},
		{"no annotations", sealed, nil, kek, ErrForm},
		{"another cipher", sealed, note(noteOptions, func(s string) string { return strings.Replace(s, "AES_256", "AES_128", 1) }), kek, ErrForm},
		{"another wrap", sealed, note(noteKey, func(s string) string { return strings.Replace(s, "A256GCM", "A256CTR", 1) }), kek, ErrForm},
		{"no key id", sealed, note(noteKey, func(s string) string { return strings.Replace(s, keyID, "", 1) }), kek, ErrForm},
		{"annotations that are no JSON", sealed, note(noteKey, func(string) string { return "{" }), kek, ErrForm},
		{"a changed MAC", sealed, note(noteOptions, func(s string) string { return strings.Replace(s, `"hmac":"`, `"hmac":"AAAA`, 1) }), kek, ErrForm},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := open(tt.sealed, tt.notes, tt.kek); !errors.Is(err, tt.want) {
				t.Errorf("error %v, want %v", err, tt.want)
			}
		})
	}
}

// The digest inside of the wrapped options is the last word, whoever knows the key.
func TestAnotherLayerUnderTheSameKeyIsFoundOut(t *testing.T) {
	sealed, notes, err := Seal(plain, keyID, kek)
	if err != nil {
		t.Fatal(err)
	}
	s, err := Parse(notes)
	if err != nil {
		t.Fatal(err)
	}
	u, err := s.Unwrap(kek)
	if err != nil {
		t.Fatal(err)
	}
	u.digest[0] ^= 1
	r, err := u.Open(bytes.NewReader(sealed))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(r); !errors.Is(err, ErrBytes) {
		t.Errorf("error %v, want ErrBytes", err)
	}
}

func FuzzParse(f *testing.F) {
	_, notes, err := Seal(plain[:10], keyID, kek)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(notes[noteKey], notes[noteOptions])
	f.Fuzz(func(t *testing.T, key, options string) {
		s, err := Parse(map[string]string{noteKey: key, noteOptions: options})
		if err != nil {
			return
		}
		if u, err := s.Unwrap(kek); err == nil && (len(u.key) != keySize || len(u.nonce) != nonceSize) {
			t.Fatalf("opened %+v", u)
		}
	})
}
