package main

import (
	"bytes"
	_ "embed"
	"fmt"
	"html/template"
	"os"
	"path/filepath"
	"strings"
	"time"

	"omega/attest"
)

//go:embed verify.html
var pageTemplate string

// pageView is what the page's template sees.
type pageView struct {
	*verification
	At      time.Time
	Reason  string // why it is refused
	Picture *picture
	Groups  []pageGroup
}

// pageGroup is the checks of one outcome.
type pageGroup struct {
	Status, Title string
	Checks        []attest.Check
}

// writePage writes the outcome as one HTML page that needs nothing else. It
// replaces the file as a whole, so that no page of an earlier run is left to
// be taken for this one; v is nil where there was nothing to appraise.
func writePage(path, source string, v *verification, refusal error, at time.Time) error {
	if v == nil {
		v = &verification{Source: source, Verdict: attest.VerdictRefused}
	}
	page := pageView{verification: v, At: at.UTC(), Picture: v.draw()}
	if refusal != nil {
		page.Reason = refusal.Error()
	}
	for _, g := range []pageGroup{
		{Status: attest.Failed, Title: "Failed"}, {Status: attest.Proven, Title: "Proven"}, {Status: attest.NotProven, Title: "Not proven"},
	} {
		for _, c := range v.Checks {
			if c.Status == g.Status {
				g.Checks = append(g.Checks, c)
			}
		}
		if len(g.Checks) > 0 {
			page.Groups = append(page.Groups, g)
		}
	}
	t, err := template.New("page").Funcs(template.FuncMap{"clean": clean, "upper": strings.ToUpper}).Parse(pageTemplate)
	if err != nil {
		return fmt.Errorf("HTML page: %w", err)
	}
	var out bytes.Buffer
	if err := t.Execute(&out, page); err != nil {
		return fmt.Errorf("HTML page: %w", err)
	}
	return replaceFile(path, out.Bytes())
}

// replaceFile puts b at path in one step.
func replaceFile(path string, b []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".omega-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(b)
	if err == nil {
		err = f.Chmod(0o644)
	}
	if closed := f.Close(); err == nil {
		err = closed
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	return err
}
