package policy

import (
	"fmt"
	"math"
	"path"
	"regexp"
	"slices"
	"strings"
)

// maxNesting bounds constraints within constraints.
const maxNesting = 8

// maxInstead bounds the advice, which is put before the agent.
const maxInstead = 400

var types = []string{"string", "number", "integer", "boolean", "array", "object"}

func (c *checker) agents() {
	names, rules := map[string]bool{}, map[string]bool{}
	for i, a := range c.doc.Agents {
		at := fmt.Sprintf("agents[%d]", i)
		c.unique(at+".name", a.Name, nameForm, names)
		if !slices.ContainsFunc(a.Requires, func(r Requirement) bool { return r.Role != RoleTool }) {
			// A tool provider signs its descriptors, not the bundle.
			c.fault(at+".requires", "no signature of the bundle itself is required, so anybody could be this agent")
		}
		for j, r := range a.Requires {
			c.speaker(fmt.Sprintf("%s.requires[%d].principal", at, j), r.Principal, r.Role)
		}
		for j, p := range a.Permits {
			c.unique(fmt.Sprintf("%s.permits[%d].id", at, j), p.ID, ruleForm, rules)
			c.permit(fmt.Sprintf("%s.permits[%d]", at, j), p)
		}
	}
}

func (c *checker) permit(at string, p Permit) {
	c.resource(at, p)
	if p.Limit < 0 || p.Limit > math.MaxInt32 {
		c.fault(at+".limit", "%d calls", p.Limit)
	}
	if len(p.Instead) > maxInstead || strings.ContainsFunc(p.Instead, isControl) {
		c.fault(at+".instead", "longer than %d bytes, or with control characters", maxInstead)
	}
	for name, con := range p.Args {
		if name == "" || len(name) > 128 || strings.ContainsFunc(name, isControl) {
			c.fault(at+".args", "%.128q is no argument name", name)
		}
		if p.Action == ActionChat && !slices.Contains(ChatArgs, name) {
			c.fault(at+".args."+name, "llm.chat has no such argument (%s)", strings.Join(ChatArgs, ", "))
		}
		c.constraint(at+".args."+name, con, maxNesting)
	}
}

func (c *checker) resource(at string, p Permit) {
	switch p.Action {
	case ActionCall:
		server, tool, ok := strings.Cut(p.Resource, "/")
		if _, known := c.doc.Server(server); !known {
			c.fault(at+".resource", "no server is named %q", server)
		}
		if !ok || !foreignForm.MatchString(tool) {
			c.fault(at+".resource", "%q is not SERVER/TOOL", p.Resource)
		}
	case ActionList:
		if _, known := c.doc.Server(p.Resource); !known {
			c.fault(at+".resource", "no server is named %q", p.Resource)
		}
		if len(p.Args) > 0 {
			c.fault(at+".args", "%s has no arguments", p.Action)
		}
	case ActionChat:
		if _, known := c.doc.Model(p.Resource); !known {
			c.fault(at+".resource", "no model is named %q", p.Resource)
		}
	default:
		c.fault(at+".action", "%q is no action (%s, %s, %s)", p.Action, ActionCall, ActionList, ActionChat)
	}
}

func (c *checker) constraint(at string, k Constraint, depth int) {
	if depth == 0 {
		c.fault(at, "nested too deeply")
		return
	}
	if k.empty() {
		c.fault(at, "constrains nothing; give at least a type")
	}
	if k.Type != "" && !slices.Contains(types, k.Type) {
		c.fault(at+".type", "%q is no type (%s)", k.Type, strings.Join(types, ", "))
	}
	if k.Type == "object" && len(k.Fields) == 0 {
		c.fault(at, "an object needs fields: what is not named is denied")
	}
	if k.Kind() == "array" && k.Each == nil && k.MaxSum == nil {
		c.fault(at, "an array needs each: what every element must be")
	}
	for _, use := range k.uses() {
		if !use.given || slices.Contains(use.types, k.Kind()) {
			continue
		}
		c.fault(at+"."+use.name, "does not apply to type %q", k.Kind())
	}
	c.texts(at, k)
	c.bounds(at, k)
	if k.Each != nil {
		c.constraint(at+".each", *k.Each, depth-1)
	}
	if k.Any != nil {
		c.constraint(at+".any", *k.Any, depth-1)
	}
	for name, f := range k.Fields {
		c.constraint(at+".fields."+name, f, depth-1)
	}
}

// texts checks the parts that are small languages of their own.
func (c *checker) texts(at string, k Constraint) {
	if k.Pattern != "" {
		if _, err := regexp.Compile(k.Pattern); err != nil {
			c.fault(at+".pattern", "%v", err)
		}
		if len(k.Pattern) > 1000 || strings.ContainsFunc(k.Pattern, isControl) {
			c.fault(at+".pattern", "longer than 1000 bytes, or with control characters")
		}
	}
	if k.Prefix != "" && k.Prefix != "/" && (path.Clean(k.Prefix) != k.Prefix || strings.HasPrefix(k.Prefix, "..") || k.Prefix == "." ||
		strings.ContainsAny(k.Prefix, "%\\") || strings.ContainsFunc(k.Prefix, isControl)) {
		c.fault(at+".prefix", "%q is not a plain folder like /data/public", k.Prefix)
	}
	for i, e := range k.Enum {
		if !scalar(e) {
			c.fault(fmt.Sprintf("%s.enum[%d]", at, i), "only texts, numbers and truth values can be listed")
		}
	}
	if k.Equals != nil && !scalar(k.Equals) {
		c.fault(at+".equals", "only a text, a number or a truth value; use fields or each")
	}
}

func (c *checker) bounds(at string, k Constraint) {
	for _, f := range []*float64{k.Min, k.Max, k.MaxSum} {
		if f != nil && (math.IsNaN(*f) || math.Abs(*f) > 1<<53) {
			c.fault(at, "bound %v is beyond 2^53", *f)
		}
	}
	if k.Min != nil && k.Max != nil && *k.Min > *k.Max {
		c.fault(at+".min", "%v is above max %v, so nothing fits", *k.Min, *k.Max)
	}
	for _, n := range []*int{k.MinLength, k.MaxLength} {
		if n != nil && (*n < 0 || *n > MaxInput) {
			c.fault(at, "length %d", *n)
		}
	}
	if k.MinLength != nil && k.MaxLength != nil && *k.MinLength > *k.MaxLength {
		c.fault(at+".min_length", "%d is above max_length %d, so nothing fits", *k.MinLength, *k.MaxLength)
	}
}

func isControl(r rune) bool { return r < 0x20 || r == 0x7f }
