package gateway

import (
	"bytes"
	"errors"
)

var errNoObject = errors.New("not an object in canonical form")

// eachField calls do for every field of an object that strictjson.Canonical wrote:
// no space stands between its parts, and no name in it is escaped without need.
func eachField(raw []byte, do func(name string, value []byte) error) error {
	if len(raw) < 2 || raw[0] != '{' || raw[len(raw)-1] != '}' {
		return errNoObject
	}
	for rest := raw[1 : len(raw)-1]; len(rest) > 0; {
		name := valueEnd(rest)
		if name < 2 || rest[0] != '"' || name >= len(rest) || rest[name] != ':' {
			return errNoObject
		}
		value := rest[name+1:]
		end := valueEnd(value)
		if end < 1 || end < len(value) && value[end] != ',' {
			return errNoObject
		}
		if err := do(string(rest[1:name-1]), value[:end]); err != nil {
			return err
		}
		rest = value[min(end+1, len(value)):]
	}
	return nil
}

// valueEnd is where the value that b begins with ends; 0 where it does not.
func valueEnd(b []byte) int {
	depth := 0
	for i := 0; i < len(b); {
		switch b[i] {
		case '"':
			n := textEnd(b[i:])
			if n == 0 {
				return 0
			}
			i += n
			if depth == 0 {
				return i
			}
			continue
		case '{', '[':
			depth++
		case '}', ']':
			if depth--; depth < 0 {
				return i
			}
			if depth == 0 {
				return i + 1
			}
		case ',', ':':
			if depth == 0 {
				return i
			}
		}
		i++
	}
	if depth > 0 {
		return 0
	}
	return len(b)
}

// textEnd is where a text in quotes ends; 0 where it does not.
func textEnd(b []byte) int {
	for i := 1; i < len(b); {
		n := bytes.IndexByte(b[i:], '"')
		if n < 0 {
			return 0
		}
		i += n
		escapes := 0
		for i-1-escapes > 0 && b[i-1-escapes] == '\\' {
			escapes++
		}
		if i++; escapes%2 == 0 {
			return i
		}
	}
	return 0
}
