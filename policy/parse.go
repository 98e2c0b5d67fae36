package policy

import (
	"errors"
	"fmt"

	"omega/internal/strictjson"
)

// MaxDocument bounds policy.json.
const MaxDocument = 1 << 20

// FieldError is one fault of a document and where it stands, in the form
// "agents[0].permits[2].args.path".
type FieldError struct {
	Path string
	Msg  string
}

func (e *FieldError) Error() string { return e.Path + ": " + e.Msg }

// ParseJSON reads policy.json strictly and validates it.
func ParseJSON(b []byte) (*Document, error) {
	var d Document
	if err := strictjson.Decode(b, &d, strictjson.Limits{MaxBytes: MaxDocument}); err != nil {
		return nil, fmt.Errorf("policy document: %w", err)
	}
	if err := d.Validate(); err != nil {
		return nil, fmt.Errorf("policy document: %w", err)
	}
	return &d, nil
}

// Marshal gives the canonical JSON of a valid document.
func (d *Document) Marshal() ([]byte, error) {
	if err := d.Validate(); err != nil {
		return nil, fmt.Errorf("policy document: %w", err)
	}
	return strictjson.Canonical(d)
}

// Validate reports every fault of the document, each as a FieldError.
func (d *Document) Validate() error {
	c := &checker{doc: d}
	c.document()
	return errors.Join(c.faults...)
}
