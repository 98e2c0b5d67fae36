package policy

import (
	"encoding/hex"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"
)

var (
	hostForm = regexp.MustCompile(`^([a-z0-9]([a-z0-9-]*[a-z0-9])?[.])*[a-z0-9]([a-z0-9-]*[a-z0-9])?$`)
	// readerForm is a name, a mail address, *@domain or *.suffix. A comma
	// parts readers in a label.
	readerForm = regexp.MustCompile(`^([*][@.])?[a-z0-9][a-z0-9@._+-]{0,127}$`)
	// headerForm is a token of RFC 9110 section 5.6.2, as common headers are.
	attestedPath = regexp.MustCompile(`^/peer/a2a/[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?$`)
	headerForm   = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9-]{0,63}$`)
)

func (c *checker) endpoints() {
	seen := map[string]bool{}
	for i, s := range c.doc.Servers {
		at := fmt.Sprintf("servers[%d]", i)
		c.unique(at+".name", s.Name, nameForm, seen)
		if s.Bundle == "" {
			c.url(at+".url", s.URL)
		} else if _, ok := c.doc.Agent(s.Bundle); !ok || s.URL != "" {
			c.fault(at+".bundle", "%q is no agent of this document, or a url stands beside it", s.Bundle)
		}
		if s.Bundle != "" && len(s.Secrets) > 0 {
			c.fault(at+".secrets", "a bundle is asked over its standard input, which has no headers")
		}
		c.speaker(at+".principal", s.Principal, RoleTool)
		c.flows(at, s.Result, s.Readers, s.Secrets)
	}
	seen = map[string]bool{}
	for i, m := range c.doc.Models {
		at := fmt.Sprintf("models[%d]", i)
		c.unique(at+".name", m.Name, foreignForm, seen)
		c.engine(at, m)
		if m.MaxTokens < 1 {
			c.fault(at+".max_tokens", "%d; state the most tokens that one answer may have", m.MaxTokens)
		}
		if m.Price != nil && !(m.Price.Input >= 0 && m.Price.Output >= 0) {
			c.fault(at+".price", "a price is not below zero")
		}
		c.flows(at, m.Result, m.Readers, m.Secrets)
	}
}

// engine checks where a model is.
func (c *checker) engine(at string, m Model) {
	if m.Engine == "" {
		c.url(at+".url", m.URL)
		return
	}
	rule, ok := c.doc.Agent(m.Engine)
	switch {
	case !ok || m.URL != "" || m.Private || len(m.Secrets) > 0:
		c.fault(at+".engine", "%q is no agent of this document, or a url, private or secrets stand beside it", m.Engine)
	case len(rule.Permits) > 0:
		c.fault(at+".engine", "an engine asks nobody, and %s has permits", m.Engine)
	}
}

// others checks the hosts, peers and data.
func (c *checker) others() {
	seen := map[string]bool{}
	for i, w := range c.doc.Web {
		at := fmt.Sprintf("web[%d]", i)
		c.unique(at+".name", w.Name, nameForm, seen)
		c.hosts(at+".hosts", w.Hosts)
		c.ports(at+".ports", w.Ports)
		c.flows(at, w.Result, w.Readers, w.Secrets)
	}
	seen = map[string]bool{}
	for i, p := range c.doc.Peers {
		at := fmt.Sprintf("peers[%d]", i)
		c.unique(at+".name", p.Name, nameForm, seen)
		c.peer(at, p)
		c.flows(at, p.Result, p.Readers, p.Secrets)
	}
	seen = map[string]bool{}
	for i, d := range c.doc.Data {
		at := fmt.Sprintf("data[%d]", i)
		c.unique(at+".name", d.Name, nameForm, seen)
		c.flows(at, d.Result, d.Readers, d.Secrets)
		c.dataset(at, d)
	}
}

func (c *checker) peer(at string, p Peer) {
	if p.Agent != "" {
		if _, ok := c.doc.Agent(p.Agent); !ok || p.URL != "" || p.Card != "" || p.Key != nil || p.Attested {
			c.fault(at+".agent", "%q is no agent of this document, or a url, card or key stands beside it", p.Agent)
		}
		return
	}
	c.url(at+".url", p.URL)
	if u, err := url.Parse(p.URL); p.Attested && err == nil && (!attestedPath.MatchString(u.Path) || p.Key != nil || len(p.Secrets) > 0) {
		c.fault(at+".attested", "an agent of another platform is at https://HOST/peer/a2a/AGENT, and has neither a key nor secrets")
	}
	if raw, err := hex.DecodeString(p.Card); p.Card != "" && (err != nil || len(raw) != 32 || strings.ToLower(p.Card) != p.Card) {
		c.fault(at+".card", "want the 64 lowercase hex digits of a SHA-256")
	}
	if p.Key != nil {
		if err := p.Key.check(); err != nil {
			c.fault(at+".key", "%v", err)
		}
	}
}

func (c *checker) modules() {
	seen := map[string]bool{}
	for i, m := range c.doc.Rego {
		c.unique(fmt.Sprintf("rego[%d].name", i), m.Name, nameForm, seen)
		if m.Text == "" || len(m.Text) > MaxDocument/4 {
			c.fault(fmt.Sprintf("rego[%d].text", i), "%d bytes", len(m.Text))
		}
	}
}

// flows checks what an upstream says of its answers, its readers and the
// secrets it gets.
func (c *checker) flows(at string, r *Result, readers []string, secrets []Secret) {
	c.result(at+".result", r)
	c.readers(at+".readers", readers)
	headers := map[string]bool{}
	for i, s := range secrets {
		here := fmt.Sprintf("%s.secrets[%d]", at, i)
		if !nameForm.MatchString(s.Name) {
			c.fault(here+".name", "%q is not a name (%s)", s.Name, nameForm)
		}
		if low := strings.ToLower(s.Header); !headerForm.MatchString(s.Header) || headers[low] || slices.Contains(ownHeaders, low) {
			c.fault(here+".header", "%q is no header of its own", s.Header)
		}
		headers[strings.ToLower(s.Header)] = true
		c.secretSource(here, s)
		if len(s.Prefix) > 64 || strings.ContainsFunc(s.Prefix, isControl) {
			c.fault(here+".prefix", "longer than 64 bytes, or with control characters")
		}
	}
}

// ownHeaders frame a message; a secret in one of them would break it.
var ownHeaders = []string{"host", "content-length", "transfer-encoding", "connection", "upgrade", "te", "trailer", "content-type"}

func (c *checker) result(at string, r *Result) {
	if r == nil {
		return
	}
	if r.Integrity != "" && r.Integrity != Trusted && r.Integrity != Untrusted {
		c.fault(at+".integrity", "%q, want trusted or untrusted", r.Integrity)
	}
	if r.Endorses && r.Integrity != Trusted {
		c.fault(at+".endorses", "only a trusted source endorses")
	}
	c.readers(at+".readers", r.Readers)
}

func (c *checker) readers(at string, list []string) {
	for i, r := range list {
		if !readerForm.MatchString(r) {
			c.fault(fmt.Sprintf("%s[%d]", at, i), "%q is no reader: a name or address in lower case, or *@domain", r)
		}
	}
}

// hosts checks names and *.suffix.
func (c *checker) hosts(at string, list []string) {
	if len(list) == 0 {
		c.fault(at, "no host")
	}
	for i, h := range list {
		if !hostForm.MatchString(strings.TrimPrefix(h, "*.")) || len(h) > 253 {
			c.fault(fmt.Sprintf("%s[%d]", at, i), "%q is neither a host name in lower case nor *.suffix", h)
		}
	}
}

func (c *checker) ports(at string, list []int) {
	for i, p := range list {
		if p < 1 || p > 65535 {
			c.fault(fmt.Sprintf("%s[%d]", at, i), "%d is no port", p)
		}
	}
}

func (c *checker) url(at, s string) {
	u, err := url.Parse(s)
	switch {
	case err != nil:
		c.fault(at, "%v", err)
	case u.Scheme != "https" || u.Host == "" || u.Hostname() == "":
		c.fault(at, "%q is not an https URL with a host", s)
	case u.User != nil || u.RawQuery != "" || u.ForceQuery || u.Fragment != "" || u.Opaque != "":
		c.fault(at, "%q has a user, a query or a fragment", s)
	case strings.Contains(u.Path, "..") || u.RawPath != "":
		c.fault(at, "%q has .. or escapes in its path", s)
	}
}
