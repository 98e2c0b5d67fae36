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

// The actions that a permit can name.
const (
	ActionCall = "mcp.tools/call" // resource: SERVER/TOOL
	ActionList = "mcp.tools/list" // resource: SERVER
	ActionChat = "llm.chat"       // resource: MODEL
)

// The roles that a principal can speak in.
const (
	RoleAuthor   = "author"   // wrote the agent
	RoleTool     = "tool"     // provides tools
	RoleModel    = "model"    // provides models
	RoleAdapter  = "adapter"  // provides adapters
	RoleOperator = "operator" // owns the policy
	RoleDeployer = "deployer" // may start agents
	RoleApprover = "approver" // may answer for a human
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

// Server is an MCP server outside of the platform.
type Server struct {
	Name      string `json:"name"`
	URL       string `json:"url"`
	Principal string `json:"principal"`         // signs its tool descriptors
	Private   bool   `json:"private,omitempty"` // its address may be private
}

// Model is an OpenAI-compatible endpoint outside of the platform.
type Model struct {
	Name      string `json:"name"`
	URL       string `json:"url"` // up to and including /v1
	Private   bool   `json:"private,omitempty"`
	MaxTokens int    `json:"max_tokens"` // the most that one answer may have
}

// AgentRule is what one agent must be and may do.
type AgentRule struct {
	Name     string        `json:"name"`
	Requires []Requirement `json:"requires"`
	Permits  []Permit      `json:"permits"`
}

// Requirement is a signature that the agent's bundle must carry.
type Requirement struct {
	Role      string `json:"role"`
	Principal string `json:"principal"`
}

// Permit allows one action on one resource. What no permit allows is denied.
type Permit struct {
	ID       string                `json:"id"`
	Action   string                `json:"action"`
	Resource string                `json:"resource"`
	Args     map[string]Constraint `json:"args,omitempty"`    // arguments not named here are denied
	Limit    int                   `json:"limit,omitempty"`   // calls for each agent instance; 0: no limit
	Instead  string                `json:"instead,omitempty"` // what the agent can do when this is denied
}

// Constraint is what an argument must satisfy; all parts that are given count.
// A constraint with none of them is refused.
type Constraint struct {
	Type      string                `json:"type,omitempty"` // string, number, integer, boolean, array, object
	Optional  bool                  `json:"optional,omitempty"`
	Equals    any                   `json:"equals,omitempty"`
	Enum      []any                 `json:"enum,omitempty"`
	Pattern   string                `json:"pattern,omitempty"` // RE2, must match the whole text
	Prefix    string                `json:"prefix,omitempty"`  // a folder; see docs/policy.md for what is no path
	Min       *float64              `json:"min,omitempty"`
	Max       *float64              `json:"max,omitempty"`
	MinLength *int                  `json:"min_length,omitempty"` // characters of a text, elements of an array
	MaxLength *int                  `json:"max_length,omitempty"`
	MaxSum    *float64              `json:"max_sum,omitempty"` // of an array of non-negative numbers
	Each      *Constraint           `json:"each,omitempty"`    // holds for every element
	Any       *Constraint           `json:"any,omitempty"`     // holds for at least one element
	Fields    map[string]Constraint `json:"fields,omitempty"`  // of an object; others are denied
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
