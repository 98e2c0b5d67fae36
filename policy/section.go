package policy

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
)

// sectionName is the custom section of a compiled policy that holds its
// document, so that the Wasm alone can be replayed and explained. The policy
// digest covers policy.json and the Wasm; nothing decides by the section.
const sectionName = "omega.policy"

// WithDocument appends the canonical JSON of a document to its Wasm
// (WebAssembly core specification 2.0, section 5.5.3).
func WithDocument(wasm, json []byte) []byte {
	body := append(name(sectionName), json...)
	out := append(bytes.Clone(wasm), 0)
	return append(append(out, uleb(uint32(len(body)))...), body...)
}

// DocumentOf reads the document that a compiled policy carries.
func DocumentOf(wasm []byte) (*Document, error) {
	rest, ok := bytes.CutPrefix(wasm, []byte("\x00asm\x01\x00\x00\x00"))
	if !ok || len(wasm) > maxModule {
		return nil, errors.New("policy wasm: not a module")
	}
	for len(rest) > 0 {
		id := rest[0]
		size, n := binary.Uvarint(rest[1:])
		if n <= 0 || size > uint64(len(rest)-1-n) {
			return nil, errors.New("policy wasm: a section is cut off")
		}
		body := rest[1+n : 1+n+int(size)]
		rest = rest[1+n+int(size):]
		if json, ours := bytes.CutPrefix(body, name(sectionName)); id == 0 && ours {
			return ParseJSON(json)
		}
	}
	return nil, fmt.Errorf("policy wasm: no section %s", sectionName)
}
