package compile_test

import (
	"strings"
	"testing"

	"omega/policy/compile"
)

func TestAPolicySaysWhatADataSetIs(t *testing.T) {
	const sum = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	for name, test := range map[string]struct{ set, action, want string }{
		"on a server":          {`url: "https://d.example.com/x"`, "data.read", ""},
		"with pinned files":    {`url: "https://d.example.com/x", files: {a/b.csv: ` + sum + `}`, "data.read", ""},
		"of this boot":         {`readers: [alice]`, "data.write", ""},
		"files without server": {`files: {a: ` + sum + `}`, "data.read", "without a url"},
		"a secret for nobody":  {`secrets: [{name: t, header: X-T}]`, "data.read", "without a url"},
		"no digest":            {`url: "https://d.example.com/x", files: {a: abc}`, "data.read", "64 lowercase hex"},
		"a path that climbs":   {`url: "https://d.example.com/x", files: {../a: ` + sum + `}`, "data.read", "plain path"},
		"pinned and written":   {`url: "https://d.example.com/x", files: {a: ` + sum + `}`, "data.write", "writes to it"},
		"a server without TLS": {`url: "http://d.example.com/x"`, "data.read", "https"},
		"a URL with a slash":   {`url: "https://d.example.com/x/"`, "data.read", "slash"},
	} {
		text := "version: omega/policy/v1\nplatform: demo\nprincipals:\n  - {name: acme, key: keys/acme.pub, roles: [author], names: [\"*\"]}\n" +
			"data:\n  - {name: d, " + test.set + "}\nagents:\n  - {name: a, requires: [{role: author, principal: acme}], permits: [{id: p, action: " + test.action + ", resource: d}]}\n"
		_, err := compile.Compile([]byte(text), "testdata")
		if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
			t.Errorf("%s: %v, want %q", name, err, test.want)
		}
	}
}
