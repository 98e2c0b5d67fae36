package policy

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"
)

// maxFaults keeps a wholly wrong document from giving endless errors.
const maxFaults = 20

var (
	roles = []string{RoleAuthor, RoleTool, RoleModel, RoleAdapter, RoleData, RoleEngine, RoleOperator, RoleDeployer, RoleApprover, RoleRevoker}
	// Names reach file names, environment variables and Rego; none of them needs quoting.
	nameForm = regexp.MustCompile(`^[a-z0-9]([a-z0-9._-]{0,62}[a-z0-9])?$`)
	// Rule names become Rego identifiers with - written as _.
	ruleForm = regexp.MustCompile(`^[a-z]([a-z0-9-]{0,62}[a-z0-9])?$`)
	// Tool and model names are foreign; these are the characters of MCP's tool
	// names (2025-11-25, server/tools) and of the usual model names.
	foreignForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._:/-]{0,127}$`)
)

type checker struct {
	doc    *Document
	faults []error
}

func (c *checker) fault(at, format string, args ...any) {
	if len(c.faults) < maxFaults {
		c.faults = append(c.faults, &FieldError{Path: at, Msg: fmt.Sprintf(format, args...)})
	}
}

// unique checks the form of a name and that it was not seen before.
func (c *checker) unique(at, name string, form *regexp.Regexp, seen map[string]bool) {
	if !form.MatchString(name) {
		c.fault(at, "%q is not a name (%s)", name, form)
	}
	if seen[name] {
		c.fault(at, "%q is named twice", name)
	}
	seen[name] = true
}

func (c *checker) document() {
	d := c.doc
	if d.Version != Version {
		c.fault("version", "%q, want %q", d.Version, Version)
	}
	if !nameForm.MatchString(d.Platform) {
		c.fault("platform", "%q is not a name (%s)", d.Platform, nameForm)
	}
	if d.GPU != "" && d.GPU != "required" {
		c.fault("gpu", `%q, want "required" or nothing`, d.GPU)
	}
	seen := map[string]bool{}
	for i, p := range d.Principals {
		c.unique(fmt.Sprintf("principals[%d].name", i), p.Name, nameForm, seen)
		c.principal(fmt.Sprintf("principals[%d]", i), p)
	}
	seen = map[string]bool{}
	for i, a := range d.Auditors {
		c.unique(fmt.Sprintf("auditors[%d].name", i), a.Name, nameForm, seen)
		if raw, err := hex.DecodeString(a.Key); err != nil || len(raw) != 32 || hex.EncodeToString(raw) != a.Key {
			c.fault(fmt.Sprintf("auditors[%d].key", i), "want the 64 lowercase hex digits of an X25519 public key")
		}
	}
	c.broker()
	c.endpoints()
	c.others()
	c.modules()
	c.callers()
	c.agents()
}

func (c *checker) principal(at string, p Principal) {
	if len(p.Keys) == 0 {
		c.fault(at+".keys", "no key")
	}
	seen := map[string]bool{}
	for i, k := range p.Keys {
		if err := k.check(); err != nil {
			c.fault(fmt.Sprintf("%s.keys[%d]", at, i), "%v", err)
		}
		if seen[k.ID] {
			c.fault(fmt.Sprintf("%s.keys[%d]", at, i), "the same key twice would count twice")
		}
		seen[k.ID] = true
	}
	if p.Threshold < 1 || p.Threshold > len(p.Keys) {
		c.fault(at+".threshold", "%d of %d keys", p.Threshold, len(p.Keys))
	}
	if len(p.Roles) == 0 {
		c.fault(at+".roles", "no role")
	}
	for i, r := range p.Roles {
		if !slices.Contains(roles, r) {
			c.fault(fmt.Sprintf("%s.roles[%d]", at, i), "%q is no role (%s)", r, strings.Join(roles, ", "))
		}
	}
	if len(p.Names) == 0 {
		c.fault(at+".names", `no component name; "*" is every name`)
	}
	for i, g := range p.Names {
		if _, err := path.Match(g, ""); err != nil || g == "" {
			c.fault(fmt.Sprintf("%s.names[%d]", at, i), "%q is no glob", g)
		}
	}
}

// check accepts exactly one ECDSA P-256 key whose digest is the ID.
func (k Key) check() error {
	block, rest := pem.Decode([]byte(k.PEM))
	if block == nil || block.Type != "PUBLIC KEY" || len(strings.TrimSpace(string(rest))) > 0 {
		return fmt.Errorf("not one PEM PUBLIC KEY")
	}
	key, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return fmt.Errorf("public key: %w", err)
	}
	if ec, ok := key.(*ecdsa.PublicKey); !ok || ec.Curve != elliptic.P256() {
		return fmt.Errorf("public key is not ECDSA P-256")
	}
	if sum := sha256.Sum256(block.Bytes); hex.EncodeToString(sum[:]) != k.ID {
		return fmt.Errorf("id %.64q is not the SHA-256 of the key", k.ID)
	}
	return nil
}

// speaker checks that a principal exists and has the role.
func (c *checker) speaker(at, name, role string) {
	i := slices.IndexFunc(c.doc.Principals, func(p Principal) bool { return p.Name == name })
	if i < 0 {
		c.fault(at, "no principal is named %q", name)
		return
	}
	if !slices.Contains(c.doc.Principals[i].Roles, role) {
		c.fault(at, "principal %q does not have the role %q", name, role)
	}
}
