package agentloader

import (
	"errors"
	"fmt"
	"path"
	"slices"

	"omega/agentloader/bundle"
)

// Trust is what the measured policy says about signatures, in the loader's own words.
type Trust struct {
	Principals []Principal
	Servers    []Server
	Agents     []Agent
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

// Agent is what a bundle of that name must carry.
type Agent struct {
	Name     string
	Requires []Requirement
}

// Requirement is a signature by a principal in a role.
type Requirement struct{ Role, Principal string }

// The roles that the loader knows of itself. All others sign the bundle.
const (
	roleTool     = "tool"
	roleDeployer = "deployer"
)

// principal is a Principal with its keys read.
type principal struct {
	Principal
	keys []bundle.Key
}

// trust answers questions about Trust.
type trust struct {
	principals map[string]*principal
	servers    map[string]string
	agents     map[string]Agent
}

func newTrust(t Trust) (*trust, error) {
	out := &trust{principals: map[string]*principal{}, servers: map[string]string{}, agents: map[string]Agent{}}
	for _, p := range t.Principals {
		own := &principal{Principal: p}
		for _, text := range p.Keys {
			k, err := bundle.ParseKey([]byte(text))
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
		if len(a.Requires) == 0 {
			return nil, fmt.Errorf("agent %q requires no signature, so anybody could be it", a.Name)
		}
		out.agents[a.Name] = a
	}
	return out, nil
}

// speaks returns the principal if it may sign for a component of that name in that role.
func (t *trust) speaks(who, role, component string) (*principal, error) {
	p := t.principals[who]
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

// vouched checks that enough of a principal's keys signed digest in a role, and returns the first.
func (t *trust) vouched(r Requirement, component string, digest bundle.Digest, signatures [][]byte) (string, error) {
	p, err := t.speaks(r.Principal, r.Role, component)
	if err != nil {
		return "", err
	}
	var by []string
	var why error
	for _, raw := range signatures {
		s, err := bundle.VerifyBundle(raw, digest, p.keys)
		switch {
		case err != nil:
			why = errors.Join(why, err)
		case s.Role != r.Role || s.Principal != r.Principal:
			why = errors.Join(why, fmt.Errorf("signed as %s %s", s.Role, s.Principal))
		case !slices.Contains(by, s.KeyID):
			by = append(by, s.KeyID)
		}
	}
	if len(by) < p.Threshold {
		return "", &unsigned{r, component, len(by), p.Threshold, len(signatures), why}
	}
	return by[0], nil
}

// unsigned says which signature is missing, and what the signatures that are there lack.
type unsigned struct {
	Requirement
	component          string
	have, want, signed int
	why                error
}

func (u *unsigned) Error() string {
	s := fmt.Sprintf("%s: %d of %d needed signatures by %s %s, %d signatures found",
		u.component, u.have, u.want, u.Role, u.Principal, u.signed)
	if first := firstError(u.why); first != nil {
		s += ": " + first.Error()
	}
	return s
}

func (u *unsigned) Is(target error) bool { return target == ErrUnsigned }

// firstError keeps messages short: a registry may list many bad signatures.
func firstError(err error) error {
	if many, ok := err.(interface{ Unwrap() []error }); ok {
		return firstError(many.Unwrap()[0])
	}
	return err
}

// deployers returns every key of a principal with the role deployer.
func (t *trust) deployers() []bundle.Key {
	var keys []bundle.Key
	for _, p := range t.principals {
		if slices.Contains(p.Roles, roleDeployer) {
			keys = append(keys, p.keys...)
		}
	}
	return keys
}

// mayDeploy checks that the keys that signed are enough for a deployer of agents of that name.
func (t *trust) mayDeploy(ids []string, name string) error {
	err := fmt.Errorf("%w: no deployer", ErrUnsigned)
	for who := range t.principals {
		p, e := t.speaks(who, roleDeployer, name)
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
	return fmt.Errorf("%w of %q signed the deployment", err, name)
}
