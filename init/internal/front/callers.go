package front

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"omega/policy"
)

// errNotKnown is the refusal of credentials that are none here. What exactly
// was wrong is for our log, not for who tries.
var errNotKnown = errors.New("credentials are not those of a caller that the policy names")

// Callers tells who a request is from, by the measured policy and by nothing
// else: it asks nobody.
type Callers struct {
	callers []policy.Caller
	byKey   map[string]*policy.Caller // by the SHA-256 of the SubjectPublicKeyInfo, in hex
	issuers []issuer
	agents  []string
	now     func() time.Time
}

// NewCallers takes the callers and the agents' names from a policy.
func NewCallers(d *policy.Document, now func() time.Time) (*Callers, error) {
	c := &Callers{callers: d.EffectiveCallers(), byKey: map[string]*policy.Caller{}, now: now}
	for _, a := range d.Agents {
		c.agents = append(c.agents, a.Name)
	}
	for i := range c.callers {
		caller := &c.callers[i]
		for _, k := range caller.Keys {
			c.byKey[k.ID] = caller
		}
		if caller.OIDC != nil {
			is, err := newIssuer(caller)
			if err != nil {
				return nil, fmt.Errorf("caller %s: %w", caller.Name, err)
			}
			c.issuers = append(c.issuers, is)
		}
	}
	return c, nil
}

// A Who is a request's caller: everybody's rights, and those of the callers that
// the credentials are of. The zero value may do nothing.
type Who struct {
	granted []*policy.Caller
	agents  []string
	// Named reports whether the request brought credentials that are good.
	Named bool
	// Subject is whom an identity provider's token is about; empty without one.
	Subject string
}

// Identify says who a request is from. A client certificate whose key no caller
// has is like none: it may be for somebody else. A bearer token that is not good
// is refused, whatever else the request brings.
func (c *Callers) Identify(r *http.Request) (Who, error) {
	if c == nil {
		return Who{}, nil
	}
	w := c.anybody()
	if r.TLS != nil && len(r.TLS.PeerCertificates) > 0 {
		// TLS 1.3 has shown that the other end holds the key (RFC 8446 section
		// 4.4.3). Nothing else in the certificate counts, so nobody signs it.
		sum := sha256.Sum256(r.TLS.PeerCertificates[0].RawSubjectPublicKeyInfo)
		if caller := c.byKey[hex.EncodeToString(sum[:])]; caller != nil {
			w.granted, w.Named = append(w.granted, caller), true
		}
	}
	if PeerOf(r.Context()) != nil {
		w.granted, w.Named = append(w.granted, c.peers()...), true
	}
	header := r.Header.Values("Authorization")
	if len(header) == 0 {
		return w, nil
	}
	token, ok := strings.CutPrefix(header[0], "Bearer ")
	if !ok || len(header) != 1 {
		return Who{}, fmt.Errorf("%w: want one bearer token", errNotKnown)
	}
	found, subject, err := c.tokenOf(token)
	if err != nil {
		return Who{}, fmt.Errorf("%w: %w", errNotKnown, err)
	}
	w.granted, w.Named, w.Subject = append(w.granted, found...), true, subject
	return w, nil
}

func (c *Callers) anybody() Who {
	w := Who{agents: c.agents}
	for i := range c.callers {
		if c.callers[i].Anonymous {
			w.granted = append(w.granted, &c.callers[i])
		}
	}
	return w
}

// peers are the callers that accepted platforms are.
func (c *Callers) peers() (out []*policy.Caller) {
	for i := range c.callers {
		if c.callers[i].Peers {
			out = append(out, &c.callers[i])
		}
	}
	return out
}

// ForPeers are the names of the agents that a platform may see which the
// measured trust roots accept.
func (c *Callers) ForPeers() []string {
	w := c.anybody()
	w.granted = append(w.granted, c.peers()...)
	return w.Observed()
}

// tokenOf are the callers whose token it is.
func (c *Callers) tokenOf(token string) (out []*policy.Caller, subject string, err error) {
	t, err := parseToken(token)
	if err != nil {
		return nil, "", err
	}
	err = errors.New("no caller has this issuer, audience and subject")
	for i := range c.issuers {
		is := &c.issuers[i]
		if !is.means(&t.claims) {
			continue
		}
		if failed := is.verify(t, c.now()); failed != nil {
			err = failed
			continue
		}
		out = append(out, is.caller)
	}
	switch {
	case len(out) == 0:
		return nil, "", err
	case len(t.claims.Subject) > maxSubject || !utf8.ValidString(t.claims.Subject): // cut, it could be somebody else's
		return nil, "", fmt.Errorf("the token's subject has %d bytes, at most %d, or is no text", len(t.claims.Subject), maxSubject)
	}
	return out, t.claims.Subject, nil
}

// May reports whether the caller has the right for the agent of that name.
func (w Who) May(right, agent string) bool {
	return slices.ContainsFunc(w.granted, func(c *policy.Caller) bool {
		return c.May(right, agent)
	})
}

// Has reports whether the caller has the right for any agent at all.
func (w Who) Has(right string) bool {
	return slices.ContainsFunc(w.granted, func(c *policy.Caller) bool { return has(c, right) })
}

func has(c *policy.Caller, right string) bool { return slices.Contains(c.Rights, right) }

// seen is the key of the agents' names in a request's context.
type seen struct{}

// Visible are the names of the agents that the asker in ctx may see; none where
// nobody has said who asks.
func Visible(ctx context.Context) []string {
	names, _ := ctx.Value(seen{}).([]string)
	return names
}

// WithVisible is ctx for an asker who may see these agents.
func WithVisible(ctx context.Context, names []string) context.Context {
	return context.WithValue(ctx, seen{}, names)
}

// anybody lets through whoever brings no credentials or good ones, with what
// they may see. Evidence is for everybody, or nobody could check a platform
// before telling it who they are; agents in it are for those who may see them.
func (f *Front) anybody(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		who, err := f.Callers.Identify(r)
		if err != nil {
			f.refuse(w, err)
			return
		}
		next(w, r.WithContext(WithVisible(r.Context(), who.Observed())))
	}
}

// only lets through those who have the right.
func (f *Front) only(right string, next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		who, err := f.Callers.Identify(r)
		switch {
		case err != nil:
			f.refuse(w, err)
		case who.Has(right):
			next(w, r)
		case who.Named:
			fail(w, http.StatusForbidden, "you do not have the right: "+right)
		default:
			f.refuse(w, fmt.Errorf("%w: %s needs a caller", errNotKnown, right))
		}
	}
}

// refuse answers who is not known (RFC 6750 section 3).
func (f *Front) refuse(w http.ResponseWriter, err error) {
	f.Log.Info("caller refused", "error", err)
	w.Header().Set("WWW-Authenticate", "Bearer")
	fail(w, http.StatusUnauthorized, errNotKnown.Error())
}
