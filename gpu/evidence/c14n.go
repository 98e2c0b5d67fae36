package evidence

import (
	"cmp"
	"maps"
	"slices"
	"strings"
)

// Replacements of Canonical XML 1.1, section 2.3.
var (
	textEscapes = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", "\r", "&#xD;")
	attrEscapes = strings.NewReplacer("&", "&amp;", "<", "&lt;", `"`, "&quot;", "\t", "&#x9;", "\n", "&#xA;", "\r", "&#xD;")
)

// canonical is Canonical XML 1.1 of apex and what is below it, without the
// element omit: inclusive, so that apex carries the namespaces of its ancestors.
func canonical(apex, omit *node) []byte {
	w := &c14n{omit: omit}
	inherited := map[string]string{}
	for e := apex.parent; e != nil; e = e.parent {
		for prefix, uri := range e.spaces {
			if _, nearer := inherited[prefix]; !nearer {
				inherited[prefix] = uri
			}
		}
	}
	w.element(apex, inherited, map[string]string{})
	return []byte(w.out.String())
}

type c14n struct {
	out  strings.Builder
	omit *node
}

// element writes n. Declared are namespaces that n inherits from outside of what
// is written, rendered those that an ancestor has written already.
func (w *c14n) element(n *node, declared, rendered map[string]string) {
	name := qualified(n.prefix, n.name)
	w.out.WriteString("<" + name)
	inScope := n.spaces
	if len(declared) > 0 {
		inScope = maps.Clone(declared)
		maps.Copy(inScope, n.spaces)
	}
	if len(inScope) > 0 {
		rendered = maps.Clone(rendered)
	}
	for _, prefix := range slices.Sorted(maps.Keys(inScope)) {
		uri := inScope[prefix]
		// An absent default namespace and an empty one are the same.
		if rendered[prefix] == uri {
			continue
		}
		rendered[prefix] = uri
		w.attribute(strings.TrimSuffix("xmlns:"+prefix, ":"), uri)
	}
	for _, a := range sortedAttrs(n) {
		w.attribute(qualified(a.prefix, a.name), a.value)
	}
	w.out.WriteString(">")
	for _, c := range n.children {
		switch {
		case c == w.omit:
		case c.name == "":
			w.out.WriteString(textEscapes.Replace(c.text))
		default:
			w.element(c, nil, rendered)
		}
	}
	w.out.WriteString("</" + name + ">")
}

func (w *c14n) attribute(name, value string) {
	w.out.WriteString(" " + name + `="` + attrEscapes.Replace(value) + `"`)
}

// sortedAttrs orders attributes by namespace, then by name.
func sortedAttrs(n *node) []attr {
	return slices.SortedFunc(slices.Values(n.attrs), func(a, b attr) int {
		ua, _ := n.attrSpace(a)
		ub, _ := n.attrSpace(b)
		return cmp.Or(cmp.Compare(ua, ub), cmp.Compare(a.name, b.name))
	})
}

func qualified(prefix, name string) string {
	if prefix == "" {
		return name
	}
	return prefix + ":" + name
}
