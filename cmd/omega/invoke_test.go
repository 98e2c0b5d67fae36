package main

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"omega/attest"
	"omega/policy"
)

// signedAnswer is an answer with a good statement about it, after change.
func signedAnswer(t *testing.T, change func(*attest.SignedInvocation)) (http.Header, ed25519.PublicKey) {
	t.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	s := &attest.SignedInvocation{InputSalt: attest.Bytes16{1}, OutputSalt: attest.Bytes16{2}, Statement: attest.Invocation{
		Version: attest.InvocationVersion, Platform: attest.Bytes32{3}, Instance: "a-1", Identity: attest.Bytes32{4}, LogIndex: 5, LogLeaf: attest.Bytes32{6},
		Input: attest.CommitInput([16]byte{1}, []byte("question")), Output: attest.CommitOutput([16]byte{2}, []byte("answer")), Labels: []string{"untrusted:web"},
	}}
	change(s)
	message := s.Statement.Message()
	s.Signature = ed25519.Sign(private, message[:])
	b, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	return http.Header{"Omega-Instance": {"a-1"}, "Omega-Invocation": {base64.StdEncoding.EncodeToString(b)}}, public
}

func TestAnAnswerIsPrintedOnlyWithAStatementAboutIt(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(*attest.SignedInvocation)
		header func(http.Header)
		code   int
		words  string
	}{
		{"as it was", func(*attest.SignedInvocation) {}, func(http.Header) {}, exitOK, ""},
		{"about another question", func(s *attest.SignedInvocation) { s.Statement.Input[0]++ }, func(http.Header) {}, exitMismatch, "another input"},
		{"about another answer", func(s *attest.SignedInvocation) { s.Statement.Output[0]++ }, func(http.Header) {}, exitMismatch, "another output"},
		{"another salt", func(s *attest.SignedInvocation) { s.OutputSalt[0]++ }, func(http.Header) {}, exitMismatch, "another output"},
		{"about another agent", func(s *attest.SignedInvocation) { s.Statement.Instance = "b-1" }, func(http.Header) {}, exitMismatch, "instance"},
		{"no statement", func(*attest.SignedInvocation) {}, func(h http.Header) { h.Del("Omega-Invocation") }, exitMismatch, "without an invocation statement"},
		{"no base64", func(*attest.SignedInvocation) {}, func(h http.Header) { h.Set("Omega-Invocation", "?") }, exitSignature, "base64"},
		{"no statement's form", func(s *attest.SignedInvocation) { s.Statement.Version = "x" }, func(http.Header) {}, exitSignature, "version"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h, _ := signedAnswer(t, tt.change)
			tt.header(h)
			a, err := readAnswer(h, []byte("answer"))
			if err == nil {
				err = a.about([]byte("question"))
			}
			if exitCode(err) != tt.code || err != nil && !strings.Contains(err.Error(), tt.words) {
				t.Errorf("exit code %d: %v", exitCode(err), err)
			}
		})
	}
}

func TestAStatementOfAnotherKeyOrBootIsRefusedAlsoWhereTheAgentIsHidden(t *testing.T) {
	h, public := signedAnswer(t, func(*attest.SignedInvocation) {})
	a, err := readAnswer(h, []byte("answer"))
	if err != nil {
		t.Fatal(err)
	}
	evidence := func(key []byte) *attest.Evidence {
		return &attest.Evidence{Boot: attest.BootClaims{AttestationKey: attest.Bytes32(key)}, Agents: []attest.Agent{{Hidden: attest.Bytes32{1}}}}
	}
	if _, err := vouched(a.signed, evidence(make([]byte, 32))); exitCode(err) != exitSignature {
		t.Errorf("another key: exit code %d, %v", exitCode(err), err)
	}
	if _, err := vouched(a.signed, evidence(public)); exitCode(err) != exitMismatch {
		t.Errorf("another boot: exit code %d, %v", exitCode(err), err)
	}
	a.signed.Statement.Platform = attest.Bytes32(evidence(public).Boot.Digest())
	if _, err := vouched(a.signed, evidence(public)); exitCode(err) != exitSignature {
		t.Errorf("a statement that was changed: exit code %d, %v", exitCode(err), err)
	}
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	a.signed.Statement.Platform = attest.Bytes32(evidence(public).Boot.Digest())
	message := a.signed.Statement.Message()
	a.signed.Signature = ed25519.Sign(private, message[:])
	if shown, err := vouched(a.signed, evidence(public)); err != nil || shown {
		t.Errorf("a good one of an agent that is hidden: shown %v, %v", shown, err)
	}
	nobody := evidence(public)
	nobody.Agents = nil
	if _, err := vouched(a.signed, nobody); exitCode(err) != exitMismatch {
		t.Errorf("a platform without agents: %v", err)
	}
}

// asks is a question as a platform tells it, with the key of who can answer.
func asks(t *testing.T) (*question, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(der)
	q := &question{Entry: 7, Agent: "a", Instance: "a-1", Boot: attest.Bytes16{9}.String(), Action: "mcp.tools/call", Resource: "bank/pay",
		Arguments: json.RawMessage(`{"to":"x\u202ey","amount":5}`), Asked: time.Unix(0, 0).UTC(), Approvers: []approver{{"boss", 1, []string{hex.EncodeToString(sum[:])}}}}
	digest, err := policy.ArgumentsDigest(policy.Input{Agent: policy.InputAgent{Name: "a", Instance: "a-1"}, Action: q.Action, Resource: q.Resource, Args: q.Arguments})
	if err != nil {
		t.Fatal(err)
	}
	q.Digest = hex.EncodeToString(digest[:])
	return q, key
}

func TestWhatIsSignedIsWhatIsShown(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(*question)
		words  string
	}{
		{"as it was", func(*question) {}, ""},
		{"another boot", func(q *question) { q.Boot = attest.Bytes16{8}.String() }, "the platform that was verified is boot"},
		{"other arguments", func(q *question) { q.Arguments = json.RawMessage(`{"to":"y","amount":5}`) }, "digest is not of what it shows"},
		{"another call", func(q *question) { q.Resource = "bank/look" }, "digest is not of what it shows"},
		{"another agent", func(q *question) { q.Instance = "a-2" }, "digest is not of what it shows"},
		{"rules in the place of a call", func(q *question) { q.Widen = []string{"pay"} }, "digest is not of what it shows"},
		{"arguments that are none", func(q *question) { q.Arguments = json.RawMessage(`{`) }, "arguments"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			q, _ := asks(t)
			tt.change(q)
			_, err := q.answer(attest.Bytes16{9})
			if (err == nil) != (tt.words == "") || err != nil && (exitCode(err) != exitMismatch || !strings.Contains(err.Error(), tt.words)) {
				t.Errorf("exit code %d: %v", exitCode(err), err)
			}
		})
	}
}

func TestAPersonIsShownWhatCannotLookLikeSomethingElse(t *testing.T) {
	q, _ := asks(t)
	words := q.words()
	for _, want := range []string{`"to" = "x\u202ey"`, `"amount" = "5"`, `"bank/pay"`, "question 7", q.Digest} {
		if !strings.Contains(words, want) {
			t.Errorf("no %s in:\n%s", want, words)
		}
	}
	for _, r := range words {
		if r > 0x7e || r < 0x20 && r != '\n' {
			t.Errorf("a %q is shown as it came", r)
		}
	}
}

func TestOnlyWhoCanAnswerSigns(t *testing.T) {
	q, key := asks(t)
	if who, err := q.principal([]*ecdsa.PrivateKey{key}); err != nil || who != "boss" {
		t.Errorf("%s %v", who, err)
	}
	_, other := asks(t)
	if _, err := q.principal([]*ecdsa.PrivateKey{other}); exitCode(err) != exitMismatch || !strings.Contains(err.Error(), "boss (0 of 1 keys given)") {
		t.Errorf("another key: %v", err)
	}
	q.Approvers[0].Threshold = 2
	if _, err := q.principal([]*ecdsa.PrivateKey{key, key}); err == nil {
		t.Error("one key counts twice")
	}
	if _, err := pick([]question{*q}, "7"); err != nil {
		t.Error(err)
	}
	for _, entry := range []string{"8", "x", "-1", ""} {
		if _, err := pick([]question{*q}, entry); err == nil {
			t.Errorf("entry %q", entry)
		}
	}
}
