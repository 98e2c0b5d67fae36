package bundle

import (
	"errors"
	"fmt"
	"path"
	"slices"
)

// ErrUnsigned reports that signatures are missing which the policy requires.
var ErrUnsigned = errors.New("not enough trusted signatures")

// ErrUnknown reports an agent or a tool server that the policy does not name.
var ErrUnknown = errors.New("policy does not name it")

// Trust is what a policy says about signatures, in this package's own words.
type Trust struct {
	Principals []Principal
	Servers    []Server
	Agents     []AgentRule
}

// Principal is somebody whose signature counts, in these roles and for the component names that match.
type Principal struct {
	Name      string
	Keys      []string // PEM
	Threshold int      // signatures by different keys; zero means one
	Roles     []string
	Names     []string // globs in the form of path.Match
}

// Server names the principal that signs an MCP server's tool descriptors.
type Server struct{ Name, Principal string }

// AgentRule is what a bundle of that name must carry.
type AgentRule struct {
	Name     string
	Requires []Requirement
	Combine  []string // the only principals whose components it may have; empty for any that the policy names
}

// Requirement is a signature by a principal in a role.
type Requirement struct{ Role, Principal string }

// The roles that mean something here. All others sign the bundle itself.
const (
	RoleTool     = "tool"     // signs its server's descriptors
	RoleModel    = "model"    // signs a model's artifact
	RoleAdapter  = "adapter"  // signs an adapter's
	RoleData     = "data"     // signs a data set's
	RoleEngine   = "engine"   // signs an engine's bundle, for those who use it
	RoleDeployer = "deployer" // signs deployments
)

// ofComponent reports whether a role signs a component of its own in the bundle's place.
func ofComponent(role string) bool {
	return role == RoleTool || role == RoleModel || role == RoleAdapter || role == RoleData
}

// principal is a Principal with its keys read.
type principal struct {
	Principal
	keys []Key
}

// Checker answers questions about signatures. The zero Checker trusts nobody.
type Checker struct {
	principals map[string]*principal
	servers    map[string]string
	agents     map[string]AgentRule
}

// NewChecker reads the keys of t.
func NewChecker(t Trust) (*Checker, error) {
	out := &Checker{principals: map[string]*principal{}, servers: map[string]string{}, agents: map[string]AgentRule{}}
	for _, p := range t.Principals {
		own := &principal{Principal: p}
		for _, text := range p.Keys {
			k, err := ParseKey([]byte(text))
			if err != nil {
				return nil, fmt.Errorf("principal %q: %w", p.Name, err)
			}
			own.keys = append(own.keys, k)
		}
		own.Threshold = max(own.Threshold, 1)
		if out.principals[p.Name] != nil {
			return nil, fmt.Errorf("principal %q comes twice", p.Name)
		}
		out.principals[p.Name] = own
	}
	for _, s := range t.Servers {
		out.servers[s.Name] = s.Principal
	}
	for _, a := range t.Agents {
		if !slices.ContainsFunc(a.Requires, func(r Requirement) bool { return !ofComponent(r.Role) }) {
			// Who provides a component signs that, not the bundle.
			return nil, fmt.Errorf("agent %q requires no signature of its bundle, so anybody could be it", a.Name)
		}
		out.agents[a.Name] = a
	}
	return out, nil
}

// speaks returns the principal if it may sign for a component of that name in that role.
func (c *Checker) speaks(who, role, component string) (*principal, error) {
	p := c.principals[who]
	switch {
	case p == nil:
		return nil, fmt.Errorf("policy names no principal %q", who)
	case !slices.Contains(p.Roles, role):
		return nil, fmt.Errorf("principal %q has not the role %q", who, role)
	case !slices.ContainsFunc(p.Names, func(glob string) bool { ok, err := path.Match(glob, component); return err == nil && ok }):
		return nil, fmt.Errorf("principal %q may not sign for %q", who, component)
	}
	return p, nil
}

// vouched checks that enough of a principal's keys signed digest in a role, and returns one signature
// by each of them.
func (c *Checker) vouched(r Requirement, component string, digest Digest, sigs signatures) ([]Signed, error) {
	p, err := c.speaks(r.Principal, r.Role, component)
	if err != nil {
		return nil, err
	}
	var by []Signed
	why := sigs.skipped
	for s, err := range sigs.verified(digest, p.keys) {
		switch {
		case err != nil:
			why = errors.Join(why, err)
		case s.Role != r.Role || s.Principal != r.Principal:
			why = errors.Join(why, fmt.Errorf("signed as %s %s", s.Role, s.Principal))
		case !slices.ContainsFunc(by, func(other Signed) bool { return other.KeyID == s.KeyID }):
			by = append(by, s)
		}
	}
	if len(by) < p.Threshold {
		return nil, &unsigned{r, component, len(by), p.Threshold, len(sigs.raw) + len(sigs.legacy), why}
	}
	return by, nil
}

// unsigned says which signature is missing, and what the signatures that are there lack.
type unsigned struct {
	Requirement
	component          string
	have, want, signed int
	why                error
}

func (u *unsigned) Error() string {
	s := fmt.Sprintf("%s: %d of %d needed signatures by %s %s; signatures found: %d",
		u.component, u.have, u.want, u.Role, u.Principal, u.signed)
	if first := firstError(u.why); first != nil {
		s += ": " + first.Error()
	}
	return s
}

// Unwrap lets errors.Is see what it is, and why.
func (u *unsigned) Unwrap() []error { return []error{ErrUnsigned, u.why} }

// firstError keeps messages short: a registry may list many bad signatures.
func firstError(err error) error {
	if many, ok := err.(interface{ Unwrap() []error }); ok {
		return firstError(many.Unwrap()[0])
	}
	return err
}

// Deployers returns every key of a principal with the role deployer.
func (c *Checker) Deployers() []Key {
	var keys []Key
	for _, p := range c.principals {
		if slices.Contains(p.Roles, RoleDeployer) {
			keys = append(keys, p.keys...)
		}
	}
	return keys
}

// MayDeploy checks that the keys that signed are enough for a deployer of agents of that name.
func (c *Checker) MayDeploy(ids []string, name string) error {
	for who := range c.principals {
		p, e := c.speaks(who, RoleDeployer, name)
		if e != nil {
			continue
		}
		n := 0
		for _, k := range p.keys {
			if slices.Contains(ids, k.ID) {
				n++
			}
		}
		if n >= p.Threshold {
			return nil
		}
	}
	return fmt.Errorf("%w: no deployer of %q signed the deployment", ErrUnsigned, name)
}
