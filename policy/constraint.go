package policy

// Kind is the type that a value must have, stated or implied; "" where equals
// or enum decide alone.
func (k Constraint) Kind() string {
	switch {
	case k.Type != "":
		return k.Type
	case k.Pattern != "" || k.Prefix != "" || k.URL != nil || k.Address != nil:
		return "string"
	case k.Each != nil || k.Any != nil || k.MaxSum != nil:
		return "array"
	case len(k.Fields) > 0:
		return "object"
	case k.Min != nil || k.Max != nil:
		return "number"
	case k.MinLength != nil || k.MaxLength != nil:
		return "string"
	}
	return ""
}

func (k Constraint) empty() bool {
	return k.Kind() == "" && len(k.Recipients) == 0 && k.Equals == nil && len(k.Enum) == 0
}

// use says for which kinds one part of a constraint has a meaning.
type use struct {
	name  string
	given bool
	types []string
}

func (k Constraint) uses() []use {
	texts, numbers, arrays := []string{"string"}, []string{"number", "integer"}, []string{"array"}
	return []use{
		{"pattern", k.Pattern != "", texts},
		{"prefix", k.Prefix != "", texts},
		{"url", k.URL != nil, texts},
		{"address", k.Address != nil, texts},
		{"recipients", len(k.Recipients) > 0, []string{"", "string", "array"}},
		{"budget", k.Budget != "", []string{"number", "integer", "array"}},
		{"min", k.Min != nil, numbers},
		{"max", k.Max != nil, numbers},
		{"min_length", k.MinLength != nil, []string{"string", "array"}},
		{"max_length", k.MaxLength != nil, []string{"string", "array"}},
		{"max_sum", k.MaxSum != nil, arrays},
		{"each", k.Each != nil, arrays},
		{"any", k.Any != nil, arrays},
		{"fields", len(k.Fields) > 0, []string{"object"}},
	}
}

func scalar(v any) bool {
	switch v.(type) {
	case string, bool, float64, int, int64:
		return true
	}
	return false
}
