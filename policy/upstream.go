package policy

// Server is an MCP server: outside of the platform, or a bundle that speaks it
// over stdio in a sandbox.
type Server struct {
	Name      string   `json:"name"`
	URL       string   `json:"url,omitempty"`
	Bundle    string   `json:"bundle,omitempty"`  // the agent rule of a stdio server, in the place of a URL
	Principal string   `json:"principal"`         // signs its tool descriptors
	Private   bool     `json:"private,omitempty"` // its address may be private
	Secrets   []Secret `json:"secrets,omitempty"`
	Result    *Result  `json:"result,omitempty"`  // of its tools, unless a permit says otherwise
	Readers   []string `json:"readers,omitempty"` // who reads what is sent to it; absent: anybody
}

// Model is an OpenAI-compatible endpoint: outside of the platform, or an engine on
// it.
type Model struct {
	Name      string   `json:"name"`
	URL       string   `json:"url,omitempty"`    // up to and including /v1
	Engine    string   `json:"engine,omitempty"` // the agent rule of an engine, in the place of a URL
	Private   bool     `json:"private,omitempty"`
	MaxTokens int      `json:"max_tokens"` // the most that one answer may have
	Price     *Price   `json:"price,omitempty"`
	Secrets   []Secret `json:"secrets,omitempty"`
	Result    *Result  `json:"result,omitempty"`
	Readers   []string `json:"readers,omitempty"`
}

// Price is what a million tokens cost, in the unit of the budget "cost".
type Price struct {
	Input  float64 `json:"input"`
	Output float64 `json:"output"`
}

// Secret is put into a header of a request on its way out, by the gateway
// alone. Its value is not part of the policy.
type Secret struct {
	Name   string `json:"name"`
	Header string `json:"header"`
	Prefix string `json:"prefix,omitempty"` // before the value, as in "Bearer "
	// Resource is where the document's broker has it: kbs:///REPOSITORY/TYPE/TAG.
	Resource string `json:"resource,omitempty"`
}

// Web is a group of HTTP(S) hosts outside of the platform.
type Web struct {
	Name    string   `json:"name"`
	Hosts   []string `json:"hosts"`             // a name, or *.suffix for every name below it
	Ports   []int    `json:"ports,omitempty"`   // absent: 443
	Private bool     `json:"private,omitempty"` // its addresses may be private
	Plain   bool     `json:"plain,omitempty"`   // http without TLS is allowed
	Opaque  bool     `json:"opaque,omitempty"`  // TLS may pass unopened, by http.connect
	Secrets []Secret `json:"secrets,omitempty"`
	Result  *Result  `json:"result,omitempty"`
	Readers []string `json:"readers,omitempty"`
}

// Peer is another agent, on this platform (Agent) or reached over the network.
type Peer struct {
	Name  string `json:"name"`
	Agent string `json:"agent,omitempty"` // an agent of this document, or
	URL   string `json:"url,omitempty"`   // where it is, and
	Card  string `json:"card,omitempty"`  // hex SHA-256 of its canonical agent card, and
	Key   *Key   `json:"key,omitempty"`   // its TLS key, where it is not on the web's PKI
	// Attested says that it is an agent of another platform, at that platform's
	// address with the path /peer/a2a/AGENT: evidence says who that is.
	Attested bool     `json:"attested,omitempty"`
	Private  bool     `json:"private,omitempty"`
	Secrets  []Secret `json:"secrets,omitempty"`
	Result   *Result  `json:"result,omitempty"`
	Readers  []string `json:"readers,omitempty"`
}

// Dataset is data that agents read and write by name, and whose label travels: on
// a server, or, without a URL, what agents of this boot wrote there.
type Dataset struct {
	Name    string            `json:"name"`
	URL     string            `json:"url,omitempty"`     // a file's path follows it
	Files   map[string]string `json:"files,omitempty"`   // path to hex SHA-256: the only files there are
	Private bool              `json:"private,omitempty"` // its address may be private
	Secrets []Secret          `json:"secrets,omitempty"`
	Result  *Result           `json:"result,omitempty"`
	Readers []string          `json:"readers,omitempty"` // who can read what is written there
}

// Module is Rego that the document was compiled with.
type Module struct {
	Name string `json:"name"`
	Text string `json:"text"`
}

// Integrity of what a source says.
const (
	Trusted   = "trusted"
	Untrusted = "untrusted"
)

// Result is what is known of the content that a source gives. The zero value
// is untrusted and readable by everybody.
type Result struct {
	Integrity string   `json:"integrity,omitempty"` // trusted or untrusted
	Readers   []string `json:"readers,omitempty"`   // the only ones who may read it; absent: everybody
	// Endorses lets its values endorse arguments even when untrusted text
	// asked for them. For sources that never repeat what they are asked.
	Endorses bool `json:"endorses,omitempty"`
}

// WebNamed returns the hosts of that name.
func (d *Document) WebNamed(name string) (Web, bool) {
	return named(d.Web, name, func(w Web) string { return w.Name })
}

// Peer returns the peer of that name.
func (d *Document) Peer(name string) (Peer, bool) {
	return named(d.Peers, name, func(p Peer) string { return p.Name })
}

// Dataset returns the data of that name.
func (d *Document) Dataset(name string) (Dataset, bool) {
	return named(d.Data, name, func(s Dataset) string { return s.Name })
}

func named[T any](list []T, name string, of func(T) string) (T, bool) {
	for _, e := range list {
		if of(e) == name {
			return e, true
		}
	}
	var none T
	return none, false
}
