package policy_test

import (
	"strings"
	"testing"
)

func TestAdviceNamesWhatIsSeldomMeant(t *testing.T) {
	d := stateDocument()
	got := strings.Join(d.Advice(), "\n")
	if !strings.Contains(got, "the result of web/pay is untrusted") || strings.Contains(got, "model m") || strings.Count(got, "\n") != 0 {
		t.Errorf("%s", got)
	}
	d.Models[0].Result = nil
	if got := strings.Join(d.Advice(), "\n"); !strings.Contains(got, "answers of model m are untrusted") {
		t.Errorf("%s", got)
	}
	for i := range d.Agents[0].Permits {
		d.Agents[0].Permits[i].Consequential = false
	}
	if got := d.Advice(); len(got) != 0 {
		t.Errorf("without consequences: %q", got)
	}
}
