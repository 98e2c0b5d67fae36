package front

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"path"
	"slices"
	"strings"
	"time"

	"omega/internal/strictjson"
	"omega/policy"
)

// Bounds of a token. Headers have 8 KiB in all.
const (
	maxToken = 8 << 10
	// leeway is how far clocks may be apart; ours is the host's claim.
	leeway = time.Minute
	// maxLife is the longest that a token may still be good for.
	maxLife = 24 * time.Hour
	// maxSeconds keeps a NumericDate within what time.Time can add up.
	maxSeconds = 1 << 40
)

// The algorithms that are read (RFC 7518 section 3.1).
const (
	algRS256 = "RS256"
	algES256 = "ES256"
)

// bearer is a JSON Web Token in compact form (RFC 7519), not yet verified.
type bearer struct {
	header    tokenHeader
	claims    tokenClaims
	signed    []byte
	signature []byte
}

// tokenHeader is what a header may say. Whatever brings a key, points to one, or
// changes how the rest is read (jwk, jku, x5c, x5u, crit, b64, zip) is unknown.
type tokenHeader struct {
	Algorithm string `json:"alg"`
	Type      string `json:"typ,omitempty"`
	KeyID     string `json:"kid,omitempty"`
	Thumb     string `json:"x5t,omitempty"`
}

// tokenClaims are the claims that count; tokens have others too.
type tokenClaims struct {
	Issuer    string          `json:"iss"`
	Subject   string          `json:"sub"`
	Audience  json.RawMessage `json:"aud"`
	Expires   json.Number     `json:"exp"`
	NotBefore json.Number     `json:"nbf,omitempty"`
	IssuedAt  json.Number     `json:"iat,omitempty"`
}

func parseToken(text string) (*bearer, error) {
	if len(text) > maxToken {
		return nil, fmt.Errorf("token of %d bytes", len(text))
	}
	parts := strings.Split(text, ".")
	if len(parts) != 3 {
		return nil, errors.New("not a token of three parts")
	}
	var raw [3][]byte
	for i, p := range parts {
		b, err := base64.RawURLEncoding.Strict().DecodeString(p)
		if err != nil || strings.ContainsAny(p, "\r\n") {
			return nil, fmt.Errorf("part %d of the token is not base64url", i+1)
		}
		raw[i] = b
	}
	t := &bearer{signed: []byte(parts[0] + "." + parts[1]), signature: raw[2]}
	if err := strictjson.Decode(raw[0], &t.header, strictjson.Limits{MaxBytes: maxToken}); err != nil {
		return nil, fmt.Errorf("token header: %w", err)
	}
	if err := strictjson.Decode(raw[1], &t.claims, strictjson.Limits{MaxBytes: maxToken, AllowUnknown: true}); err != nil {
		return nil, fmt.Errorf("token claims: %w", err)
	}
	return t, nil
}

// audiences reads aud, a text or a list of them (RFC 7519 section 4.1.3).
func (c *tokenClaims) audiences() []string {
	var one string
	if strictjson.Decode(c.Audience, &one, strictjson.Limits{}) == nil {
		return []string{one}
	}
	var many []string
	if strictjson.Decode(c.Audience, &many, strictjson.Limits{}) == nil {
		return many
	}
	return nil
}

// issuer is an identity provider of the policy with its keys.
type issuer struct {
	caller *policy.Caller
	keys   map[string]any // by kid: *rsa.PublicKey or *ecdsa.PublicKey
}

func newIssuer(c *policy.Caller) (issuer, error) {
	out := issuer{caller: c, keys: map[string]any{}}
	for _, k := range c.OIDC.Keys {
		public, err := k.PublicKey()
		if err != nil {
			return out, err
		}
		out.keys[k.ID] = public
	}
	return out, nil
}

// means reports whether the claims are those of this caller.
func (i *issuer) means(c *tokenClaims) bool {
	o := i.caller.OIDC
	subject, err := path.Match(o.Subject, c.Subject)
	return c.Issuer == o.Issuer && err == nil && subject && c.Subject != "" && slices.Contains(c.audiences(), o.Audience)
}

// verify checks signature and times.
func (i *issuer) verify(t *bearer, now time.Time) error {
	key, ok := i.keys[t.header.KeyID]
	if !ok {
		return fmt.Errorf("key %.40q of the token is not in the policy", t.header.KeyID)
	}
	if !signedBy(key, t) {
		return errors.New("the token's signature is not valid")
	}
	expires, err := date(t.claims.Expires)
	if err != nil {
		return fmt.Errorf("exp: %w", err)
	}
	if now.After(expires.Add(leeway)) || expires.After(now.Add(maxLife)) {
		return fmt.Errorf("the token ends at %s, which is over or more than %s away", expires.UTC().Format(time.RFC3339), maxLife)
	}
	for name, n := range map[string]json.Number{"nbf": t.claims.NotBefore, "iat": t.claims.IssuedAt} {
		if n == "" {
			continue
		}
		if from, err := date(n); err != nil || from.After(now.Add(leeway)) {
			return fmt.Errorf("%s of the token is not yet: %.30q", name, n)
		}
	}
	return nil
}

// signedBy goes by the key's kind, never by what the token says alone.
func signedBy(key any, t *bearer) bool {
	sum := sha256.Sum256(t.signed)
	switch key := key.(type) {
	case *rsa.PublicKey:
		return t.header.Algorithm == algRS256 && rsa.VerifyPKCS1v15(key, crypto.SHA256, sum[:], t.signature) == nil
	case *ecdsa.PublicKey:
		const half = 32 // RFC 7518 section 3.4: R and S, 32 bytes each
		if t.header.Algorithm != algES256 || len(t.signature) != 2*half {
			return false
		}
		return ecdsa.Verify(key, sum[:], new(big.Int).SetBytes(t.signature[:half]), new(big.Int).SetBytes(t.signature[half:]))
	}
	return false
}

// date reads a NumericDate of whole seconds (RFC 7519 section 2).
func date(n json.Number) (time.Time, error) {
	s, err := n.Int64()
	if err != nil || s <= 0 || s > maxSeconds {
		return time.Time{}, fmt.Errorf("%.30q is no time", n)
	}
	return time.Unix(s, 0), nil
}
