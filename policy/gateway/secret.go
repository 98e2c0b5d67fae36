package gateway

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/url"

	"omega/policy"
)

// minSecret is the length below which a secret is not looked for in answers:
// short texts occur by chance.
const minSecret = 8

var (
	errSecret = errors.New("secret is not available")
	errLeak   = errors.New("the answer repeats a secret")
)

// addSecrets puts the upstream's secrets into a request on its way out. They
// are written over whatever an agent put there.
func (g *Gateway) addSecrets(h http.Header, secrets []policy.Secret) error {
	for _, s := range secrets {
		value, err := g.secret(s.Name)
		if err != nil {
			return err
		}
		h.Set(s.Header, s.Prefix+string(value))
	}
	return nil
}

func (g *Gateway) secret(name string) ([]byte, error) {
	if g.cfg.Secret == nil {
		return nil, fmt.Errorf("%w: %s", errSecret, name)
	}
	value, err := g.cfg.Secret(name)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errSecret, err)
	}
	if len(value) == 0 {
		return nil, fmt.Errorf("%w: %s", errSecret, name)
	}
	for _, c := range value {
		if c < 0x20 || c >= 0x7f {
			return nil, fmt.Errorf("%w: %s is no header text", errSecret, name)
		}
	}
	return value, nil
}

// leakForms are the secrets of an upstream as its answers must not have them:
// plain, or in one of the encodings that servers echo. It is best effort: whoever
// holds a secret can hide it in an answer.
func (g *Gateway) leakForms(secrets []policy.Secret) (forms [][]byte) {
	for _, s := range secrets {
		value, err := g.secret(s.Name)
		if err != nil || len(value) < minSecret {
			continue
		}
		forms = append(forms, value, []byte(url.QueryEscape(string(value))),
			[]byte(base64.StdEncoding.EncodeToString(value)), []byte(base64.RawURLEncoding.EncodeToString(value)))
	}
	return forms
}

// leaks says whether an answer repeats a secret of its upstream.
func (g *Gateway) leaks(secrets []policy.Secret, answer []byte) bool {
	for _, form := range g.leakForms(secrets) {
		if bytes.Contains(answer, form) {
			return true
		}
	}
	return false
}

func (g *Gateway) leaksHeader(secrets []policy.Secret, h http.Header) bool {
	for _, values := range h {
		for _, v := range values {
			if g.leaks(secrets, []byte(v)) {
				return true
			}
		}
	}
	return false
}
