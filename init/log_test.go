package main

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"

	"omega/policy/provenance"
)

func TestNobodyEntersAnotherChildsWords(t *testing.T) {
	may := map[string]string{ // kind to the children that make it
		provenance.KindBoot: "pid1", provenance.KindAdmission: "fetcher", provenance.KindRefusal: "fetcher gateway sandboxd",
		provenance.KindStart: "sandboxd", provenance.KindExit: "sandboxd",
		provenance.KindIntent: "gateway", provenance.KindOutcome: "gateway", provenance.KindAttestation: "", "": "",
	}
	l := new(logChild)
	for peer, kinds := range recorders {
		if !slices.Contains(links, link{peer, "log"}) {
			t.Errorf("%s has no channel to the log", peer)
		}
		for kind, who := range may {
			want := errKind
			if slices.Contains(strings.Fields(who), peer) {
				want = errNotStarted // as far as it gets here
			}
			if _, err := l.appendOf(kinds)(t.Context(), appendRequest{Entry: provenance.Entry{Kind: kind}}); !errors.Is(err, want) {
				t.Errorf("%s enters %q: %v, want %v", peer, kind, err, want)
			}
		}
	}
}

func TestAFileOfTheLogReachesTheFrontWhole(t *testing.T) {
	for _, n := range []int{0, 1, 64 << 10, maxLogFile} {
		f, err := memoryFile("test", bytes.Repeat([]byte{7}, n))
		if err != nil {
			t.Fatal(err)
		}
		if b, err := readFile(f); err != nil || len(b) != n || bytes.Count(b, []byte{7}) != n {
			t.Errorf("%d bytes came as %d, %v", n, len(b), err)
		}
		f.Close()
	}
	f, err := memoryFile("test", make([]byte, maxLogFile+1))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := readFile(f); err == nil {
		t.Error("a file beyond the bound was read")
	}
}
