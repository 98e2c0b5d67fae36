package rcar

import (
	"bytes"
	"crypto/ecdh"
	"crypto/rand"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"strings"
	"testing"

	"omega/attest/kbs/kbstest"
	"omega/internal/vectors"
)

// TestKeyWrapAsPublished is RFC 3394 section 4.6: 256 bits under 256 bits.
func TestKeyWrapAsPublished(t *testing.T) {
	kek, _ := hex.DecodeString("000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f")
	wrapped, _ := hex.DecodeString("28c9f404c4b810f4cbccb35cfb87f8263f5786e2d80ed326cbc7f0e71a99f43bfb988b9b7a02dd21")
	var got [32]byte
	if err := unwrap(got[:], kek, wrapped); err != nil {
		t.Fatal(err)
	}
	if want := "00112233445566778899aabbccddeeff000102030405060708090a0b0c0d0e0f"; hex.EncodeToString(got[:]) != want {
		t.Errorf("key is %x, want %s", got, want)
	}
	for i := range wrapped {
		wrapped[i] ^= 1
		if err := unwrap(got[:], kek, wrapped); err == nil || got != ([32]byte{}) {
			t.Errorf("byte %d changed: key %x, %v", i, got, err)
		}
		wrapped[i] ^= 1
	}
}

// TestKeyDerivationAsPublished is RFC 7518 appendix C.
func TestKeyDerivationAsPublished(t *testing.T) {
	decode := func(s string) []byte {
		b, err := base64.RawURLEncoding.DecodeString(s)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	alice, err := ecdh.P256().NewPrivateKey(decode("0_NxaRPUMQoAJt50Gz8YiTr8gRTwyEaCumd-MToTmIo"))
	if err != nil {
		t.Fatal(err)
	}
	bob, err := ecdh.P256().NewPublicKey(append(append([]byte{4}, decode("weNJy2HscCSM6AEDTDg04biOvhFhyyWvOHQfeF_PxMQ")...), decode("e8lnCO-AlStT-NJVX-crhB7QRYhiix03illJOVAOyck")...))
	if err != nil {
		t.Fatal(err)
	}
	z, err := alice.ECDH(bob)
	if err != nil {
		t.Fatal(err)
	}
	if got := b64(concatKDF(z, "A128GCM", []byte("Alice"), []byte("Bob"), 128)); got != "VqqN6vgjbSBcIijNcacQGg" {
		t.Errorf("derived key %s", got)
	}
}

// TestReportDataIsTheHashOfCanonicalJSON: the order and the empty member are
// those of trustee 78962cd (kbs/src/attestation/backend.rs, __attest) under
// serde_json_canonicalizer.
func TestReportDataIsTheHashOfCanonicalJSON(t *testing.T) {
	nonce := base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{0xfb}, 32)) // has + and /
	r := RuntimeData{Nonce: nonce, Key: JWK{Algorithm: "ECDH-ES+A256KW", Curve: "P-256", Type: "EC", X: "x-_", Y: "y"}}
	got, err := r.ReportData()
	if err != nil {
		t.Fatal(err)
	}
	sum := sha512.Sum384([]byte(`{"additional-evidence":"","nonce":"` + nonce + `","tee-pubkey":{"alg":"ECDH-ES+A256KW","crv":"P-256","kty":"EC","x":"x-_","y":"y"}}`))
	if !bytes.Equal(got[:48], sum[:]) || !bytes.Equal(got[48:], make([]byte, 16)) {
		t.Errorf("REPORT_DATA is %x", got)
	}
	for _, bad := range []string{"", "AAAA", nonce + "\n", nonce + `"`, strings.Repeat("A", 400)} {
		r.Nonce = bad
		if _, err := r.ReportData(); err == nil {
			t.Errorf("nonce %q is signed for", bad)
		}
	}
}

// TestRealReportsSurviveTheBrokersForm: the Attestation Service checks the
// signature over what it makes of the JSON, so not a bit may be lost.
func TestRealReportsSurviveTheBrokersForm(t *testing.T) {
	for _, file := range [][]string{
		{"snp", "milan", "milan_attestation_report.bin"}, {"snp", "genoa", "genoa_attestation_report.bin"},
		{"snp", "turin", "turin_attestation_report.bin"}, {"snp", "vlek-milan", "test-vlek-report.bin"},
	} {
		raw := vectors.Read(t, file...)
		e, err := snpEvidence(raw, nil)
		if raw[0] < minReport {
			if err == nil {
				t.Errorf("%s: version %d, which the service does not read, is sent", file[1], raw[0])
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", file[1], err)
			continue
		}
		b, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		back, err := kbstest.ReportBytes(b, json.Unmarshal)
		if err != nil || !bytes.Equal(back, raw) {
			t.Errorf("%s: the report is another: %v", file[1], err)
		}
	}
}

func TestKeysUnwrapOnlyWhatIsTheirs(t *testing.T) {
	a, err := NewKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for name, w := range map[string]Wrapped{
		"no point":            {},
		"a point off curve":   {Ephemeral: [65]byte{4, 1}},
		"a compressed point":  {Ephemeral: [65]byte{2, 1}},
		"a key of nobody's":   {Ephemeral: [65]byte(a.private.PublicKey().Bytes())},
		"the point at zeroes": {Ephemeral: [65]byte{4}},
	} {
		if key, err := a.Unwrap(w); err == nil || key != ([32]byte{}) {
			t.Errorf("%s gives %x", name, key)
		}
	}
}

func FuzzParseChallenge(f *testing.F) {
	f.Add([]byte(`{"nonce":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=","extra-params":""}`))
	f.Add([]byte(`{"nonce":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=","extra-params":{"selected-hash-algorithm":"sha384"}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if nonce, err := ParseChallenge(b); err == nil && CheckNonce(nonce) != nil {
			t.Errorf("nonce %q", nonce)
		}
		_ = CheckToken(b)
		_ = ParseRefusal(b)
	})
}

func FuzzParseResponse(f *testing.F) {
	f.Add([]byte(`{"protected":"eyJhbGciOiJFQ0RILUVTK0EyNTZLVyIsImVuYyI6IkEyNTZHQ00iLCJlcGsiOnsiY3J2IjoiUC0yNTYiLCJrdHkiOiJFQyIsIngiOiIiLCJ5IjoiIn19","encrypted_key":"","iv":"","ciphertext":"","tag":""}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := ParseResponse(b)
		if err != nil {
			return
		}
		if len(r.ciphertext) > MaxResource {
			t.Errorf("%d bytes", len(r.ciphertext))
		}
		var key [32]byte
		if _, err := r.Open(&key); err == nil {
			t.Error("opened with a key of zeros")
		}
	})
}
