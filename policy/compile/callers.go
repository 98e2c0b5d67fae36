package compile

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"slices"

	"omega/internal/strictjson"
	"omega/policy"
)

// maxJWKS bounds a file with an identity provider's keys.
const maxJWKS = 256 << 10

// sourceCaller is policy.Caller with files in the place of keys.
type sourceCaller struct {
	Name      string      `json:"name"`
	Key       string      `json:"key"`
	Keys      []string    `json:"keys"`
	OIDC      *sourceOIDC `json:"oidc"`
	Anonymous bool        `json:"anonymous"`
	Peers     bool        `json:"peers"`
	Rights    []string    `json:"rights"`
	Agents    []string    `json:"agents"`

	Input *policy.Result `json:"input"`
}

type sourceOIDC struct {
	Issuer   string `json:"issuer"`
	Audience string `json:"audience"`
	Subject  string `json:"subject"`
	JWKS     string `json:"jwks"` // a file in the form of RFC 7517 section 5
}

// callers replaces key files by keys.
func (s source) callers(w *walker, in []sourceCaller) (out []policy.Caller) {
	for i, c := range in {
		at := fmt.Sprintf("callers[%d]", i)
		caller := policy.Caller{Name: c.Name, Anonymous: c.Anonymous, Peers: c.Peers, Rights: c.Rights, Agents: c.Agents, Input: c.Input}
		files, place := c.Keys, func(n int) string { return fmt.Sprintf("%s.keys[%d]", at, n) }
		if c.Key != "" {
			if len(files) > 0 {
				w.fault(at+".key", "give key or keys, not both")
			}
			files, place = []string{c.Key}, func(int) string { return at + ".key" }
		}
		for n, f := range files {
			key, err := s.key(f)
			if err != nil {
				w.fault(place(n), "%v", err)
			}
			caller.Keys = append(caller.Keys, key)
		}
		if c.OIDC != nil {
			keys, err := s.jwks(c.OIDC.JWKS)
			if err != nil {
				w.fault(at+".oidc.jwks", "%v", err)
			}
			caller.OIDC = &policy.OIDC{Issuer: c.OIDC.Issuer, Audience: c.OIDC.Audience, Subject: c.OIDC.Subject, Keys: keys}
		}
		out = append(out, caller)
	}
	return out
}

// jwk is one key of a set. Members that do not say what the key is or is for are
// not read.
type jwk struct {
	Type      string   `json:"kty"`
	ID        string   `json:"kid"`
	Use       string   `json:"use,omitempty"`
	Operation []string `json:"key_ops,omitempty"`
	Algorithm string   `json:"alg,omitempty"`
	Curve     string   `json:"crv,omitempty"`
	X         string   `json:"x,omitempty"`
	Y         string   `json:"y,omitempty"`
	N         string   `json:"n,omitempty"`
	E         string   `json:"e,omitempty"`
	Private   string   `json:"d,omitempty"`
}

// jwks reads the keys of a set that sign by RS256 or ES256. A set has others
// too; that none is left is an error.
func (s source) jwks(file string) ([]policy.IssuerKey, error) {
	f, err := s.open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxJWKS+1))
	if err != nil {
		return nil, fmt.Errorf("keys %s: %w", file, err)
	}
	var set struct {
		Keys []jwk `json:"keys"`
	}
	if err := strictjson.Decode(text, &set, strictjson.Limits{MaxBytes: maxJWKS, AllowUnknown: true}); err != nil {
		return nil, fmt.Errorf("keys %s: %w", file, err)
	}
	var out []policy.IssuerKey
	for i := range set.Keys {
		k := &set.Keys[i]
		if k.Private != "" {
			return nil, fmt.Errorf("keys %s: key %.40q is private; it must not be in a policy", file, k.ID)
		}
		if !k.signs() {
			continue
		}
		key, err := k.issuerKey()
		if err != nil {
			return nil, fmt.Errorf("keys %s: key %.40q: %w", file, k.ID, err)
		}
		out = append(out, key)
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("keys %s: none that signs by RS256 or ES256", file)
	}
	return out, nil
}

// signs reports whether the key verifies signatures that are read here.
func (k *jwk) signs() bool {
	if k.Use != "" && k.Use != "sig" || len(k.Operation) > 0 && !slices.Contains(k.Operation, "verify") {
		return false
	}
	switch k.Type {
	case "RSA":
		return k.Algorithm == "" || k.Algorithm == "RS256"
	case "EC":
		return k.Curve == "P-256" && (k.Algorithm == "" || k.Algorithm == "ES256")
	}
	return false
}

func (k *jwk) issuerKey() (policy.IssuerKey, error) {
	var public any
	var err error
	if k.Type == "RSA" {
		public, err = k.rsa()
	} else {
		public, err = k.ec()
	}
	if err != nil {
		return policy.IssuerKey{}, err
	}
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return policy.IssuerKey{}, err
	}
	return policy.IssuerKey{ID: k.ID, PEM: string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))}, nil
}

func (k *jwk) rsa() (*rsa.PublicKey, error) {
	n, err := base64.RawURLEncoding.DecodeString(k.N)
	if err != nil {
		return nil, fmt.Errorf("n: %w", err)
	}
	e, err := base64.RawURLEncoding.DecodeString(k.E)
	if err != nil || len(e) == 0 || len(e) > 3 {
		return nil, errors.New("e: not a small number in base64url")
	}
	return &rsa.PublicKey{N: new(big.Int).SetBytes(n), E: int(new(big.Int).SetBytes(e).Int64())}, nil
}

func (k *jwk) ec() (*ecdsa.PublicKey, error) {
	const size = 32 // of a coordinate: RFC 7518 section 6.2.1.2
	point := []byte{4}
	for _, text := range []string{k.X, k.Y} {
		b, err := base64.RawURLEncoding.DecodeString(text)
		if err != nil || len(b) != size {
			return nil, errors.New("coordinates are not 32 bytes each")
		}
		point = append(point, b...)
	}
	return ecdsa.ParseUncompressedPublicKey(elliptic.P256(), point)
}
