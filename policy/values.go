package policy

import (
	"encoding/json"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

const (
	// maxValues bounds the text that can endorse, for each instance. What
	// comes later endorses nothing.
	maxValues = 256 << 10
	// valueCost is what a value takes beside its bytes: an agent can make them of
	// one letter each.
	valueCost = 32
	// maxLearnt bounds the arguments of one call that are learnt, so that a file
	// which is written does not fill what the caller's words need.
	maxLearnt = 4 << 10
	// maxSearch bounds the search for the values of one call, in bytes that are
	// looked at: trusted texts and arguments can be made so that each place of
	// the one is held against each of the other. Beyond it nothing is endorsed.
	maxSearch = 32 << 20
	// placeCost is what a place costs where a value stands but is part of a word.
	placeCost = 32
	// maxDepth bounds JSON within trusted values.
	maxDepth = 32
)

// values are texts of trusted sources. An argument is endorsed when it equals
// one of them, or a run of whole words in one.
type values struct {
	texts []string
	bytes int
	full  bool
	left  int // of maxSearch, for this call
}

// learn keeps the values of JSON, or of a text that is none.
func (v *values) learn(raw []byte) {
	if len(raw) == 0 || v.full || !utf8.Valid(raw) {
		return
	}
	var tree any
	if json.Unmarshal(raw, &tree) != nil {
		v.keep(string(raw))
		return
	}
	v.leaves(tree, maxDepth)
}

func (v *values) leaves(tree any, depth int) {
	if depth == 0 {
		return
	}
	switch t := tree.(type) {
	case string:
		v.keep(t)
		// Tools put JSON into the texts of their results.
		var inner any
		if s := strings.TrimSpace(t); (strings.HasPrefix(s, "{") || strings.HasPrefix(s, "[")) && json.Unmarshal([]byte(s), &inner) == nil {
			v.leaves(inner, depth-1)
		}
	case float64:
		v.keep(plainNumber(t))
	case []any:
		for _, e := range t {
			v.leaves(e, depth-1)
		}
	case map[string]any:
		for _, e := range t {
			v.leaves(e, depth-1)
		}
	}
}

func (v *values) keep(text string) {
	if text == "" {
		return
	}
	if v.full = v.full || v.bytes+len(text)+valueCost > maxValues; v.full {
		return
	}
	v.texts = append(v.texts, text)
	v.bytes += len(text) + valueCost
}

func plainNumber(f float64) string { return strconv.FormatFloat(f, 'f', -1, 64) }

// endorse says whether everything at a path of the arguments is a trusted
// value. What is absent needs no endorsement.
func (v *values) endorse(args map[string]any, path string) bool {
	if args == nil {
		return false
	}
	found := at(args, path)
	for _, e := range found {
		if !v.endorsed(e, maxDepth) {
			return false
		}
	}
	return true
}

// at collects what stands at a path like "to" or "message.to"; lists on the
// way stand for each of their elements.
func at(v any, path string) []any {
	switch v := v.(type) {
	case []any:
		var out []any
		for _, e := range v {
			out = append(out, at(e, path)...)
		}
		return out
	case map[string]any:
		if e, ok := v[path]; ok {
			return []any{e}
		}
		head, rest, ok := strings.Cut(path, ".")
		if e, there := v[head]; ok && there {
			return at(e, rest)
		}
	}
	return nil
}

func (v *values) endorsed(value any, depth int) bool {
	if depth == 0 {
		return false
	}
	switch t := value.(type) {
	case string:
		return v.text(t)
	case float64:
		return v.has(plainNumber(t))
	case []any:
		for _, e := range t {
			if !v.endorsed(e, depth-1) {
				return false
			}
		}
		return true
	case map[string]any:
		for _, e := range t {
			if !v.endorsed(e, depth-1) {
				return false
			}
		}
		return true
	}
	return false // null, true and false are nobody's value
}

// text is endorsed as a whole, or as a list with commas of which each part is.
func (v *values) text(s string) bool {
	if v.has(strings.TrimSpace(s)) {
		return true
	}
	parts := strings.FieldsFunc(s, func(r rune) bool { return r == ',' || r == ';' })
	for _, p := range parts {
		if !v.has(strings.TrimSpace(p)) {
			return false
		}
	}
	return len(parts) > 1
}

// has looks for a value as a run of whole words.
func (v *values) has(s string) bool {
	if s == "" {
		return false
	}
	for _, text := range v.texts {
		if v.left -= placeCost; v.left < 0 {
			return false
		}
		for from := 0; from+len(s) <= len(text); {
			i := strings.Index(text[from:], s)
			if i < 0 {
				v.left -= len(text) - from
				break
			}
			if v.left -= i + len(s) + placeCost; v.left < 0 {
				return false
			}
			i += from
			if begins(text[:i], s) && ends(text[i+len(s):]) {
				return true
			}
			from = i + 1
		}
	}
	return false
}

// begins says whether a value can begin after this text: after space, quotes,
// brackets or a currency sign, or after a comma, colon or semicolon that is not
// part of a number.
func begins(before, value string) bool {
	r, n := utf8.DecodeLastRuneInString(before)
	if n == 0 || unicode.IsSpace(r) || quoting(r) || unicode.Is(unicode.Sc, r) {
		return true
	}
	if r != ',' && r != ';' {
		return false
	}
	earlier, n := utf8.DecodeLastRuneInString(before[:len(before)-n])
	first, _ := utf8.DecodeRuneInString(value)
	return n > 0 && !(unicode.IsDigit(earlier) && unicode.IsDigit(first))
}

// ends says whether a value can end before this text: before space, quotes or
// brackets, or before punctuation after which no word goes on.
func ends(after string) bool {
	for after != "" {
		r, n := utf8.DecodeRuneInString(after)
		if unicode.IsSpace(r) || quoting(r) {
			return true
		}
		if !strings.ContainsRune(".,;:!?", r) {
			return false
		}
		after = after[n:]
		if r == ',' || r == ';' {
			next, n := utf8.DecodeRuneInString(after)
			return n == 0 || !unicode.IsDigit(next)
		}
	}
	return true
}

func quoting(r rune) bool { return strings.ContainsRune("\"'`´‘’“”„«»()[]{}<>", r) }
