package compile

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"omega/internal/strictjson"
	"omega/policy"
)

// constraint writes a function that is met by the values that c allows.
func (g *generator) constraint(fn string, c policy.Constraint) {
	g.line("\n%s(value) if {", g.own(fn))
	g.kind(c)
	if c.Equals != nil {
		g.line("value == %s", literal(c.Equals))
	}
	if len(c.Enum) > 0 {
		g.line("value in {%s}", strings.Join(literals(c.Enum), ", "))
	}
	if c.Pattern != "" {
		g.line("regex.match(%s, value)", quote("^(?:"+c.Pattern+")$"))
	}
	if c.Prefix != "" {
		g.line("under(value, %s)", quote(folder(c.Prefix)))
	}
	g.places(c)
	g.bounds(c)
	if c.Each != nil {
		g.line("every element in value { %s_each(element) }", fn)
	}
	if c.Any != nil {
		g.line("some element in value\n%s_any(element)", fn)
	}
	if len(c.Fields) > 0 {
		g.line("every name, element in value { %s_field(name, element) }", fn)
		for _, name := range required(c.Fields) {
			g.line("%s in object.keys(value)", quote(name))
		}
	}
	g.line("}")
	g.nested(fn, c)
}

// places writes what URLs, addresses and recipients must be.
func (g *generator) places(c policy.Constraint) {
	if u := c.URL; u != nil {
		g.line("parts := url(value)\nparts.scheme in {%s}", strings.Join(quoteAll(schemes(u)), ", "))
		g.line("host_in(parts.host, [%s])", strings.Join(quoteAll(u.Hosts), ", "))
		g.line("parts.port in {%s}", strings.Join(quoteAll(ports(u)), ", "))
		if u.Prefix != "" {
			g.line("under(parts.path, %s)", quote(folder(u.Prefix)))
		}
		if !u.Query {
			g.line("parts.query == \"\"")
		}
	}
	if c.Address != nil {
		g.line("is_address(value, [%s])", strings.Join(quoteAll(c.Address.Domains), ", "))
	}
	if len(c.Recipients) > 0 {
		g.line("list := recipients(value)\ncount(list) > 0\ncount(list) <= 100")
		g.line("every recipient in list {\nis_reader(recipient)\nadmitted(recipient, [%s])\n}", strings.Join(quoteAll(lowered(c.Recipients)), ", "))
	}
}

// folder ends with a slash, so that no other name begins with it.
func folder(prefix string) string { return strings.TrimSuffix(prefix, "/") + "/" }

func schemes(u *policy.URLForm) []string {
	if len(u.Schemes) == 0 {
		return []string{"https"}
	}
	return u.Schemes
}

// ports lists how a port may be written: none, or one of those given.
func ports(u *policy.URLForm) []string {
	out := []string{""}
	for _, p := range u.Ports {
		out = append(out, strconv.Itoa(p))
	}
	return out
}

func lowered(list []string) []string {
	out := make([]string, len(list))
	for i, s := range list {
		out[i] = strings.ToLower(s)
	}
	return out
}

// nested writes the functions for what is inside of the value.
func (g *generator) nested(fn string, c policy.Constraint) {
	if c.Each != nil {
		g.constraint(fn+"_each", *c.Each)
	}
	if c.Any != nil {
		g.constraint(fn+"_any", *c.Any)
	}
	for i, name := range sortedKeys(c.Fields) {
		sub := fmt.Sprintf("%s_f%d", fn, i+1)
		g.line("\n%s_field(name, element) if {\nname == %s\n%s(element)\n}", fn, quote(name), sub)
		g.constraint(sub, c.Fields[name])
	}
}

// kind comes first: comparisons in Rego are defined across types, so a bound
// without it would let null pass below any number.
func (g *generator) kind(c policy.Constraint) {
	switch c.Kind() {
	case "string":
		g.line("is_string(value)")
	case "number":
		g.line("is_number(value)")
	case "integer":
		g.line("is_number(value)\nvalue == floor(value)")
	case "boolean":
		g.line("is_boolean(value)")
	case "array":
		g.line("is_array(value)")
	case "object":
		g.line("is_object(value)")
	}
}

func (g *generator) bounds(c policy.Constraint) {
	if c.Min != nil {
		g.line("value >= %s", literal(*c.Min))
	}
	if c.Max != nil {
		g.line("value <= %s", literal(*c.Max))
	}
	if c.MinLength != nil {
		g.line("count(value) >= %d", *c.MinLength)
	}
	if c.MaxLength != nil {
		g.line("count(value) <= %d", *c.MaxLength)
	}
	if c.MaxSum != nil {
		g.line("every element in value { is_number(element)\nelement >= 0 }")
		g.line("sum(value) <= %s", literal(*c.MaxSum))
	}
}

var kinds = map[string]string{
	"string": "text", "number": "a number", "integer": "a whole number",
	"boolean": "true or false", "array": "a list", "object": "an object",
}

// maxWords keeps a reason within what an entry of the log takes.
const maxWords = 600

// describe puts a constraint into words for the agent.
func describe(c policy.Constraint) string {
	text := []rune(words(c))
	if len(text) > maxWords {
		return string(text[:maxWords]) + "…"
	}
	return string(text)
}

func words(c policy.Constraint) string {
	var parts []string
	add := func(format string, args ...any) { parts = append(parts, fmt.Sprintf(format, args...)) }
	if kind := kinds[c.Kind()]; kind != "" && c.Prefix == "" {
		add("%s", kind)
	}
	if c.Equals != nil {
		add("exactly %s", literal(c.Equals))
	}
	if len(c.Enum) > 0 {
		add("one of %s", strings.Join(literals(c.Enum), ", "))
	}
	if c.Pattern != "" {
		add("matching %s", c.Pattern)
	}
	if c.Prefix != "" {
		add(`a plain path under %s, without "..", "//", %% or backslash`, c.Prefix)
	}
	describePlaces(c, add)
	describeBounds(c, add)
	if c.Each != nil {
		add("each %s", words(*c.Each))
	}
	if c.Any != nil {
		add("at least one %s", words(*c.Any))
	}
	if len(c.Fields) > 0 {
		var fields []string
		for _, name := range sortedKeys(c.Fields) {
			fields = append(fields, fmt.Sprintf("%q %s", name, words(c.Fields[name])))
		}
		add("with only %s", strings.Join(fields, "; "))
	}
	return strings.Join(parts, ", ")
}

func describePlaces(c policy.Constraint, add func(string, ...any)) {
	if u := c.URL; u != nil {
		text := "a URL with " + strings.Join(schemes(u), " or ") + " to " + strings.Join(u.Hosts, ", ")
		if u.Prefix != "" {
			text += " under " + u.Prefix
		}
		if !u.Query {
			text += ", without a query"
		}
		add("%s", text)
	}
	if c.Address != nil {
		add("a mail address at %s", strings.Join(c.Address.Domains, ", "))
	}
	if len(c.Recipients) > 0 {
		add("only recipients among %s", strings.Join(c.Recipients, ", "))
	}
	if c.Budget != "" {
		add("an amount within the budget %s", c.Budget)
	}
}

func describeBounds(c policy.Constraint, add func(string, ...any)) {
	if c.Min != nil {
		add("at least %s", literal(*c.Min))
	}
	if c.Max != nil {
		add("at most %s", literal(*c.Max))
	}
	unit := "characters"
	if c.Kind() == "array" {
		unit = "elements"
	}
	if c.MinLength != nil {
		add("at least %d %s", *c.MinLength, unit)
	}
	if c.MaxLength != nil {
		add("at most %d %s", *c.MaxLength, unit)
	}
	if c.MaxSum != nil {
		add("numbers that add up to at most %s", literal(*c.MaxSum))
	}
}

// literal writes a validated scalar as Rego, which takes JSON's form.
func literal(v any) string {
	if f, ok := v.(float64); ok {
		return strconv.FormatFloat(f, 'f', -1, 64)
	}
	b, err := strictjson.Canonical(v)
	if err != nil {
		return "null" // meets nothing: validated scalars always encode
	}
	return string(b)
}

func literals(vs []any) []string {
	out := make([]string, len(vs))
	for i, v := range vs {
		out[i] = literal(v)
	}
	return out
}

// quote writes Rego text; JSON's escapes are Rego's.
func quote(s string) string {
	b, err := json.Marshal(s)
	if err != nil {
		return `""`
	}
	return string(b)
}

func quoteAll(list []string) []string {
	out := make([]string, len(list))
	for i, s := range list {
		out[i] = quote(s)
	}
	return out
}
