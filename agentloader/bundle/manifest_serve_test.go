package bundle

import (
	"strings"
	"testing"
)

func TestAnAgentServesOnAPortThatItMayUse(t *testing.T) {
	for name, tt := range map[string]struct {
		serve *Serve
		ok    bool
	}{
		"not at all":            {nil, true},
		"the lowest":            {&Serve{Port: 1024}, true},
		"an ordinary one":       {&Serve{Port: 8000}, true},
		"the highest":           {&Serve{Port: 65535}, true},
		"none":                  {&Serve{}, false},
		"one of root's":         {&Serve{Port: 80}, false},
		"the gateway's":         {&Serve{Port: 3128}, false},
		"no port of TCP":        {&Serve{Port: 65536}, false},
		"asked how it is":       {&Serve{Port: 8000, Health: "/health/live"}, true},
		"asked with a query":    {&Serve{Port: 8000, Health: "/health?x=1"}, false},
		"asked somewhere else":  {&Serve{Port: 8000, Health: "http://x/"}, false},
		"asked through dots":    {&Serve{Port: 8000, Health: "/../x"}, false},
		"one that would become": {&Serve{Port: -1}, false},
	} {
		m := Manifest{Serve: tt.serve}
		if err := m.checkServe(); (err == nil) != tt.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestNoDeploymentIsCalledAsThePlatformCallsWhatItStartsOfOne(t *testing.T) {
	for _, test := range []struct {
		name                 string
		deployment, instance bool
	}{
		{"desk-1", true, true},
		{"desk-1.s1", true, true},
		{"desk-1+s1", false, true},
		{"files-1+desk-1+s1", false, true},
		{"d+0123+", false, true},
		{"+s1", false, false},
		{"desk/1", false, false},
		{"", false, false},
		{strings.Repeat("d", 64), false, false},
	} {
		if ValidName(test.name) != test.deployment || ValidInstance(test.name) != test.instance {
			t.Errorf("%q: a deployment's name %v, an instance's %v", test.name, ValidName(test.name), ValidInstance(test.name))
		}
	}
}
