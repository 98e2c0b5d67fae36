package sandbox

import (
	"encoding/json"
	"strings"
	"testing"
)

const goodPlan = `{"root":"/run/x/root","files":[{"path":"/models/m","source":"/run/f"}],"devices":[],"command":["/.omega/shim","--","/a"],"env":[],"dir":"/","hostname":"a","uid":100001,"scratch":1,"tasks":1,"ports":[3128]}`

func TestAPlanThatLeadsElsewhereIsRefused(t *testing.T) {
	if _, err := ParsePlan([]byte(goodPlan)); err != nil {
		t.Fatalf("as it is: %v", err)
	}
	for name, change := range map[string][2]string{
		"a root that is relative":      {"/run/x/root", "run"},
		"a file outside of its folder": {"/models/m", "/models/../etc/m"},
		"a file in no folder":          {"/models/m", "/m"},
		"a file two folders down":      {"/models/m", "/a/b/m"},
		"a source that is relative":    {"/run/f", "f"},
		"the user of another process":  {"100001", "106"},
		"root":                         {"100001", "0"},
		"no command":                   {`["/.omega/shim","--","/a"]`, `[]`},
		"no bound for processes":       {`"tasks":1`, `"tasks":0`},
		"no bound for scratch":         {`"scratch":1`, `"scratch":0`},
		"a field that nobody knows":    {`"env":[]`, `"env":[],"user":1`},
		"something behind it":          {`[3128]}`, `[3128]}{}`},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := ParsePlan([]byte(strings.Replace(goodPlan, change[0], change[1], 1))); err == nil {
				t.Error("accepted")
			}
		})
	}
}

func FuzzParsePlan(f *testing.F) {
	f.Add([]byte(goodPlan))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := ParsePlan(b)
		if err != nil {
			return
		}
		again, err := json.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ParsePlan(again); err != nil {
			t.Errorf("its own form is refused: %v", err)
		}
	})
}
