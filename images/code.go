package images

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
)

// Code is how much of our own Go is compiled into the guest.
type Code struct {
	Files int `json:"files"`
	Lines int `json:"lines"`
}

// Code counts the Go files among the inputs, in the source tree that they came from.
func (in Inputs) Code(source string) (Code, error) {
	var c Code
	for key := range in {
		name, ok := strings.CutPrefix(key, InputFile+":")
		if !ok || filepath.Ext(name) != ".go" {
			continue
		}
		b, err := os.ReadFile(filepath.Join(source, name))
		if err != nil {
			return Code{}, err
		}
		c.Files++
		c.Lines += bytes.Count(b, []byte("\n"))
	}
	return c, nil
}
