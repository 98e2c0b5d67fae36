package compile

import (
	"bytes"
	"encoding/hex"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"omega/policy"
)

// compiled keeps what tests compiled: a policy takes a good second.
var compiled sync.Map

func mustCompile(t testing.TB, file string) *Output {
	t.Helper()
	if out, ok := compiled.Load(file); ok {
		return out.(*Output)
	}
	out, err := File(file)
	if err != nil {
		t.Fatal(err)
	}
	compiled.Store(file, out)
	return out
}

// The digest is measured into the image: a change here is a change of what
// every verifier expects, and must be meant.
const demoDigest = "61390bb92c84e436f1dd4503f4c5d3896cb91351aeae5f70a8e4bc9494f63815"

func TestTheSamePolicyGivesTheSameBytesEverywhere(t *testing.T) {
	one := mustCompile(t, "testdata/demo.yaml")
	two, err := File("testdata/demo.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(one.Wasm, two.Wasm) || !bytes.Equal(one.JSON, two.JSON) || one.Digest != two.Digest {
		t.Error("two compilations differ")
	}
	if got := hex.EncodeToString(one.Digest[:]); got != demoDigest {
		t.Errorf("digest %s, want %s", got, demoDigest)
	}
	text, err := os.ReadFile("testdata/demo.yaml")
	if err != nil {
		t.Fatal(err)
	}
	three, err := Compile(text, "testdata")
	if err != nil || three.Digest != one.Digest {
		t.Errorf("Compile gives digest %x (%v), File %x", three.Digest, err, one.Digest)
	}
}

func TestRegoIsWhatAPersonReviewed(t *testing.T) {
	want, err := os.ReadFile("testdata/demo.rego")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(mustCompile(t, "testdata/demo.yaml").Rego)); diff != "" {
		t.Errorf("generated Rego differs from testdata/demo.rego (-reviewed +generated):\n%s", diff)
	}
}

var quoted = regexp.MustCompile(`"[^"]*"`)

func TestNoPermitDependsOnANegation(t *testing.T) {
	for _, file := range []string{"testdata/demo.yaml", "testdata/rich.yaml"} {
		rule := ""
		for line := range strings.Lines(string(mustCompile(t, file).Rego)) {
			if line[0] != '\t' && line[0] != '}' && line[0] != '\n' {
				rule = line
			}
			explains := strings.HasPrefix(rule, "why") || strings.HasPrefix(rule, "advice")
			code := quoted.ReplaceAllString(" "+strings.TrimSpace(line), "")
			if strings.Contains(code, " not ") && !explains && !strings.HasPrefix(line, "#") {
				t.Errorf("%s: negation outside of reasons, in %s", file, rule)
			}
		}
	}
}

func TestDocumentSurvivesItsJSON(t *testing.T) {
	for _, file := range []string{"testdata/demo.yaml", "testdata/rich.yaml"} {
		out := mustCompile(t, file)
		doc, err := policy.ParseJSON(out.JSON)
		if err != nil {
			t.Fatal(err)
		}
		again, err := doc.Marshal()
		if err != nil || !bytes.Equal(again, out.JSON) {
			t.Errorf("%s: JSON changed on a round trip: %v", file, err)
		}
	}
}

func TestPolicyWithoutAgentsDeniesEverything(t *testing.T) {
	if _, err := Compile([]byte("version: omega/policy/v1\nplatform: p\n"), t.TempDir()); err != nil {
		t.Error(err)
	}
}

const head = "version: omega/policy/v1\nplatform: demo\n"

// agent is a policy that is right but for the permits appended to it.
const agent = head + `principals:
  - {name: acme, key: keys/acme.pub, roles: [author, tool], names: ["*"]}
servers:
  - {name: s, url: "https://s.example/mcp", principal: acme}
models:
  - {name: m, url: "https://m.example/v1", max_tokens: 5}
agents:
  - name: a
    requires: [{role: author, principal: acme}]
    permits:
`

func TestFaultsNameTheirPlace(t *testing.T) {
	tests := []struct{ name, yaml, want string }{
		{"empty", "", "policy.yaml:1:1: policy is empty"},
		{"broken yaml", "version: [\n", "policy.yaml:1:1: yaml:"},
		{"not a mapping", "- a\n", "policy.yaml:1:1: want a mapping"},
		{"wrong version", "version: v2\nplatform: p\n", `policy.yaml:1:10: version: "v2"`},
		{"unknown field", head + "serverz: []\n", `policy.yaml:3:1: unknown field "serverz"`},
		{"case matters", head + "Servers: []\n", `policy.yaml:3:1: unknown field "Servers"`},
		{"duplicate key", head + "platform: x\n", `policy.yaml:3:1: "platform" is given twice`},
		{"anchor", "version: &a omega/policy/v1\nplatform: demo\n", "policy.yaml:1:10: version: anchors"},
		{"alias", head + "principals: &p []\nservers: *p\n", "anchors and aliases are not read"},
		{"merge key", head + "agents:\n  - <<: {name: a}\n", `policy.yaml:4:5: "<<" is not a name`},
		{"tag", "version: !!str omega/policy/v1\nplatform: demo\n", "policy.yaml:1:10: version: tags are not read"},
		{"second document", head + "---\n" + head, "policy.yaml:3:1: a second document"},
		{"number for text", "version: omega/policy/v1\nplatform: 12\n", "policy.yaml:2:11: platform: want text; put 12 in quotes"},
		{"no value", head + "principals:\n", "policy.yaml:3:12: principals: has no value"},
		{"a list where a mapping is due", head + "principals: [[]]\n", "policy.yaml:3:14: principals[0]: want a mapping"},
		{"missing key file", head + "principals:\n  - {name: x, key: nowhere.pub, roles: [author], names: ['*']}\n", "policy.yaml:4:20: principals[0].key: key: stat"},
		{"no key", head + "principals:\n  - {name: x, roles: [author], names: ['*']}\n", "policy.yaml:4:5: principals[0].keys: no key"},
		{"same key twice", head + "principals:\n  - {name: x, keys: [keys/acme.pub, keys/acme.pub], threshold: 2, roles: [author], names: ['*']}\n", "would count twice"},
		{"threshold zero", head + "principals:\n  - {name: x, key: keys/acme.pub, threshold: 0, roles: [author], names: ['*']}\n", "policy.yaml:4:46: principals[0].threshold: 0 of 1"},
		{"unknown role", head + "principals:\n  - {name: x, key: keys/acme.pub, roles: [king], names: ['*']}\n", `policy.yaml:4:43: principals[0].roles[0]: "king"`},
		{"wrong key type", head + "principals:\n  - {name: x, key: keys/auditor.pub, roles: [author], names: ['*']}\n", "not ECDSA P-256"},
		{"auditor with an EC key", head + "auditors:\n  - {name: x, key: keys/acme.pub}\n", "not X25519"},
		{"http server", head + "principals:\n  - {name: x, key: keys/acme.pub, roles: [tool], names: ['*']}\nservers:\n  - {name: s, url: 'http://s/', principal: x}\n", "policy.yaml:6:20: servers[0].url:"},
		{"signer without the role", head + "principals:\n  - {name: x, key: keys/acme.pub, roles: [author], names: ['*']}\nservers:\n  - {name: s, url: 'https://s/', principal: x}\n", `does not have the role "tool"`},
		{"unknown action", agent + "      - {id: p, action: mcp.tools/cal, resource: s/x}\n", `policy.yaml:13:25: agents[0].permits[0].action`},
		{"unknown server", agent + "      - {id: p, action: mcp.tools/call, resource: q/x}\n", `policy.yaml:13:51: agents[0].permits[0].resource: no server is named "q"`},
		{"rule named twice", agent + "      - {id: p, action: mcp.tools/call, resource: s/x}\n      - {id: p, action: mcp.tools/call, resource: s/y}\n", `policy.yaml:14:14: agents[0].permits[1].id: "p" is named twice`},
		{"a rule of ours", agent + "      - {id: invoke, action: mcp.tools/call, resource: s/x}\n", `policy.yaml:13:14: agents[0].permits[0].id: "invoke" is the rule of callers' requests`},
		{"misspelt constraint", agent + "      - {id: p, action: mcp.tools/call, resource: s/x, args: {v: {prefx: /a}}}\n", `policy.yaml:13:67: unknown field "prefx"`},
		{"empty constraint", agent + "      - {id: p, action: mcp.tools/call, resource: s/x, args: {v: {}}}\n", "constrains nothing"},
		{"bad pattern", agent + "      - {id: p, action: mcp.tools/call, resource: s/x, args: {v: {pattern: '(?=x)'}}}\n", "policy.yaml:13:76: agents[0].permits[0].args.v.pattern"},
		{"prefix with dots", agent + "      - {id: p, action: mcp.tools/call, resource: s/x, args: {v: {prefix: /a/../b}}}\n", "is not a plain folder"},
		{"bound of the wrong kind", agent + "      - {id: p, action: mcp.tools/call, resource: s/x, args: {v: {type: string, max: 3}}}\n", `does not apply to type "string"`},
		{"nothing fits", agent + "      - {id: p, action: mcp.tools/call, resource: s/x, args: {v: {min: 3, max: 2}}}\n", "so nothing fits"},
		{"object without fields", agent + "      - {id: p, action: mcp.tools/call, resource: s/x, args: {v: {type: object}}}\n", "an object needs fields"},
		{"array without each", agent + "      - {id: p, action: mcp.tools/call, resource: s/x, args: {v: {any: {equals: 1}}}}\n", "an array needs each"},
		{"octal number", agent + "      - {id: p, action: mcp.tools/call, resource: s/x, limit: 010}\n", "policy.yaml:13:63: agents[0].permits[0].limit: want a whole number"},
		{"yes is text", agent + "      - {id: p, action: mcp.tools/call, resource: s/x, args: {v: {type: string, optional: yes}}}\n", "want true or false"},
		{"infinite", agent + "      - {id: p, action: mcp.tools/call, resource: s/x, args: {v: {max: .inf}}}\n", "want a number"},
		{"unknown chat argument", agent + "      - {id: p, action: llm.chat, resource: m, args: {prompt: {type: string}}}\n", "llm.chat has no such argument"},
		{"two kinds of resource", agent + "      - {id: p, action: mcp.tools/call, resource: s/x, resources: [s/y]}\n", "policy.yaml:13:51: agents[0].permits[0].resource: give resource or resources"},
		{"resource twice", agent + "      - {id: p, action: mcp.tools/call, resources: [s/x, s/x]}\n", `policy.yaml:13:58: agents[0].permits[0].resources[1]: "s/x" is named twice`},
		{"endless rate", agent + "      - {id: p, action: mcp.tools/call, resource: s/x, rate: {calls: 0, seconds: 60}}\n", "policy.yaml:13:62: agents[0].permits[0].rate: 0 calls"},
		{"budget below zero", agent + "      - {id: p, action: mcp.tools/call, resource: s/x, budgets: {money: -1}}\n", "policy.yaml:13:73: agents[0].permits[0].budgets.money"},
		{"budget without a limit", agent + "      - {id: p, action: mcp.tools/call, resource: s/x, args: {v: {type: number, budget: money}}}\n", `agents[0].permits[0].args.v.budget: neither the agent nor the permit has a budget "money"`},
		{"budget deep inside", agent + "      - {id: p, action: mcp.tools/call, resource: s/x, budgets: {m: 1}, args: {v: {type: array, each: {type: number, budget: m}}}}\n", "only an argument itself can be charged"},
		{"no time", agent + "      - {id: p, action: mcp.tools/call, resource: s/x, when: [{}]}\n", "policy.yaml:13:63: agents[0].permits[0].when[0]: names no time"},
		{"no such day", agent + "      - {id: p, action: mcp.tools/call, resource: s/x, when: [{days: [monday]}]}\n", `"monday" is no day`},
		{"no clock", agent + "      - {id: p, action: mcp.tools/call, resource: s/x, when: [{from: '8'}]}\n", "is not HH:MM"},
		{"no date", agent + "      - {id: p, action: mcp.tools/call, resource: s/x, when: [{after: '2026-13-01'}]}\n", "is not a time like"},
		{"endorsing what has no consequence", agent + "      - {id: p, action: mcp.tools/call, resource: s/x, args: {to: {type: string}}, endorse: [to]}\n", "only what is consequential needs endorsement"},
		{"endorsing what is not there", agent + "      - {id: p, action: mcp.tools/call, resource: s/x, consequential: true, endorse: [to]}\n", `policy.yaml:13:87: agents[0].permits[0].endorse[0]: the permit has no argument "to"`},
		{"recipients that are not there", agent + "      - {id: p, action: mcp.tools/call, resource: s/x, recipients: [to]}\n", `the permit has no argument "to"`},
		{"no reader", agent + "      - {id: p, action: mcp.tools/call, resource: s/x, readers: ['a,b']}\n", `"a,b" is no reader`},
		{"half an integrity", agent + "      - {id: p, action: mcp.tools/call, resource: s/x, result: {integrity: maybe}}\n", `"maybe", want trusted or untrusted`},
		{"an untrusted source that endorses", agent + "      - {id: p, action: mcp.tools/call, resource: s/x, result: {endorses: true}}\n", "only a trusted source endorses"},
		{"nobody approves", agent + "      - {id: p, action: mcp.tools/call, resource: s/x, approval: acme}\n", `principal "acme" does not have the role "approver"`},
		{"narrowing nothing", agent + "      - {id: p, action: mcp.tools/call, resource: s/x, narrows: [q]}\n", `agent a has no permit "q"`},
		{"a condition without rego", agent + "      - {id: p, action: mcp.tools/call, resource: s/x, conditions: [q]}\n", `"q" is no rule of a module`},
		{"an unknown condition", "rego: [extra.rego]\n" + agent + "      - {id: p, action: mcp.tools/call, resource: s/x, conditions: [q]}\n", `policy.yaml:14:69: agents[0].permits[0].conditions[0]: no module has a rule "q"`},
		{"rego that is missing", head + "rego: [nowhere.rego]\n", "policy.yaml:3:8: rego[0]: stat"},
		{"host with a scheme", agent + "      - {id: p, action: mcp.tools/call, resource: s/x, args: {v: {url: {hosts: ['https://a']}}}}\n", "neither a host name in lower case nor *.suffix"},
		{"no host", agent + "      - {id: p, action: mcp.tools/call, resource: s/x, args: {v: {url: {prefix: /a}}}}\n", "no host"},
		{"another scheme", agent + "      - {id: p, action: mcp.tools/call, resource: s/x, args: {v: {url: {hosts: [a], schemes: [file]}}}}\n", `"file", want https or http`},
		{"a recipient with a name", agent + "      - {id: p, action: mcp.tools/call, resource: s/x, args: {v: {recipients: ['Bo <bo@a.b>']}}}\n", "neither a name, an address nor *@domain"},
		{"opaque by accident", "web:\n  - {name: w, hosts: [a.example]}\n" + agent + "      - {id: p, action: http.connect, resource: w}\n", `"w" is not opaque`},
		{"a peer of two kinds", "peers:\n  - {name: p, agent: a, url: 'https://x/'}\n" + agent + "      []\n", "or a url, card or key stands beside it"},
		{"a secret that breaks messages", "web:\n  - {name: w, hosts: [a.example], secrets: [{name: k, header: Content-Length}]}\n" + agent + "      []\n", `"Content-Length" is no header of its own`},
		{"combined with nobody", strings.Replace(agent, "    permits:", "    combine: [nobody]\n    permits:", 1) + "      []\n", `agents[0].combine[0]: no principal is named "nobody"`},
		{"nobody signs", head + "agents:\n  - {name: a, requires: [], permits: []}\n", "no signature of the bundle"},
		{"only a tool provider signs", strings.Replace(agent, "role: author", "role: tool", 1) + "      []\n", "no signature of the bundle"},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			_, err := Compile([]byte(tc.yaml), "testdata")
			if err == nil {
				t.Fatal("compiled")
			}
			if want := strings.Replace(tc.want, "policy.yaml", filepath.Join("testdata", "policy.yaml"), 1); !strings.Contains(err.Error(), want) {
				t.Errorf("got\n%v\nwant a fault with\n%s", err, want)
			}
		})
	}
}

func FuzzReadPolicy(f *testing.F) {
	for _, file := range []string{"testdata/demo.yaml", "testdata/rich.yaml"} {
		b, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		doc, err := source{file: "policy.yaml", dir: "testdata"}.read(b)
		if err != nil {
			return
		}
		js, err := doc.Marshal()
		if err != nil {
			t.Fatalf("valid document without JSON: %v", err)
		}
		if _, err := policy.ParseJSON(js); err != nil {
			t.Fatalf("own JSON refused: %v", err)
		}
	})
}
