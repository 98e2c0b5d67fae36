package compile_test

import (
	"strings"
	"testing"

	"omega/policy/compile"
)

// brokered is a policy with one secret, a broker and a server; each may be empty.
func brokered(broker, secret, server string) string {
	return "version: omega/policy/v1\nplatform: demo\nprincipals:\n  - {name: acme, key: keys/acme.pub, roles: [author, tool], names: [\"*\"]}\n" +
		broker + server + "web:\n  - {name: api, hosts: [api.example.com], secrets: [" + secret + "]}\n" +
		"agents:\n  - {name: a, requires: [{role: author, principal: acme}], permits: [{id: get, action: http.request, resource: api}]}\n"
}

func TestAPolicySaysWhereItsSecretsAre(t *testing.T) {
	const broker = "broker: {url: \"https://kbs.example.com:8080\", private: true}\n"
	for name, test := range map[string]struct{ text, want string }{
		"with a broker":             {brokered(broker, `{name: t, header: X-T, resource: "kbs:///default/keys/t"}`, ""), ""},
		"with a broker's key":       {brokered("broker: {url: \"https://kbs.example.com\", key: keys/acme.pub}\n", `{name: t, header: X-T, resource: "kbs:///default/keys/t"}`, ""), ""},
		"without any":               {brokered("", `{name: t, header: X-T}`, ""), ""},
		"a resource without broker": {brokered("", `{name: t, header: X-T, resource: "kbs:///default/keys/t"}`, ""), "names no broker"},
		"a broker without resource": {brokered(broker, `{name: t, header: X-T}`, ""), "say where the broker keeps"},
		"a resource of two parts":   {brokered(broker, `{name: t, header: X-T, resource: "kbs:///keys/t"}`, ""), "want kbs:///"},
		"a resource that climbs":    {brokered(broker, `{name: t, header: X-T, resource: "kbs:///default/../t"}`, ""), "want kbs:///"},
		"one secret in two places": {brokered(broker, `{name: t, header: X-T, resource: "kbs:///default/keys/t"}, {name: t, header: X-U, resource: "kbs:///default/keys/u"}`, ""),
			"elsewhere"},
		"a broker behind a path": {brokered("broker: {url: \"https://kbs.example.com/kbs\"}\n", `{name: t, header: X-T, resource: "kbs:///default/keys/t"}`, ""), "want https://HOST"},
		"a broker without TLS":   {brokered("broker: {url: \"http://kbs.example.com\"}\n", `{name: t, header: X-T, resource: "kbs:///default/keys/t"}`, ""), "https"},
		"a bundle with a secret": {brokered("", `{name: t, header: X-T}`, "servers:\n  - {name: s, bundle: a, principal: acme, secrets: [{name: t, header: X-T}]}\n"), "has no headers"},
	} {
		_, err := compile.Compile([]byte(test.text), "testdata")
		if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
			t.Errorf("%s: %v, want %q", name, err, test.want)
		}
	}
}
