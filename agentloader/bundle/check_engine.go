package bundle

import (
	"context"
	"fmt"
)

// checkEngine checks that the engine that an agent leans on is signed by a principal whom the policy requires
// in that role. The signature is about the engine's bundle and lies in the agent's repository, as those of all
// its components do; the engine's own admission reads the same one in the engine's.
func (c *Checker) checkEngine(ctx context.Context, from Source, rule AgentRule, out *Checked) error {
	if out.Manifest.Engine != nil {
		return nil // it is one: the signatures are the bundle's
	}
	var wanted []Requirement
	for _, r := range rule.Requires {
		if r.Role == RoleEngine {
			wanted = append(wanted, r)
		}
	}
	i := out.Manifest.Inference
	switch {
	case i == nil && len(wanted) == 0:
		return nil
	case i == nil:
		return fmt.Errorf("%w: the policy requires an engine of %s, and the bundle names none", ErrUnsigned, wanted[0].Principal)
	case len(wanted) == 0:
		return fmt.Errorf("%w: the policy asks for no engine, and the bundle leans on %q", ErrUnknown, i.Engine)
	}
	sigs, err := readSignatures(ctx, from, i.Bundle)
	if err != nil {
		return err
	}
	for _, r := range wanted {
		by, err := c.vouched(r, i.Engine, i.Bundle, sigs)
		if err != nil {
			return err
		}
		out.Components = append(out.Components, Component{KindEngine, i.Engine, i.Bundle, r.Role, r.Principal, by})
	}
	return nil
}
