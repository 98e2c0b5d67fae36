package main

import (
	"crypto/ecdh"
	"crypto/sha256"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"omega/agentloader/bundle"
	"omega/internal/cache"
	"omega/policy"
	"omega/policy/compile"
)

// devCaller is who the person at the keyboard is to the platform.
const devCaller = "omega-dev"

// devDir is where `omega dev` keeps what lasts: keys and what describes the
// platform that runs now.
func devDir() (string, error) {
	c, err := cache.Open("")
	if err != nil {
		return "", err
	}
	return filepath.Join(c.Root(), "dev"), nil
}

// devKeys stand in for everybody's: whoever writes an agent has no keys of the
// other principals, and must not need them to try it.
type devKeys struct {
	files      demoKeys
	principals map[string][]*bundle.PrivateKey // as many as the policy has, by name
	caller     *bundle.PrivateKey
	deployer   *bundle.PrivateKey
	audience   string
}

// devPolicy reads a policy and puts keys made here in the place of all keys in
// it. Everything else is as it will be measured.
func devPolicy(path, dir string) (*compile.Output, *devKeys, error) {
	out, err := compile.File(path)
	if err != nil {
		return nil, nil, err
	}
	doc := out.Document
	k := &devKeys{files: demoKeys{dir: filepath.Join(dir, "keys")}, principals: map[string][]*bundle.PrivateKey{}, audience: doc.Platform}
	if err := os.MkdirAll(k.files.dir, 0o700); err != nil {
		return nil, nil, fmt.Errorf("dev keys: %w", err)
	}
	for i := range doc.Principals {
		if err := k.replace(&doc.Principals[i]); err != nil {
			return nil, nil, err
		}
	}
	if err := k.enroll(doc); err != nil {
		return nil, nil, err
	}
	out, err = compile.Document(doc)
	return out, k, err
}

// key makes a key once and returns it as a policy has it too.
func (k *devKeys) key(name string) (*bundle.PrivateKey, policy.Key, error) {
	private, err := k.files.signer(name)
	if err != nil {
		return nil, policy.Key{}, fmt.Errorf("dev key %s: %w", name, err)
	}
	public, err := private.PublicPEM()
	if err != nil {
		return nil, policy.Key{}, err
	}
	block, _ := pem.Decode(public)
	sum := sha256.Sum256(block.Bytes)
	return private, policy.Key{ID: hex.EncodeToString(sum[:]), PEM: string(public)}, nil
}

// replace gives a principal as many keys of ours as it has of its own.
func (k *devKeys) replace(p *policy.Principal) error {
	for j := range p.Keys {
		private, public, err := k.key(fmt.Sprintf("%s-%d", p.Name, j))
		if err != nil {
			return err
		}
		p.Keys[j] = public
		k.principals[p.Name] = append(k.principals[p.Name], private)
	}
	if k.deployer == nil && slices.Contains(p.Roles, bundle.RoleDeployer) && len(k.principals[p.Name]) > 0 {
		k.deployer = k.principals[p.Name][0]
	}
	return nil
}

// enroll makes the person at the keyboard a deployer, a caller with all rights
// and the auditor.
func (k *devKeys) enroll(doc *policy.Document) (err error) {
	var public policy.Key
	if k.caller, public, err = k.key(devCaller); err != nil {
		return err
	}
	if k.deployer == nil {
		k.deployer = k.caller
		doc.Principals = append(doc.Principals, policy.Principal{
			Name: devCaller, Keys: []policy.Key{public}, Threshold: 1, Roles: []string{bundle.RoleDeployer}, Names: []string{"*"},
		})
	}
	doc.Callers = append(doc.EffectiveCallers(), policy.Caller{
		Name: devCaller, Keys: []policy.Key{public}, Agents: []string{"*"},
		Rights: []string{policy.RightDeploy, policy.RightInvoke, policy.RightApprove, policy.RightObserve, policy.RightOutput},
	})
	if err := k.files.auditor(); err != nil {
		return fmt.Errorf("dev key auditor: %w", err)
	}
	text, err := os.ReadFile(k.files.path("auditor.pem"))
	if err != nil {
		return err
	}
	parsed, err := parsePrivatePEM(text)
	if err != nil {
		return err
	}
	key, ok := parsed.(*ecdh.PrivateKey)
	if !ok {
		return fmt.Errorf("dev key auditor: not an X25519 key")
	}
	doc.Auditors = []policy.Auditor{{Name: devCaller, Key: hex.EncodeToString(key.PublicKey().Bytes())}}
	return nil
}

// vouchers are the signatures that an agent of that name needs on its bundle,
// and those on a component in a role.
func (k *devKeys) vouchers(doc *policy.Document, m *bundle.Manifest) (onBundle []bundle.Vouch, by map[string][]bundle.Vouch) {
	by = map[string][]bundle.Vouch{}
	rule, _ := doc.Agent(m.Name)
	for _, r := range rule.Requires {
		v := bundle.Vouch{Role: r.Role, Principal: r.Principal}
		switch {
		case slices.Contains([]string{bundle.RoleTool, bundle.RoleModel, bundle.RoleAdapter, bundle.RoleData}, r.Role),
			r.Role == bundle.RoleEngine && m.Engine == nil:
			by[r.Role] = append(by[r.Role], v)
		default:
			onBundle = append(onBundle, v)
		}
	}
	return onBundle, by
}

// acceptDev makes the options those of the platform that `omega dev` runs.
func (o *verifyOptions) acceptDev(value string) error {
	if value != "true" {
		return fmt.Errorf("want no value")
	}
	dir, err := devDir()
	if err != nil {
		return err
	}
	o.Dev, o.Unsigned, o.Manifest = true, true, filepath.Join(dir, "manifest.json")
	o.Emulated = filepath.Join(filepath.Dir(dir), "psp")
	if o.CallerKey == "" {
		o.CallerKey = filepath.Join(dir, "keys", devCaller+".pem")
	}
	if _, err := os.Stat(o.Manifest); err != nil {
		return fmt.Errorf("no platform of `omega dev` was started here: %s is not there", strings.TrimSuffix(o.Manifest, ".json"))
	}
	return nil
}
