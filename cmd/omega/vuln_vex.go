package main

import (
	"fmt"
	"slices"

	"omega/internal/strictjson"
)

// maxVEX bounds the file with the exceptions.
const maxVEX = 1 << 20

// A vexDocument says which vulnerabilities do not count, and why (OpenVEX
// specification v0.2.0).
type vexDocument struct {
	Context     string         `json:"@context"`
	ID          string         `json:"@id"`
	Author      string         `json:"author"`
	Role        string         `json:"role,omitempty"`
	Timestamp   string         `json:"timestamp"`
	LastUpdated string         `json:"last_updated,omitempty"`
	Version     int            `json:"version"`
	Tooling     string         `json:"tooling,omitempty"`
	Statements  []vexStatement `json:"statements"`
}

// A vexStatement is about one vulnerability in some of our modules.
type vexStatement struct {
	Vulnerability struct {
		ID          string   `json:"@id,omitempty"`
		Name        string   `json:"name"`
		Description string   `json:"description,omitempty"`
		Aliases     []string `json:"aliases,omitempty"`
	} `json:"vulnerability"`
	Products []struct {
		ID            string `json:"@id"`
		Subcomponents []struct {
			ID string `json:"@id"`
		} `json:"subcomponents,omitempty"`
	} `json:"products"`
	Status          string `json:"status"`
	StatusNotes     string `json:"status_notes,omitempty"`
	Justification   string `json:"justification,omitempty"`
	ImpactStatement string `json:"impact_statement,omitempty"`
	ActionStatement string `json:"action_statement,omitempty"`
	Timestamp       string `json:"timestamp,omitempty"`

	used []bool // by product
}

// The statuses and justifications of OpenVEX.
var (
	vexStatuses       = []string{"not_affected", "affected", "fixed", "under_investigation"}
	vexJustifications = []string{
		"component_not_present", "vulnerable_code_not_present", "vulnerable_code_not_in_execute_path",
		"vulnerable_code_cannot_be_controlled_by_adversary", "inline_mitigations_already_exist",
	}
)

// parseVEX reads the exceptions. One that gives no reason is refused.
func parseVEX(raw []byte) (*vexDocument, error) {
	var d vexDocument
	if err := strictjson.Decode(raw, &d, strictjson.Limits{MaxBytes: maxVEX}); err != nil {
		return nil, fmt.Errorf("OpenVEX: %w", err)
	}
	if d.Context != "https://openvex.dev/ns/v0.2.0" || d.ID == "" || d.Author == "" || d.Timestamp == "" || d.Version < 1 {
		return nil, fmt.Errorf("OpenVEX: not a document of version 0.2.0 with an ID, an author, a time and a version")
	}
	for i := range d.Statements {
		s := &d.Statements[i]
		switch {
		case s.Vulnerability.Name == "" || len(s.Products) == 0:
			return nil, fmt.Errorf("OpenVEX: statement %d names no vulnerability or no product", i+1)
		case !slices.Contains(vexStatuses, s.Status):
			return nil, fmt.Errorf("OpenVEX: %s: unknown status %q", s.Vulnerability.Name, s.Status)
		case s.Status == "not_affected" && (!slices.Contains(vexJustifications, s.Justification) || s.ImpactStatement == ""):
			return nil, fmt.Errorf("OpenVEX: %s: not_affected needs a justification of OpenVEX and an impact_statement in words", s.Vulnerability.Name)
		}
		s.used = make([]bool, len(s.Products))
	}
	return &d, nil
}

// apply notes on each vulnerability why it does not count, and returns how many do.
func (d *vexDocument) apply(found []vulnerability) int {
	open := 0
	for i := range found {
		if found[i].Exception = d.exception(&found[i]); found[i].Exception == "" {
			open++
		}
	}
	return open
}

func (d *vexDocument) exception(v *vulnerability) string {
	reason := ""
	for i := range d.Statements {
		s := &d.Statements[i]
		if s.Vulnerability.Name != v.ID && !slices.Contains(v.Aliases, s.Vulnerability.Name) {
			continue
		}
		for j, p := range s.Products {
			if p.ID != v.Product {
				continue
			}
			s.used[j] = true
			// Only a reason not to worry is an exception.
			if s.Status == "not_affected" {
				reason = s.Justification + ": " + s.ImpactStatement
			}
		}
	}
	return reason
}

// unused are the statements that nothing was found for.
func (d *vexDocument) unused() []string {
	var out []string
	for _, s := range d.Statements {
		for j, p := range s.Products {
			if !s.used[j] {
				out = append(out, s.Vulnerability.Name+" for "+p.ID)
			}
		}
	}
	return out
}
