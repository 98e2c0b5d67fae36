package policy

import (
	"fmt"
	"math"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"
)

var (
	types = []string{"string", "number", "integer", "boolean", "array", "object"}
	// conditionForm is a plain Rego name.
	conditionForm = regexp.MustCompile(`^[a-z][a-z0-9_]{0,62}$`)
	clockForm     = regexp.MustCompile(`^([01][0-9]|2[0-3]):[0-5][0-9]$`)
	weekdays      = []string{"mon", "tue", "wed", "thu", "fri", "sat", "sun"}
)

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
	if k.Kind() == "array" && k.Each == nil && k.MaxSum == nil && len(k.Recipients) == 0 {
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
	c.places(at, k)
	if k.Budget != "" && depth != maxNesting {
		c.fault(at+".budget", "only an argument itself can be charged, not a part of it")
	}
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
	c.folder(at+".prefix", k.Prefix)
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

func (c *checker) folder(at, s string) {
	if s != "" && s != "/" && (path.Clean(s) != s || strings.HasPrefix(s, "..") || s == "." ||
		strings.ContainsAny(s, "%\\") || strings.ContainsFunc(s, isControl)) {
		c.fault(at, "%q is not a plain folder like /data/public", s)
	}
}

// places checks what URLs, addresses and recipients may be.
func (c *checker) places(at string, k Constraint) {
	if u := k.URL; u != nil {
		c.hosts(at+".url.hosts", u.Hosts)
		c.ports(at+".url.ports", u.Ports)
		c.folder(at+".url.prefix", u.Prefix)
		for i, s := range u.Schemes {
			if s != "https" && s != "http" {
				c.fault(fmt.Sprintf("%s.url.schemes[%d]", at, i), "%q, want https or http", s)
			}
		}
	}
	if k.Address != nil {
		c.hosts(at+".address.domains", k.Address.Domains)
	}
	for i, r := range k.Recipients {
		if !readerForm.MatchString(strings.ToLower(r)) {
			c.fault(fmt.Sprintf("%s.recipients[%d]", at, i), "%q is neither a name, an address nor *@domain", r)
		}
	}
}

func (c *checker) window(at string, w Window) {
	if len(w.Days) == 0 && w.From == "" && w.Until == "" && w.After == "" && w.Before == "" {
		c.fault(at, "names no time")
	}
	for i, d := range w.Days {
		if !slices.Contains(weekdays, d) {
			c.fault(fmt.Sprintf("%s.days[%d]", at, i), "%q is no day (%s)", d, strings.Join(weekdays, ", "))
		}
	}
	if w.From != "" && !clockForm.MatchString(w.From) {
		c.fault(at+".from", "%q is not HH:MM", w.From)
	}
	if w.Until != "" && w.Until != "24:00" && !clockForm.MatchString(w.Until) {
		c.fault(at+".until", "%q is not HH:MM", w.Until)
	}
	for name, s := range map[string]string{"after": w.After, "before": w.Before} {
		if _, err := time.Parse(time.RFC3339, s); s != "" && err != nil {
			c.fault(at+"."+name, "%q is not a time like 2027-01-31T09:00:00Z", s)
		}
	}
}
