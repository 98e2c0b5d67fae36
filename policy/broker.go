package policy

import "regexp"

// Broker is the key broker service (Trustee) that releases secrets to this
// platform. It checks the platform's evidence; this says whom the platform takes
// for the broker. Where its address leads is not trusted.
type Broker struct {
	URL     string `json:"url"`               // https://HOST[:PORT]
	Key     *Key   `json:"key,omitempty"`     // of its certificate; absent: the web's PKI
	Private bool   `json:"private,omitempty"` // its address may be private
}

// brokerForm is a URL without a path: a broker is a host.
var brokerForm = regexp.MustCompile(`^https://[a-z0-9.:\[\]-]+$`)

// resourceForm names a broker's resource: kbs:///REPOSITORY/TYPE/TAG (Trustee,
// kbs/docs/kbs_attestation_protocol.md).
var resourceForm = regexp.MustCompile(`^kbs:///([A-Za-z0-9_-][A-Za-z0-9._-]{0,127}/){2}[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}$`)

func (c *checker) broker() {
	b := c.doc.Broker
	if b == nil {
		return
	}
	c.url("broker.url", b.URL)
	if !brokerForm.MatchString(b.URL) {
		c.fault("broker.url", "%q, want https://HOST[:PORT]", b.URL)
	}
	if b.Key != nil {
		if err := b.Key.check(); err != nil {
			c.fault("broker.key", "%v", err)
		}
	}
}

// secretSource checks where a secret comes from. Two upstreams may share one.
func (c *checker) secretSource(at string, s Secret) {
	switch {
	case s.Resource != "" && c.doc.Broker == nil:
		c.fault(at+".resource", "the document names no broker that has it")
	case s.Resource == "" && c.doc.Broker != nil:
		c.fault(at+".resource", "say where the broker keeps %q: kbs:///REPOSITORY/TYPE/TAG", s.Name)
	case s.Resource != "" && !resourceForm.MatchString(s.Resource):
		c.fault(at+".resource", "%q, want kbs:///REPOSITORY/TYPE/TAG", s.Resource)
	}
	for name, other := range c.doc.SecretResources() {
		if name == s.Name && other != s.Resource {
			c.fault(at+".resource", "%q is at %q elsewhere", s.Name, other)
		}
	}
}

// SecretResources are the broker's resources by the names of the secrets.
func (d *Document) SecretResources() map[string]string {
	out := map[string]string{}
	add := func(list []Secret) {
		for _, s := range list {
			if _, known := out[s.Name]; !known {
				out[s.Name] = s.Resource
			}
		}
	}
	for _, s := range d.Servers {
		add(s.Secrets)
	}
	for _, m := range d.Models {
		add(m.Secrets)
	}
	for _, w := range d.Web {
		add(w.Secrets)
	}
	for _, p := range d.Peers {
		add(p.Secrets)
	}
	for _, s := range d.Data {
		add(s.Secrets)
	}
	return out
}
