package strictjson

import (
	"errors"
	"fmt"
)

// An Object is a canonical object that is written member by member, in the order
// of their names.
type Object struct {
	b    []byte
	last string
	err  error
}

// NewObject begins an object behind dst.
func NewObject(dst []byte) *Object { return &Object{b: append(dst, '{')} }

var errOrder = errors.New("canonical json: members are not in the order of their names")

// name begins a member. Names are plain words.
func (o *Object) name(name string) bool {
	if name <= o.last {
		o.err = fmt.Errorf("%w: %s", errOrder, name)
	}
	if o.err != nil {
		return false
	}
	if o.last != "" {
		o.b = append(o.b, ',')
	}
	o.last = name
	o.b = append(AppendString(o.b, name), ':')
	return true
}

// Text adds a text.
func (o *Object) Text(name, value string) {
	if o.name(name) {
		o.b = AppendString(o.b, value)
	}
}

// Value adds any value.
func (o *Object) Value(name string, v any) {
	if o.name(name) {
		o.b, o.err = Append(o.b, v)
	}
}

// End returns what was written.
func (o *Object) End() ([]byte, error) {
	if o.err != nil {
		return nil, o.err
	}
	return append(o.b, '}'), nil
}
