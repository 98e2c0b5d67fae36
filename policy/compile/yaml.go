package compile

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"reflect"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// maxNesting bounds nesting of the YAML; real policies use about ten levels.
const maxNesting = 40

// maxFaults keeps a wholly wrong file from giving endless errors.
const maxFaults = 20

var (
	yamlLine    = regexp.MustCompile(`line (\d+)`)
	plainInt    = regexp.MustCompile(`^-?(0|[1-9][0-9]*)$`)
	plainNumber = regexp.MustCompile(`^-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?$`)
)

// parse reads exactly one YAML document.
func (s source) parse(text []byte) (*yaml.Node, error) {
	if len(text) > maxSource {
		return nil, &Error{s.file, 1, 1, fmt.Sprintf("policy is longer than %d bytes", maxSource)}
	}
	d := yaml.NewDecoder(bytes.NewReader(text))
	var doc, more yaml.Node
	if err := d.Decode(&doc); errors.Is(err, io.EOF) {
		return nil, &Error{s.file, 1, 1, "policy is empty"}
	} else if err != nil {
		return nil, s.syntax(err)
	}
	if err := d.Decode(&more); err == nil {
		return nil, &Error{s.file, max(more.Line, 1), max(more.Column, 1), "a second document; a policy is one"}
	} else if !errors.Is(err, io.EOF) {
		return nil, s.syntax(err)
	}
	if doc.Kind != yaml.DocumentNode || len(doc.Content) != 1 {
		return nil, &Error{s.file, 1, 1, "policy is empty"}
	}
	return doc.Content[0], nil
}

// syntax gives a YAML error the form of the others; the library knows the line.
func (s source) syntax(err error) error {
	line := 1
	if m := yamlLine.FindStringSubmatch(err.Error()); m != nil {
		line, _ = strconv.Atoi(m[1])
	}
	return &Error{s.file, line, 1, err.Error()}
}

type place struct{ line, column int }

// walker stores YAML in Go values strictly and remembers where each came from.
type walker struct {
	file   string
	places map[string]place
	faults []error
}

func (w *walker) has(path string) bool { _, ok := w.places[path]; return ok }

// find returns the place of a path, or of the nearest thing around it.
func (w *walker) find(path string) place {
	for path != "" {
		if at, ok := w.places[path]; ok {
			return at
		}
		cut := strings.LastIndexAny(path, ".[")
		path = path[:max(cut, 0)]
	}
	return place{1, 1}
}

func (w *walker) fault(path, format string, args ...any) {
	at := w.find(path)
	w.faultAt(at, path+": "+fmt.Sprintf(format, args...))
}

func (w *walker) faultAt(at place, msg string) {
	if len(w.faults) < maxFaults {
		w.faults = append(w.faults, &Error{w.file, at.line, at.column, msg})
	}
}

func (w *walker) decode(n *yaml.Node, into any) {
	w.value(n, reflect.ValueOf(into).Elem(), "", maxNesting)
}

func (w *walker) value(n *yaml.Node, v reflect.Value, path string, depth int) {
	at := place{n.Line, n.Column}
	w.places[path] = at
	switch {
	case depth == 0:
		w.faultAt(at, path+": nested too deeply")
		return
	case n.Kind == yaml.AliasNode || n.Anchor != "":
		w.faultAt(at, path+": anchors and aliases are not read")
		return
	case n.Style&yaml.TaggedStyle != 0:
		w.faultAt(at, path+": tags are not read")
		return
	case n.ShortTag() == "!!null":
		w.faultAt(at, path+": has no value")
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		w.value(n, v.Elem(), path, depth-1)
	case reflect.Struct, reflect.Map:
		w.mapping(n, v, path, depth-1)
	case reflect.Slice:
		w.sequence(n, v, path, depth-1)
	default:
		if tree := treeOf(n, v); tree.IsValid() {
			w.value(n, tree, path, depth)
			v.Set(tree)
			return
		}
		if err := scalar(n, v); err != nil {
			w.faultAt(at, strings.TrimPrefix(path+": "+err.Error(), ": "))
		}
	}
}

// treeOf makes room for a mapping or a list where any value may stand.
func treeOf(n *yaml.Node, v reflect.Value) reflect.Value {
	switch {
	case v.Kind() != reflect.Interface:
	case n.Kind == yaml.MappingNode:
		return reflect.New(reflect.TypeFor[map[string]any]()).Elem()
	case n.Kind == yaml.SequenceNode:
		return reflect.New(reflect.TypeFor[[]any]()).Elem()
	}
	return reflect.Value{}
}

func (w *walker) mapping(n *yaml.Node, v reflect.Value, path string, depth int) {
	if n.Kind != yaml.MappingNode {
		w.faultAt(place{n.Line, n.Column}, strings.TrimPrefix(path+": want a mapping of names to values", ": "))
		return
	}
	if v.Kind() == reflect.Map {
		v.Set(reflect.MakeMap(v.Type()))
	}
	seen := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, at := n.Content[i], place{n.Content[i].Line, n.Content[i].Column}
		if key.Kind != yaml.ScalarNode || key.ShortTag() != "!!str" || key.Anchor != "" {
			w.faultAt(at, fmt.Sprintf("%q is not a name; put it in quotes", key.Value))
			continue
		}
		if seen[key.Value] {
			w.faultAt(at, fmt.Sprintf("%q is given twice", key.Value))
			continue
		}
		seen[key.Value] = true
		w.entry(n.Content[i+1], v, key.Value, at, strings.TrimPrefix(path+"."+key.Value, "."), depth)
	}
}

// entry stores one value of a mapping in the field or map element of its name.
func (w *walker) entry(n *yaml.Node, v reflect.Value, key string, at place, path string, depth int) {
	if v.Kind() == reflect.Map {
		e := reflect.New(v.Type().Elem()).Elem()
		w.value(n, e, path, depth)
		v.SetMapIndex(reflect.ValueOf(key), e)
		return
	}
	for i := range v.NumField() {
		name, _, _ := strings.Cut(v.Type().Field(i).Tag.Get("json"), ",")
		if name == key {
			w.value(n, v.Field(i), path, depth)
			return
		}
	}
	w.faultAt(at, fmt.Sprintf("unknown field %q", key))
}

func (w *walker) sequence(n *yaml.Node, v reflect.Value, path string, depth int) {
	if n.Kind != yaml.SequenceNode {
		w.faultAt(place{n.Line, n.Column}, path+": want a list")
		return
	}
	v.Set(reflect.MakeSlice(v.Type(), len(n.Content), len(n.Content)))
	for i, e := range n.Content {
		w.value(e, v.Index(i), fmt.Sprintf("%s[%d]", path, i), depth)
	}
}

// scalar stores a plain value; what YAML could read in two ways is refused.
func scalar(n *yaml.Node, v reflect.Value) error {
	if n.Kind != yaml.ScalarNode {
		return errors.New("want a single value")
	}
	tag := n.ShortTag()
	switch v.Kind() {
	case reflect.String:
		if tag != "!!str" {
			return fmt.Errorf("want text; put %s in quotes", n.Value)
		}
		v.SetString(n.Value)
	case reflect.Bool:
		if tag != "!!bool" || n.Value != "true" && n.Value != "false" {
			return errors.New("want true or false")
		}
		v.SetBool(n.Value == "true")
	case reflect.Int:
		i, err := strconv.Atoi(n.Value)
		if tag != "!!int" || !plainInt.MatchString(n.Value) || err != nil {
			return errors.New("want a whole number")
		}
		v.SetInt(int64(i))
	case reflect.Float64:
		f, err := number(n)
		if err != nil {
			return err
		}
		v.SetFloat(f)
	case reflect.Interface:
		return anyScalar(n, tag, v)
	default:
		return fmt.Errorf("no reading for %s", v.Type())
	}
	return nil
}

func anyScalar(n *yaml.Node, tag string, v reflect.Value) error {
	switch tag {
	case "!!str":
		v.Set(reflect.ValueOf(n.Value))
	case "!!bool":
		if n.Value != "true" && n.Value != "false" {
			return errors.New("want true or false, or text in quotes")
		}
		v.Set(reflect.ValueOf(n.Value == "true"))
	case "!!int", "!!float":
		f, err := number(n)
		if err != nil {
			return err
		}
		v.Set(reflect.ValueOf(f))
	default:
		return fmt.Errorf("want text, a number, true or false; put %s in quotes", n.Value)
	}
	return nil
}

func number(n *yaml.Node) (float64, error) {
	tag := n.ShortTag()
	f, err := strconv.ParseFloat(n.Value, 64)
	if tag != "!!int" && tag != "!!float" || !plainNumber.MatchString(n.Value) || err != nil {
		return 0, errors.New("want a number")
	}
	if math.Abs(f) > 1<<53-1 {
		return 0, errors.New("number beyond 2^53")
	}
	return f, nil
}
