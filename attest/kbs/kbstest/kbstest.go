// Package kbstest is a key broker service in this process, for tests. It follows
// Trustee's published protocol (78962cd: kbs/docs/kbs_attestation_protocol.md,
// kbs/src/attestation/backend.rs, deps/verifier/src/snp/mod.rs) with forms and
// cryptography of its own, so that client and broker check one another, and is
// stricter than Trustee: a field that it does not know is refused.
package kbstest

import (
	"crypto/rand"
	"crypto/sha512"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"omega/attest"
	"omega/attest/snp"
	"omega/attest/verifier"
	"omega/internal/strictjson"
)

// A Broker releases Resources to platforms that Policy accepts.
type Broker struct {
	Resources map[string][]byte // by REPOSITORY/TYPE/TAG
	// Policy is held against the report; it needs Measurements.
	Policy   snp.Policy
	AMDRoots []snp.Root
	// EmulatedRoot, if given, accepts reports of an emulated PSP under it.
	EmulatedRoot *x509.Certificate
	// Spoil, if given, changes answers on their way.
	Spoil func(path string, status int, header http.Header, body []byte) (int, []byte)

	mu       sync.Mutex // guards what follows
	sessions map[string]*session
	seen     []Message
}

// Message is one request as it came.
type Message struct {
	Method, Path, Cookie string
	Body                 []byte
}

type session struct {
	nonce string
	key   *publicKey // known once attested
}

// Seen are the messages so far.
func (b *Broker) Seen() []Message {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]Message(nil), b.seen...)
}

// ServeHTTP answers one message.
func (b *Broker) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(io.LimitReader(r.Body, 1<<20))
	if err != nil {
		return
	}
	m := Message{Method: r.Method, Path: r.URL.Path, Body: body}
	if c, err := r.Cookie("kbs-session-id"); err == nil {
		m.Cookie = c.Value
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.seen = append(b.seen, m)
	status := http.StatusOK
	out, problem := b.answer(w.Header(), m)
	if problem != nil {
		status = problem.status
		out, _ = json.Marshal(map[string]string{"type": "https://github.com/confidential-containers/kbs/errors/" + problem.kind, "detail": problem.Error()})
	}
	if b.Spoil != nil {
		status, out = b.Spoil(m.Path, status, w.Header(), out)
	}
	w.WriteHeader(status)
	_, _ = w.Write(out)
}

// refusal is an error with the status and the type that the protocol names.
type refusal struct {
	error
	status int
	kind   string
}

func refuse(err error) *refusal {
	return &refusal{err, http.StatusUnauthorized, "AttestationError"}
}

func (b *Broker) answer(h http.Header, m Message) ([]byte, *refusal) {
	resource, isResource := strings.CutPrefix(m.Path, "/kbs/v0/resource/")
	switch {
	case m.Method == http.MethodPost && m.Path == "/kbs/v0/auth":
		return b.auth(h, m)
	case m.Method == http.MethodPost && m.Path == "/kbs/v0/attest":
		return b.attest(m)
	case m.Method == http.MethodGet && isResource:
		return b.resource(m, resource)
	}
	return nil, &refusal{errors.New("no such path"), http.StatusNotFound, "InvalidRequestPath"}
}

func (b *Broker) auth(h http.Header, m Message) ([]byte, *refusal) {
	var req struct {
		Version string         `json:"version"`
		TEE     string         `json:"tee"`
		Extra   map[string]any `json:"extra-params"`
	}
	if err := strictjson.Decode(m.Body, &req, strictjson.Limits{}); err != nil {
		return nil, refuse(err)
	}
	if req.Version != "0.4.0" || req.TEE != "snp" {
		return nil, refuse(fmt.Errorf("version %q, TEE %q", req.Version, req.TEE))
	}
	id, nonce := make([]byte, 16), make([]byte, 32)
	_, _ = rand.Read(id) // never fails (crypto/rand)
	_, _ = rand.Read(nonce)
	s := &session{nonce: base64.StdEncoding.EncodeToString(nonce)}
	if b.sessions == nil {
		b.sessions = map[string]*session{}
	}
	b.sessions[hex.EncodeToString(id)] = s
	h.Set("Set-Cookie", "kbs-session-id="+hex.EncodeToString(id)+"; Expires="+time.Now().Add(time.Minute).UTC().Format(http.TimeFormat))
	out, _ := json.Marshal(map[string]string{"nonce": s.nonce, "extra-params": ""})
	return out, nil
}

// attestation is the message to /attest.
type attestation struct {
	Runtime struct {
		Nonce string    `json:"nonce"`
		Key   publicKey `json:"tee-pubkey"`
	} `json:"runtime-data"`
	Evidence struct {
		Primary    evidence `json:"primary_evidence"`
		Additional string   `json:"additional_evidence"`
	} `json:"tee-evidence"`
}

func (b *Broker) attest(m Message) ([]byte, *refusal) {
	s := b.sessions[m.Cookie]
	if s == nil {
		return nil, refuse(errors.New("session not found"))
	}
	var a attestation
	if err := strictjson.Decode(m.Body, &a, strictjson.Limits{MaxBytes: 1 << 20}); err != nil {
		return nil, refuse(err)
	}
	if a.Runtime.Nonce != s.nonce {
		return nil, refuse(errors.New("the nonce is not this session's"))
	}
	if a.Evidence.Additional != "" {
		return nil, refuse(errors.New("additional evidence of unknown devices"))
	}
	k := a.Runtime.Key
	// RFC 8785 by hand: keys in order, no spaces, nothing to escape.
	sum := sha512.Sum384(fmt.Appendf(nil, `{"additional-evidence":"","nonce":%q,"tee-pubkey":{"alg":%q,"crv":%q,"kty":%q,"x":%q,"y":%q}}`,
		s.nonce, k.Alg, k.Crv, k.Kty, k.X, k.Y))
	var data attest.Bytes64
	copy(data[:], sum[:])
	if err := b.appraise(&a.Evidence.Primary, data); err != nil {
		return nil, refuse(err)
	}
	s.key = &k
	return []byte(`{"token":"` + token + `"}`), nil
}

// token has the form of the broker's; this client does not read it.
const token = "eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJrYnMifQ.c2lnbmF0dXJl"

// appraise holds the report against roots, policy and REPORT_DATA.
func (b *Broker) appraise(e *evidence, data attest.Bytes64) error {
	raw, err := e.Report.bytes()
	if err != nil {
		return err
	}
	report, err := snp.ParseReport(raw)
	if err != nil {
		return err
	}
	roots := b.AMDRoots
	if report.FamilyID == snp.EmulatedFamilyID {
		if b.EmulatedRoot == nil {
			return verifier.ErrEmulated
		}
		roots = []snp.Root{{Product: snp.Milan, ARK: b.EmulatedRoot}}
	}
	chain, err := e.chain()
	if err != nil {
		return err
	}
	v, err := snp.Verify(raw, chain, roots, time.Now())
	if err != nil {
		return err
	}
	p := b.Policy
	p.ReportData = &data
	if len(p.Measurements) == 0 {
		return errors.New("no measurement is accepted")
	}
	for _, c := range p.Check(v) {
		if c.Status == attest.Failed {
			return fmt.Errorf("%w: %s", attest.ErrMismatch, c.Name)
		}
	}
	return nil
}

func (b *Broker) resource(m Message, name string) ([]byte, *refusal) {
	s := b.sessions[m.Cookie]
	if s == nil || s.key == nil {
		return nil, refuse(errors.New("session not attested"))
	}
	secret, ok := b.Resources[name]
	if !ok {
		return nil, &refusal{errors.New("no such resource"), http.StatusNotFound, "InvalidRequestPath"}
	}
	out, err := s.key.seal(secret)
	if err != nil {
		return nil, &refusal{err, http.StatusUnauthorized, "JweError"}
	}
	return out, nil
}
