// Package policy is the agent policy: what may speak for whom, which agent may
// do what, and the decision about one call. Document is the policy as people
// state it; Decider runs what policy/compile made of it. A decision is a pure
// function of the policy digest and the input, so anyone can repeat it.
//
// The package reads no files, opens no connections and keeps no state between
// calls: counts and labels are part of the input. It knows nothing of MCP or
// HTTP (policy/gateway does), nor of SNP's GuestPolicy bits or the verifier's
// appraisal policy, which are other things with the same name.
package policy

import "omega/internal/labelhash"

// Version is the only document version that this code reads.
const Version = "omega/policy/v1"

// The roles that a principal can speak in.
const (
	RoleAuthor   = "author"   // wrote the agent
	RoleTool     = "tool"     // provides tools
	RoleModel    = "model"    // provides models
	RoleAdapter  = "adapter"  // provides adapters
	RoleData     = "data"     // provides data sets
	RoleEngine   = "engine"   // provides inference engines
	RoleOperator = "operator" // owns the policy
	RoleDeployer = "deployer" // may start agents
	RoleApprover = "approver" // may answer for a human
	RoleRevoker  = "revoker"  // signs revocation lists; naming one demands a current list
)

// Document is one policy. Its canonical JSON is /etc/omega/policy.json.
type Document struct {
	Version    string      `json:"version"`
	Platform   string      `json:"platform"`      // the set of machines, audience of deployments
	GPU        string      `json:"gpu,omitempty"` // "" or "required"
	Principals []Principal `json:"principals"`
	Auditors   []Auditor   `json:"auditors"`
	Servers    []Server    `json:"servers"`
	Models     []Model     `json:"models"`
	Web        []Web       `json:"web,omitempty"`
	Peers      []Peer      `json:"peers,omitempty"`
	Data       []Dataset   `json:"data,omitempty"`
	Rego       []Module    `json:"rego,omitempty"`
	Callers    []Caller    `json:"callers,omitempty"` // who may talk to the platform; none: DefaultCallers
	Broker     *Broker     `json:"broker,omitempty"`  // has the secrets; none: there are none
	Agents     []AgentRule `json:"agents"`
}

// Principal is somebody whose signature counts, in the roles listed and for
// the component names that match.
type Principal struct {
	Name      string   `json:"name"`
	Keys      []Key    `json:"keys"`
	Threshold int      `json:"threshold"` // signatures needed; at least 1
	Roles     []string `json:"roles"`
	Names     []string `json:"names"` // globs in the form of path.Match
}

// Key is one ECDSA P-256 public key.
type Key struct {
	ID  string `json:"id"` // hex SHA-256 of the SubjectPublicKeyInfo
	PEM string `json:"pem"`
}

// Auditor can read the provenance log.
type Auditor struct {
	Name string `json:"name"`
	Key  string `json:"key"` // hex X25519 public key
}

// AgentRule is what one agent must be and may do.
type AgentRule struct {
	Name     string             `json:"name"`
	Requires []Requirement      `json:"requires"`
	Combine  []string           `json:"combine,omitempty"`  // the only principals whose components it may have; absent: any named here
	Sessions string             `json:"sessions,omitempty"` // "clean": a sandbox for each session
	Input    *Result            `json:"input,omitempty"`    // what a caller's request is; absent: trusted
	Limit    int                `json:"limit,omitempty"`    // calls of all kinds for each instance
	Rate     *Rate              `json:"rate,omitempty"`     // of calls of all kinds
	Budgets  map[string]float64 `json:"budgets,omitempty"`  // tokens, cost, bytes, or names that constraints charge
	Permits  []Permit           `json:"permits"`
}

// Requirement is a signature that the agent's bundle must carry.
type Requirement struct {
	Role      string `json:"role"`
	Principal string `json:"principal"`
}

// Digest names a compiled policy everywhere: evidence, log, manifest.
func Digest(json, wasm []byte) [32]byte {
	return labelhash.Sum256(Version, json, wasm)
}

// Agent returns the rule for the agent of that name.
func (d *Document) Agent(name string) (AgentRule, bool) {
	for _, a := range d.Agents {
		if a.Name == name {
			return a, true
		}
	}
	return AgentRule{}, false
}

// Server returns the MCP server of that name.
func (d *Document) Server(name string) (Server, bool) {
	for _, s := range d.Servers {
		if s.Name == name {
			return s, true
		}
	}
	return Server{}, false
}

// Model returns the model of that name.
func (d *Document) Model(name string) (Model, bool) {
	for _, m := range d.Models {
		if m.Name == name {
			return m, true
		}
	}
	return Model{}, false
}
