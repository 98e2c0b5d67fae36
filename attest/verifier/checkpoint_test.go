package verifier

import "testing"

func FuzzOpenCheckpoint(f *testing.F) {
	f.Add([]byte("omega/x\n3\nAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n\n\u2014 omega/x AAAAAAAA\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, err := openCheckpoint(b, "omega/x", [32]byte{1}); err == nil {
			t.Error("a note that nobody signed is accepted")
		}
	})
}
