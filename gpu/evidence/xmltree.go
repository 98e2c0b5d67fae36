package evidence

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"strings"
)

// Bounds of a RIM; the real ones have 22 KB, 4 levels and 100 elements.
const (
	maxXML        = 1 << 20
	maxDepth      = 32
	maxElements   = 4096
	maxNamespaces = 64 // in a document; each element carries those in scope
)

// node is an element, or a piece of text where name is empty.
type node struct {
	prefix, name string
	text         string
	spaces       map[string]string // declared here, by prefix
	attrs        []attr
	children     []*node
	parent       *node
}

// attr is an attribute that declares no namespace.
type attr struct{ prefix, name, value string }

// parseXML reads the part of XML that signed RIMs use. What a canonicaliser
// would have to drop, expand or inherit is refused: document types, processing
// instructions, comments, entities, attributes of the xml prefix.
func parseXML(b []byte) (*node, error) {
	if len(b) > maxXML {
		return nil, fmt.Errorf("%d bytes, at most %d", len(b), maxXML)
	}
	dec := xml.NewDecoder(bytes.NewReader(b))
	t := &tree{}
	for {
		start := dec.InputOffset()
		token, err := dec.RawToken()
		if errors.Is(err, io.EOF) {
			break
		}
		if err == nil {
			err = t.add(token, start)
		}
		if err != nil {
			return nil, fmt.Errorf("byte %d: %w", start, err)
		}
	}
	if t.root == nil || t.open != nil {
		return nil, errors.New("document is not complete")
	}
	return t.root, nil
}

// tree is a document while it is read.
type tree struct {
	root, open *node
	depth      int
	elements   int
	namespaces int
}

func (t *tree) add(token xml.Token, offset int64) error {
	switch v := token.(type) {
	case xml.StartElement:
		return t.start(v)
	case xml.EndElement:
		if t.open == nil || t.open.prefix != v.Name.Space || t.open.name != v.Name.Local {
			return fmt.Errorf("end of %q, which is not open", v.Name.Local)
		}
		t.open = t.open.parent
		t.depth--
		return nil
	case xml.CharData:
		if t.open == nil {
			if len(bytes.Trim(v, " \t\n")) != 0 {
				return errors.New("text outside of the document")
			}
			return nil
		}
		t.open.children = append(t.open.children, &node{text: string(v), parent: t.open})
		return nil
	case xml.ProcInst:
		if v.Target == "xml" && offset == 0 {
			return nil // the declaration; the decoder has checked its encoding
		}
		return fmt.Errorf("processing instruction %q", v.Target)
	}
	return errors.New("comments and document types are not allowed")
}

func (t *tree) start(e xml.StartElement) error {
	n := &node{prefix: e.Name.Space, name: e.Name.Local, parent: t.open, spaces: map[string]string{}}
	if t.depth++; t.depth > maxDepth {
		return fmt.Errorf("more than %d levels", maxDepth)
	}
	for _, a := range e.Attr {
		if err := n.attribute(a); err != nil {
			return err
		}
	}
	t.elements++
	t.namespaces += len(n.spaces)
	if t.elements > maxElements || t.namespaces > maxNamespaces {
		return fmt.Errorf("more than %d elements or %d namespaces", maxElements, maxNamespaces)
	}
	if err := n.check(); err != nil {
		return err
	}
	switch {
	case t.open != nil:
		t.open.children = append(t.open.children, n)
	case t.root != nil:
		return errors.New("a second document")
	default:
		t.root = n
	}
	t.open = n
	return nil
}

func (n *node) attribute(a xml.Attr) error {
	// A parser turns white space in a value into blanks, and the decoder cannot
	// tell it from a reference to the same character, which stays.
	if strings.ContainsAny(a.Value, "\t\n\r") {
		return fmt.Errorf("white space in attribute %q", a.Name.Local)
	}
	declares, prefix := a.Name.Space == "xmlns", a.Name.Local
	if a.Name.Space == "" && a.Name.Local == "xmlns" {
		declares, prefix = true, ""
	}
	if !declares {
		if a.Name.Space == "xml" || strings.Contains(a.Name.Local, ":") {
			return fmt.Errorf("attribute %q", a.Name.Local)
		}
		n.attrs = append(n.attrs, attr{a.Name.Space, a.Name.Local, a.Value})
		return nil
	}
	_, twice := n.spaces[prefix]
	if twice || prefix == "xml" || prefix == "xmlns" || strings.Contains(prefix, ":") || (prefix != "" && a.Value == "") {
		return fmt.Errorf("namespace %q", prefix)
	}
	n.spaces[prefix] = a.Value
	return nil
}

// check holds what namespaces demand of an element.
func (n *node) check() error {
	if strings.Contains(n.name, ":") || n.prefix == "xml" || n.prefix == "xmlns" {
		return fmt.Errorf("element %q", n.name)
	}
	if _, ok := n.space(n.prefix); !ok {
		return fmt.Errorf("element %q: prefix %q is not declared", n.name, n.prefix)
	}
	seen := map[[2]string]bool{}
	for _, a := range n.attrs {
		uri, ok := n.attrSpace(a)
		if key := [2]string{uri, a.name}; !ok || seen[key] {
			return fmt.Errorf("attribute %q: twice, or its prefix is not declared", a.name)
		} else {
			seen[key] = true
		}
	}
	return nil
}

// space is the namespace of a prefix at n. No prefix and no declaration is the
// empty namespace.
func (n *node) space(prefix string) (string, bool) {
	for e := n; e != nil; e = e.parent {
		if uri, ok := e.spaces[prefix]; ok {
			return uri, true
		}
	}
	return "", prefix == ""
}

// attrSpace is the namespace of an attribute: without a prefix it has none.
func (n *node) attrSpace(a attr) (string, bool) {
	if a.prefix == "" {
		return "", true
	}
	return n.space(a.prefix)
}

// is reports whether n is the element name of a namespace.
func (n *node) is(uri, name string) bool {
	own, _ := n.space(n.prefix)
	return n.name == name && own == uri
}

// attr is the value of an attribute of n.
func (n *node) attr(uri, name string) (string, bool) {
	for _, a := range n.attrs {
		if own, _ := n.attrSpace(a); own == uri && a.name == name {
			return a.value, true
		}
	}
	return "", false
}

// elements are the child elements of n; text between them must be blank.
func (n *node) elements() ([]*node, error) {
	var out []*node
	for _, c := range n.children {
		if c.name != "" {
			out = append(out, c)
		} else if strings.Trim(c.text, " \t\n") != "" {
			return nil, fmt.Errorf("text in %q", n.name)
		}
	}
	return out, nil
}

// content is the text of an element that has no child elements.
func (n *node) content() (string, error) {
	var b strings.Builder
	for _, c := range n.children {
		if c.name != "" {
			return "", fmt.Errorf("element %q in %q", c.name, n.name)
		}
		b.WriteString(c.text)
	}
	return b.String(), nil
}
