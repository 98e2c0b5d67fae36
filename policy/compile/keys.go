package compile

import (
	"crypto/ecdh"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"omega/policy"
)

// maxKeyFile bounds a key file.
const maxKeyFile = 16 << 10

// sourceDocument is policy.Document with files in the place of keys and modules.
type sourceDocument struct {
	Version    string             `json:"version"`
	Platform   string             `json:"platform"`
	GPU        string             `json:"gpu"`
	Principals []sourcePrincipal  `json:"principals"`
	Auditors   []policy.Auditor   `json:"auditors"`
	Servers    []policy.Server    `json:"servers"`
	Models     []policy.Model     `json:"models"`
	Web        []policy.Web       `json:"web"`
	Peers      []sourcePeer       `json:"peers"`
	Data       []policy.Dataset   `json:"data"`
	Rego       []string           `json:"rego"`
	Callers    []sourceCaller     `json:"callers"`
	Broker     *sourceBroker      `json:"broker"`
	Agents     []policy.AgentRule `json:"agents"`
}

// sourceBroker is policy.Broker with a file in the place of its key.
type sourceBroker struct {
	URL     string `json:"url"`
	Key     string `json:"key"`
	Private bool   `json:"private"`
}

type sourcePrincipal struct {
	Name      string   `json:"name"`
	Key       string   `json:"key"`
	Keys      []string `json:"keys"`
	Threshold int      `json:"threshold"`
	Roles     []string `json:"roles"`
	Names     []string `json:"names"`
}

// sourcePeer is policy.Peer with a file in the place of its key.
type sourcePeer struct {
	Name     string          `json:"name"`
	Agent    string          `json:"agent"`
	URL      string          `json:"url"`
	Card     string          `json:"card"`
	Key      string          `json:"key"`
	Attested bool            `json:"attested"`
	Private  bool            `json:"private"`
	Secrets  []policy.Secret `json:"secrets"`
	Result   *policy.Result  `json:"result"`
	Readers  []string        `json:"readers"`
}

// inline replaces key files by keys.
func (s source) inline(w *walker, in sourceDocument) *policy.Document {
	doc := &policy.Document{
		Version: in.Version, Platform: in.Platform, GPU: in.GPU,
		Principals: []policy.Principal{}, Auditors: []policy.Auditor{},
		Servers: in.Servers, Models: in.Models, Agents: in.Agents, Web: in.Web, Data: in.Data,
	}
	doc.Servers = append([]policy.Server{}, doc.Servers...)
	doc.Models = append([]policy.Model{}, doc.Models...)
	doc.Agents = append([]policy.AgentRule{}, doc.Agents...)
	for i, p := range in.Principals {
		doc.Principals = append(doc.Principals, s.principal(w, fmt.Sprintf("principals[%d]", i), p))
	}
	for i, a := range in.Auditors {
		key, err := s.auditorKey(a.Key)
		if err != nil {
			w.fault(fmt.Sprintf("auditors[%d].key", i), "%v", err)
		}
		doc.Auditors = append(doc.Auditors, policy.Auditor{Name: a.Name, Key: key})
	}
	doc.Callers = s.callers(w, in.Callers)
	for i, p := range in.Peers {
		doc.Peers = append(doc.Peers, s.peer(w, fmt.Sprintf("peers[%d].key", i), p))
	}
	if b := in.Broker; b != nil {
		doc.Broker = &policy.Broker{URL: b.URL, Private: b.Private}
		if b.Key != "" {
			key, err := s.key(b.Key)
			if err != nil {
				w.fault("broker.key", "%v", err)
			}
			doc.Broker.Key = &key
		}
	}
	for i, f := range in.Rego {
		doc.Rego = append(doc.Rego, s.module(w, fmt.Sprintf("rego[%d]", i), f))
	}
	return doc
}

func (s source) peer(w *walker, at string, p sourcePeer) policy.Peer {
	out := policy.Peer{Name: p.Name, Agent: p.Agent, URL: p.URL, Card: p.Card, Attested: p.Attested, Private: p.Private, Secrets: p.Secrets, Result: p.Result, Readers: p.Readers}
	if p.Key != "" {
		key, err := s.key(p.Key)
		if err != nil {
			w.fault(at, "%v", err)
		}
		out.Key = &key
	}
	return out
}

// module reads a Rego file; its name is the file's without .rego.
func (s source) module(w *walker, at, file string) policy.Module {
	f, err := s.open(file)
	if err != nil {
		w.fault(at, "%v", err)
		return policy.Module{}
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxSource))
	if err != nil {
		w.fault(at, "%v", err)
	}
	return policy.Module{Name: strings.TrimSuffix(filepath.Base(file), ".rego"), Text: string(text)}
}

// open opens a file that a policy names.
func (s source) open(file string) (*os.File, error) {
	path := file
	if !filepath.IsAbs(path) {
		path = filepath.Join(s.dir, path)
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s: not a file", file)
	}
	return os.Open(path)
}

func (s source) principal(w *walker, at string, p sourcePrincipal) policy.Principal {
	out := policy.Principal{Name: p.Name, Threshold: p.Threshold, Roles: p.Roles, Names: p.Names}
	if out.Threshold == 0 && !w.has(at+".threshold") {
		out.Threshold = 1
	}
	files := p.Keys
	if p.Key != "" {
		if len(files) > 0 {
			w.fault(at+".key", "give key or keys, not both")
		}
		files = []string{p.Key}
	}
	for i, f := range files {
		place := fmt.Sprintf("%s.keys[%d]", at, i)
		if p.Key != "" {
			place = at + ".key"
		}
		key, err := s.key(f)
		if err != nil {
			w.fault(place, "%v", err)
		}
		out.Keys = append(out.Keys, key)
	}
	return out
}

// key reads one PEM public key; policy.Validate checks its algorithm.
func (s source) key(file string) (policy.Key, error) {
	block, _, err := s.pem(file)
	if err != nil {
		return policy.Key{}, err
	}
	if block == nil {
		return policy.Key{}, fmt.Errorf("key %s: not a PEM PUBLIC KEY", file)
	}
	sum := sha256.Sum256(block.Bytes)
	return policy.Key{
		ID:  hex.EncodeToString(sum[:]),
		PEM: string(pem.EncodeToMemory(&pem.Block{Type: block.Type, Bytes: block.Bytes})),
	}, nil
}

// auditorKey reads an X25519 key: PEM, or hex in the file, or hex in its place.
func (s source) auditorKey(file string) (string, error) {
	if raw, err := hex.DecodeString(file); err == nil && len(raw) == 32 {
		return strings.ToLower(file), nil
	}
	block, text, err := s.pem(file)
	if err != nil {
		return "", err
	}
	if block == nil {
		raw, err := hex.DecodeString(strings.TrimSpace(string(text)))
		if err != nil || len(raw) != 32 {
			return "", fmt.Errorf("key %s: neither a PEM X25519 PUBLIC KEY nor its 64 hex digits", file)
		}
		return hex.EncodeToString(raw), nil
	}
	parsed, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return "", fmt.Errorf("key %s: %w", file, err)
	}
	key, ok := parsed.(*ecdh.PublicKey)
	if !ok || key.Curve() != ecdh.X25519() {
		return "", fmt.Errorf("key %s: not X25519", file)
	}
	return hex.EncodeToString(key.Bytes()), nil
}

// pem reads one PUBLIC KEY from a file, or from the policy itself; the block is
// nil for other text.
func (s source) pem(file string) (*pem.Block, []byte, error) {
	if file == "" {
		return nil, nil, errors.New("no key file")
	}
	text := []byte(file)
	if !strings.HasPrefix(file, "-----BEGIN ") {
		f, err := s.open(file)
		if err != nil {
			return nil, nil, fmt.Errorf("key: %w", err)
		}
		defer f.Close()
		if text, err = io.ReadAll(io.LimitReader(f, maxKeyFile)); err != nil {
			return nil, nil, fmt.Errorf("key %s: %w", file, err)
		}
	}
	block, rest := pem.Decode(text)
	if block == nil {
		return nil, text, nil
	}
	if block.Type != "PUBLIC KEY" {
		return nil, nil, fmt.Errorf("key %s: holds a %s, want a PUBLIC KEY", file, block.Type)
	}
	if len(strings.TrimSpace(string(rest))) > 0 {
		return nil, nil, fmt.Errorf("key %s: more than one key", file)
	}
	return block, text, nil
}
