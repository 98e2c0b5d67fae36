package main

import (
	"crypto/ed25519"
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"

	"omega/attest"
)

func TestAnInvocationStatementIsVerifiedAgainstThePlatform(t *testing.T) {
	p := newPlatform(t)
	newPeople(t).withAgents(t, p)
	b, err := p.evidence(t.Context(), [32]byte{1})
	if err != nil {
		t.Fatal(err)
	}
	e, err := attest.ParseEvidence(b)
	if err != nil {
		t.Fatal(err)
	}
	good := attest.Invocation{Version: attest.InvocationVersion, Platform: e.Boot.Digest(), Instance: "writer-1", Identity: e.Agents[1].Identity,
		Input: attest.CommitInput([16]byte{1}, []byte("question")), Output: attest.CommitOutput([16]byte{2}, []byte("answer")), LogIndex: 2, LogLeaf: attest.Bytes32{3}, Labels: []string{"personal"}}
	dir := t.TempDir()
	question, answer := filepath.Join(dir, "question"), filepath.Join(dir, "answer")
	writeTestFile(t, question, []byte("question"))
	writeTestFile(t, answer, []byte("answer"))
	tests := []struct {
		name   string
		change func(*attest.Invocation)
		key    ed25519.PrivateKey
		want   int
		words  string
		args   []string
	}{
		{"an honest one", func(*attest.Invocation) {}, testAttestationKey, exitOK, "labels: personal", nil},
		{"nothing to hold it against", func(*attest.Invocation) {}, testAttestationKey, exitOK, "no input was given", nil},
		{"the input", func(*attest.Invocation) {}, testAttestationKey, exitOK, "the statement is about this input", []string{"--input", question}},
		{"input and output", func(*attest.Invocation) {}, testAttestationKey, exitOK, "the statement is about this output", []string{"--input", question, "--output", answer}},
		{"another input", func(*attest.Invocation) {}, testAttestationKey, exitMismatch, "about another input", []string{"--input", answer, "--output", answer}},
		{"another output", func(*attest.Invocation) {}, testAttestationKey, exitMismatch, "about another output", []string{"--output", question}},
		{"the halves exchanged", func(i *attest.Invocation) { i.Input, i.Output = i.Output, i.Input }, testAttestationKey, exitMismatch, "about another input", []string{"--input", answer, "--output", question}},
		{"another key", func(*attest.Invocation) {}, ed25519.NewKeyFromSeed(make([]byte, 32)), exitSignature, "not signed", nil},
		{"another boot", func(i *attest.Invocation) { i.Platform[0]++ }, testAttestationKey, exitMismatch, "expected", nil},
		{"another agent", func(i *attest.Invocation) { i.Instance = "researcher-1" }, testAttestationKey, exitMismatch, "an agent that the evidence does not show", nil},
		{"an entry that the log has not", func(i *attest.Invocation) { i.LogIndex = 3 }, testAttestationKey, exitMismatch, "expected an entry below 3", nil},
		{"no output", func(i *attest.Invocation) { i.Output = attest.Bytes32{} }, testAttestationKey, exitSignature, "no input, no output", nil},
	}
	for _, tt := range tests {
		i := good
		tt.change(&i)
		message := i.Message()
		raw, err := json.Marshal(attest.SignedInvocation{Statement: i, Signature: ed25519.Sign(tt.key, message[:]), InputSalt: attest.Bytes16{1}, OutputSalt: attest.Bytes16{2}})
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(t.TempDir(), "invocation.json")
		writeTestFile(t, file, raw)
		code, out, words := omega(t, append([]string{"verify", p.URL, "--allow-emulated", p.root, "--manifest", p.manifest, "--manifest-unsigned", "--invocation", file}, tt.args...)...)
		if code != tt.want || !strings.Contains(out+words, tt.words) {
			t.Errorf("%s: exit %d, want %d: %s %s", tt.name, code, tt.want, out, words)
		}
	}
}
