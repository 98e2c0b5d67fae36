package bundle

import (
	"fmt"
	"regexp"
	"strings"
	"time"

	"omega/internal/strictjson"
)

// Deployment says: run this agent bundle as this instance on that platform, once.
type Deployment struct {
	// Bundle is the digest of the agent bundle, the statement's subject.
	Bundle Digest `json:"-"`
	// Repository is where the bundle lies, with or without a registry host.
	Repository string `json:"repository"`
	// Instance names the running agent on its platform.
	Instance string `json:"instance"`
	// Audience is a platform set's name or a boot id in hex.
	Audience string `json:"audience"`
	// Serial is never accepted twice from one key.
	Serial uint64 `json:"serial"`
	// Expires ends the deployment's validity, not the agent's life.
	Expires time.Time `json:"expires"`
}

// repositoryPattern is an OCI repository name with an optional registry host (distribution-spec 1.1, name).
var repositoryPattern = regexp.MustCompile(
	`^(?:[a-zA-Z0-9.-]+(?::[0-9]{1,5})?/)?[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*$`)

// ParseDeployment reads a deployment from an envelope without believing it: use it only to word a refusal.
func ParseDeployment(raw []byte) (*Deployment, error) {
	env, err := ParseEnvelope(raw)
	if err != nil {
		return nil, err
	}
	return deploymentIn(env)
}

// VerifyDeployment verifies that at least one of keys signed the deployment, and returns it with the
// IDs of those that did. Audience, serial and expiry are left to the caller, who knows the platform
// and the time.
func VerifyDeployment(raw []byte, keys []Key) (*Deployment, []string, error) {
	env, err := ParseEnvelope(raw)
	if err != nil {
		return nil, nil, err
	}
	ids, err := signersOf(env, keys)
	if err != nil {
		return nil, nil, err
	}
	d, err := deploymentIn(env)
	if err != nil {
		return nil, nil, err
	}
	return d, ids, nil
}

func deploymentIn(e *Envelope) (*Deployment, error) {
	d := new(Deployment)
	about, err := parseStatement(e.Payload, PredicateDeployment, d)
	if err != nil {
		return nil, err
	}
	d.Bundle = about
	if err := d.validate(); err != nil {
		return nil, fmt.Errorf("deployment: %w", err)
	}
	return d, nil
}

func (d *Deployment) validate() error {
	if len(d.Repository) > 255 || strings.Contains(d.Repository, "..") || !repositoryPattern.MatchString(d.Repository) {
		return fmt.Errorf("repository %.80q", d.Repository)
	}
	return checkOrder(d.Bundle, d.Instance, d.Audience, d.Serial, d.Expires)
}

// SignDeployment signs d and returns the DSSE envelope.
func SignDeployment(key *PrivateKey, d Deployment) ([]byte, error) {
	d.Expires = d.Expires.UTC().Truncate(time.Second)
	if err := d.validate(); err != nil {
		return nil, fmt.Errorf("deployment: %w", err)
	}
	payload, err := newStatement(d.Bundle, PredicateDeployment, d)
	if err != nil {
		return nil, err
	}
	env, _, err := seal(key, payload)
	if err != nil {
		return nil, err
	}
	return strictjson.Canonical(env)
}
