package signer

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/tlog"

	"omega/attest"
	"omega/attest/verifier"
)

// grownLog is a log of n leaves in memory, with its head signed by s.
type grownLog struct {
	hashes []tlog.Hash
	size   int64
}

func (l *grownLog) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	out := make([]tlog.Hash, len(indexes))
	for i, n := range indexes {
		out[i] = l.hashes[n]
	}
	return out, nil
}

func growLog(t *testing.T, s *Signer, n int) *grownLog {
	t.Helper()
	l := &grownLog{}
	for i := range n {
		more, err := tlog.StoredHashes(int64(i), []byte{byte(i)}, l)
		if err != nil {
			t.Fatal(err)
		}
		l.hashes = append(l.hashes, more...)
	}
	l.size = int64(n)
	root, err := tlog.TreeHash(l.size, l)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.SignCheckpoint(fmt.Appendf(nil, "%s\n%d\n%s\n", s.Origin(), n, base64.StdEncoding.EncodeToString(root[:]))); err != nil {
		t.Fatal(err)
	}
	return l
}

func (l *grownLog) proof(t *testing.T, i int64) [][32]byte {
	t.Helper()
	p, err := tlog.ProveRecord(l.size, i, l)
	if err != nil {
		t.Fatal(err)
	}
	out := make([][32]byte, len(p))
	for n := range p {
		out[n] = p[n]
	}
	return out
}

func TestAStatementIsVerifiedByTheEvidenceOfItsBootAndByNoOther(t *testing.T) {
	s, other := newSigner(t, deviceFunc(echo)), newSigner(t, deviceFunc(echo))
	for _, each := range []*Signer{s, other} {
		complete(t, each)
	}
	a := admit(t, s, "a")
	l := growLog(t, s, 7)
	signed, err := s.Invocation(attest.Invocation{Instance: "a", Identity: a.Identity, LogIndex: 5, LogLeaf: attest.Bytes32(tlog.RecordHash([]byte{5})),
		Input: attest.CommitInput([16]byte{1}, []byte("question")), Output: attest.CommitOutput([16]byte{2}, []byte("answer")), Labels: []string{"personal"}}, 7, l.proof(t, 5))
	if err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(signed)
	if err != nil {
		t.Fatal(err)
	}
	if signed, err = attest.ParseInvocation(b); err != nil {
		t.Fatal(err)
	}
	everybody := attest.View{Visible: func(string) bool { return true }}
	for name, tt := range map[string]struct {
		from *Signer
		view attest.View
		good bool
	}{
		"its boot":                       {s, everybody, true},
		"another boot":                   {other, everybody, false},
		"who may not see the agent":      {s, attest.View{}, false},
		"who is shown the agent alone":   {s, attest.View{Visible: everybody.Visible, Open: &attest.Open{Instance: "a"}}, true},
		"who knows the platform already": {s, attest.View{Visible: everybody.Visible, Have: []attest.Bytes32{signed.Statement.Platform}}, true},
	} {
		e, err := tt.from.Evidence(t.Context(), [32]byte{9}, tt.view)
		if err != nil {
			t.Fatal(err)
		}
		if e.Remembered() { // as who remembers fills it in
			claims, err := s.Claims()
			if err != nil {
				t.Fatal(err)
			}
			e.Boot = claims
		}
		if err := verifier.Invocation(signed, e); (err == nil) != tt.good {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestAnInvocationIsSignedForAnAgentOfThisBootAndAnEntryOfItsLogOnce(t *testing.T) {
	s := newSigner(t, deviceFunc(echo))
	complete(t, s)
	a := admit(t, s, "a")
	l := growLog(t, s, 7)
	good := attest.Invocation{Instance: "a", Identity: a.Identity, Input: attest.Bytes32{1}, Output: attest.Bytes32{2},
		LogIndex: 5, LogLeaf: attest.Bytes32(tlog.RecordHash([]byte{5})), Labels: []string{"personal"}}
	tests := []struct {
		name   string
		change func(*attest.Invocation)
		proof  int64
		want   string
	}{
		{"another agent", func(i *attest.Invocation) { i.Instance = "b" }, 5, "no agent"},
		{"another identity", func(i *attest.Invocation) { i.Identity[0]++ }, 5, "no agent"},
		{"an entry that is not there yet", func(i *attest.Invocation) { i.LogIndex = 7 }, 5, "has no entry"},
		{"an entry far away", func(i *attest.Invocation) { i.LogIndex = 1 << 63 }, 5, "has no entry"},
		{"another entry's proof", func(*attest.Invocation) {}, 4, "is another"},
		{"another leaf", func(i *attest.Invocation) { i.LogLeaf[0]++ }, 5, "is another"},
		{"no output", func(i *attest.Invocation) { i.Output = attest.Bytes32{} }, 5, "no output"},
		{"unsorted labels", func(i *attest.Invocation) { i.Labels = []string{"b", "a"} }, 5, "sorted"},
	}
	for _, tt := range tests {
		i := good
		tt.change(&i)
		if _, err := s.Invocation(i, 7, l.proof(t, tt.proof)); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		}
	}
	claims, err := s.Claims()
	if err != nil {
		t.Fatal(err)
	}
	for _, size := range []uint64{0, 6, 8, 7 + keptHeads} {
		if _, err := s.Invocation(good, size, l.proof(t, 5)); err == nil || !strings.Contains(err.Error(), "signed lately") {
			t.Errorf("a checkpoint of size %d: %v", size, err)
		}
	}
	i := good
	i.Platform = attest.Bytes32{9} // the signer's to say
	signed, err := s.Invocation(i, 7, l.proof(t, 5))
	if err != nil {
		t.Fatal(err)
	}
	if signed.Statement.Platform != attest.Bytes32(claims.Digest()) || !signed.SignedBy(claims.AttestationKey) {
		t.Errorf("statement %+v", signed.Statement)
	}
	if _, err := s.Invocation(good, 7, l.proof(t, 5)); err == nil || !strings.Contains(err.Error(), "already") {
		t.Errorf("a second statement for one entry: %v", err)
	}
	if _, err := newSigner(t, deviceFunc(echo)).Invocation(good, 7, nil); err == nil {
		t.Error("a signer without claims signs")
	}
}
