package policy

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net/url"
	"path"
	"slices"
	"strings"
)

// The rights that a caller can have. None of them is another: who may deploy
// sees nothing by that.
const (
	RightDeploy  = "deploy"  // hand in a deployment; its signature is another matter
	RightInvoke  = "invoke"  // give an agent input
	RightApprove = "approve" // hand in the answer of a person
	RightObserve = "observe" // see agents in evidence, and read the provenance log
	RightOutput  = "output"  // read the last lines that an agent wrote
)

var rights = []string{RightDeploy, RightInvoke, RightApprove, RightObserve, RightOutput}

// Caller is somebody who talks to the platform over the network, known by keys
// of TLS client certificates, by an identity provider's tokens, or by nothing.
type Caller struct {
	Name string `json:"name"`
	// Keys are those of client certificates. A certificate's key is all of it
	// that counts.
	Keys []Key `json:"keys,omitempty"`
	OIDC *OIDC `json:"oidc,omitempty"`
	// Anonymous is everybody.
	Anonymous bool `json:"anonymous,omitempty"`
	// Peers are the platforms that attested to this one and that its measured
	// trust roots accept.
	Peers  bool     `json:"peers,omitempty"`
	Rights []string `json:"rights"`
	// Agents are globs, in the form of path.Match, of the agents' names that the
	// rights are for. Other agents are not shown to the caller.
	Agents []string `json:"agents"`
	// Input is what this caller's requests are. Absent: what the agent's rule
	// says, and of an anonymous caller untrusted as well.
	Input *Result `json:"input,omitempty"`
}

// OIDC is an identity provider and whom of its subjects is meant. Its keys are
// in the measured policy: the platform asks nobody who may call it.
type OIDC struct {
	Issuer   string      `json:"issuer"`
	Audience string      `json:"audience"`
	Subject  string      `json:"subject"` // a glob in the form of path.Match
	Keys     []IssuerKey `json:"keys"`
}

// IssuerKey is a key of an identity provider.
type IssuerKey struct {
	ID  string `json:"id"`  // kid of RFC 7517 section 4.5
	PEM string `json:"pem"` // RSA of 2048 bits or more, or ECDSA P-256
}

// Bounds of what a policy says of callers.
const (
	maxCallers    = 256
	maxIssuerKeys = 16
	minRSABits    = 2048 // NIST SP 800-131A
	maxRSABits    = 8192
	maxIdentifier = 256
)

// DefaultCallers hold where a policy names no caller: everybody sees every
// agent, and nobody may do more.
func DefaultCallers() []Caller {
	return []Caller{{Name: "anyone", Anonymous: true, Rights: []string{RightObserve}, Agents: []string{"*"}}}
}

// EffectiveCallers are the policy's callers, or the default ones.
func (d *Document) EffectiveCallers() []Caller {
	if len(d.Callers) == 0 {
		return DefaultCallers()
	}
	return d.Callers
}

// PublicKey is the key of an identity provider.
func (k IssuerKey) PublicKey() (any, error) {
	block, rest := pem.Decode([]byte(k.PEM))
	if block == nil || block.Type != "PUBLIC KEY" || len(strings.TrimSpace(string(rest))) > 0 {
		return nil, errors.New("not one PEM PUBLIC KEY")
	}
	key, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("public key: %w", err)
	}
	switch key := key.(type) {
	case *rsa.PublicKey:
		if n := key.N.BitLen(); n < minRSABits || n > maxRSABits {
			return nil, fmt.Errorf("RSA key of %d bits", n)
		}
		return key, nil
	case *ecdsa.PublicKey:
		if key.Curve == elliptic.P256() {
			return key, nil
		}
	}
	return nil, errors.New("public key is neither RSA nor ECDSA P-256")
}

// callers checks who may talk to the platform.
func (c *checker) callers() {
	if len(c.doc.Callers) > maxCallers {
		c.fault("callers", "%d of them, at most %d", len(c.doc.Callers), maxCallers)
		return
	}
	names, keys := map[string]bool{}, map[string]bool{}
	for i := range c.doc.Callers {
		at, caller := fmt.Sprintf("callers[%d]", i), &c.doc.Callers[i]
		c.unique(at+".name", caller.Name, nameForm, names)
		c.caller(at, caller, keys)
	}
}

func (c *checker) caller(at string, caller *Caller, keys map[string]bool) {
	ways := 0
	for _, has := range []bool{len(caller.Keys) > 0, caller.OIDC != nil, caller.Anonymous, caller.Peers} {
		if has {
			ways++
		}
	}
	if ways != 1 {
		c.fault(at, "%d ways to know the caller; give one of keys, oidc, peers and anonymous", ways)
	}
	for i, k := range caller.Keys {
		if err := k.check(); err != nil {
			c.fault(fmt.Sprintf("%s.keys[%d]", at, i), "%v", err)
		}
		if keys[k.ID] {
			c.fault(fmt.Sprintf("%s.keys[%d]", at, i), "the key of two callers, or twice")
		}
		keys[k.ID] = true
	}
	if caller.OIDC != nil {
		c.oidc(at+".oidc", caller.OIDC)
	}
	if len(caller.Rights) == 0 {
		c.fault(at+".rights", "no right")
	}
	for i, r := range caller.Rights {
		switch {
		case !slices.Contains(rights, r):
			c.fault(fmt.Sprintf("%s.rights[%d]", at, i), "%q is no right (%s)", r, strings.Join(rights, ", "))
		case slices.Contains(caller.Rights[:i], r):
			c.fault(fmt.Sprintf("%s.rights[%d]", at, i), "%q is given twice", r)
		}
	}
	if len(caller.Agents) == 0 {
		c.fault(at+".agents", `no agent; "*" is every agent`)
	}
	for i, g := range caller.Agents {
		c.glob(fmt.Sprintf("%s.agents[%d]", at, i), g)
	}
	c.result(at+".input", caller.Input)
}

func (c *checker) glob(at, g string) {
	if _, err := path.Match(g, ""); err != nil || g == "" || len(g) > maxIdentifier {
		c.fault(at, "%.80q is no glob", g)
	}
}

func (c *checker) oidc(at string, o *OIDC) {
	u, err := url.Parse(o.Issuer) // OpenID Connect Core 1.0, section 2: an https URL without query and fragment
	if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.ForceQuery || u.Fragment != "" || len(o.Issuer) > maxIdentifier {
		c.fault(at+".issuer", "%.80q is not the https URL of an issuer", o.Issuer)
	}
	if o.Audience == "" || len(o.Audience) > maxIdentifier {
		c.fault(at+".audience", "name what the tokens are for: a token for somebody else must not work here")
	}
	c.glob(at+".subject", o.Subject)
	if len(o.Keys) == 0 || len(o.Keys) > maxIssuerKeys {
		c.fault(at+".keys", "%d keys, want 1 to %d", len(o.Keys), maxIssuerKeys)
	}
	seen := map[string]bool{}
	for i, k := range o.Keys {
		place := fmt.Sprintf("%s.keys[%d]", at, i)
		if _, err := k.PublicKey(); err != nil {
			c.fault(place, "%v", err)
		}
		if k.ID == "" || len(k.ID) > maxIdentifier || seen[k.ID] {
			c.fault(place, "key id %.40q is empty, or there twice", k.ID)
		}
		seen[k.ID] = true
	}
}
