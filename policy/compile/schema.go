package compile

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"

	"omega/policy"
)

// Schema is the JSON Schema (draft 2020-12) of a policy's YAML, for editors.
// `omega policy check` knows more than it can say: references between fields,
// keys, and what a constraint means.
func Schema() ([]byte, error) {
	s := &schemas{defs: map[string]any{}}
	root := s.of(reflect.TypeFor[sourceDocument]())
	out := map[string]any{
		"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "Omega agent policy, " + policy.Version,
		"$ref": root["$ref"], "$defs": s.defs,
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", " ")
	if err := e.Encode(out); err != nil {
		return nil, fmt.Errorf("policy schema: %w", err)
	}
	return b.Bytes(), nil
}

type schemas struct{ defs map[string]any }

// of is the schema of a Go type; structs become definitions.
func (s *schemas) of(t reflect.Type) map[string]any {
	switch t.Kind() {
	case reflect.Pointer:
		return s.of(t.Elem())
	case reflect.Struct:
		return s.object(t)
	case reflect.Slice:
		return map[string]any{"type": "array", "items": s.of(t.Elem())}
	case reflect.Map:
		return map[string]any{"type": "object", "additionalProperties": s.of(t.Elem())}
	case reflect.String:
		return map[string]any{"type": "string"}
	case reflect.Bool:
		return map[string]any{"type": "boolean"}
	case reflect.Int:
		return map[string]any{"type": "integer"}
	case reflect.Float64:
		return map[string]any{"type": "number"}
	}
	return map[string]any{"type": []any{"string", "number", "boolean"}}
}

func (s *schemas) object(t reflect.Type) map[string]any {
	name := strings.TrimPrefix(t.Name(), "source")
	ref := map[string]any{"$ref": "#/$defs/" + name}
	if _, done := s.defs[name]; done {
		return ref
	}
	props := map[string]any{}
	def := map[string]any{"type": "object", "additionalProperties": false, "properties": props}
	s.defs[name] = def
	for i := range t.NumField() {
		field, _, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
		of := s.of(t.Field(i).Type)
		for key, value := range facts[name+"."+field] {
			if items, ok := of["items"].(map[string]any); ok && key != "description" && key != "minItems" {
				items[key] = value
				continue
			}
			of[key] = value
		}
		props[field] = of
	}
	if list := needed[name]; len(list) > 0 {
		def["required"] = list
	}
	return ref
}

// needed are the fields that cannot be left out.
var needed = map[string][]string{
	"Document": {"version", "platform", "agents"}, "Principal": {"name", "roles", "names"}, "Auditor": {"name", "key"},
	"Server": {"name", "principal"}, "Broker": {"url"}, "Model": {"name", "max_tokens"}, "Price": {"input", "output"}, "Secret": {"name", "header"},
	"Web": {"name", "hosts"}, "Peer": {"name"}, "Dataset": {"name"}, "AgentRule": {"name", "requires"}, "Requirement": {"role", "principal"},
	"Permit": {"id", "action"}, "Rate": {"calls", "seconds"}, "URLForm": {"hosts"}, "AddressForm": {"domains"},
}

type fact = map[string]any

func says(text string) fact { return fact{"description": text} }

func oneOf(text string, values ...string) fact { return fact{"description": text, "enum": values} }

func actionNames() []string {
	var out []string
	for _, a := range policy.Actions {
		out = append(out, a.Name)
	}
	return out
}

// facts are what Go's types do not say.
var facts = map[string]fact{
	"Document.version":   {"const": policy.Version},
	"Document.platform":  says("the set of machines that this policy governs; deployments name it as their audience"),
	"Document.gpu":       oneOf("required, or left out", "required"),
	"Document.rego":      says("files with package omega.custom, whose rules permits can name as conditions"),
	"Principal.key":      says("file with a PEM public key, ECDSA P-256, or the PEM text itself"),
	"Principal.roles":    oneOf("what it can speak as", policy.RoleAuthor, policy.RoleTool, policy.RoleModel, policy.RoleAdapter, policy.RoleData, policy.RoleEngine, policy.RoleOperator, policy.RoleDeployer, policy.RoleApprover, policy.RoleRevoker),
	"Principal.names":    says("globs of the components that it may sign"),
	"Caller.input":       says("what its requests are; what the agent's rule says if left out, and untrusted of anybody"),
	"Auditor.key":        says("X25519 public key: PEM file, hex file or 64 hex digits"),
	"Broker.url":         says("https://HOST[:PORT] of the key broker that has the secrets"),
	"Broker.key":         says("file with the PEM public key of its certificate, in the place of the web's PKI"),
	"Secret.resource":    says("kbs:///REPOSITORY/TYPE/TAG, where the broker has the value"),
	"Server.principal":   says("signs the descriptors of its tools"),
	"Server.private":     says("its address may be a private one"),
	"Server.bundle":      says("an agent of this policy that speaks MCP over stdio in a sandbox, in the place of url"),
	"Server.readers":     says("who reads what is sent to it; anybody if left out"),
	"Model.url":          says("up to and with /v1"),
	"Model.engine":       says("an agent of this policy that is an inference engine on the platform, in the place of url"),
	"Web.hosts":          says("names, or *.suffix for every name below it"),
	"Web.opaque":         says("TLS may pass unopened, by http.connect"),
	"Web.plain":          says("http without TLS is allowed"),
	"Peer.card":          says("hex SHA-256 of its canonical agent card"),
	"Peer.attested":      says("an agent of another platform, at https://HOST/peer/a2a/AGENT, which evidence vouches for"),
	"Result.integrity":   oneOf("untrusted if left out", policy.Trusted, policy.Untrusted),
	"Result.readers":     says("the only ones who may read it; everybody if left out"),
	"Result.endorses":    says("its values endorse arguments even when untrusted text asked for them"),
	"AgentRule.sessions": oneOf("a sandbox for each session", "clean"),
	"AgentRule.combine":  says("the only principals whose components the agent may have"),
	"AgentRule.input":    says("what a caller's request is; trusted if left out"),
	"AgentRule.budgets":  says("tokens, cost, bytes, or names that constraints charge"),

	"Permit.action":         oneOf("what is permitted", actionNames()...),
	"Permit.resource":       says("SERVER/TOOL, SERVER, MODEL, PEER, WEB or DATA, as the action has it"),
	"Permit.args":           says("arguments that are not named are denied, unless more_args"),
	"Permit.limit":          says("calls for each instance of the agent"),
	"Permit.consequential":  says("needs trusted influence, or endorsed arguments"),
	"Permit.endorse":        says("arguments that must equal values of trusted sources once the agent has read something untrusted"),
	"Permit.recipients":     says("arguments that name who reads what is sent"),
	"Permit.approval":       says("the principal that must approve each call"),
	"Permit.approval_wait":  says("seconds that a call is held until it is approved; denied at once if left out, to be made again"),
	"Permit.narrows":        says("rules that the instance loses by using this one"),
	"Permit.instead":        says("what a denied agent is told to do"),
	"Window.days":           oneOf("", "mon", "tue", "wed", "thu", "fri", "sat", "sun"),
	"Window.from":           {"description": "HH:MM in UTC, included", "pattern": "^([01][0-9]|2[0-3]):[0-5][0-9]$"},
	"Window.until":          {"description": "HH:MM in UTC, excluded", "pattern": "^(([01][0-9]|2[0-3]):[0-5][0-9]|24:00)$"},
	"Window.after":          {"format": "date-time"},
	"Window.before":         {"format": "date-time"},
	"Constraint.type":       oneOf("", "string", "number", "integer", "boolean", "array", "object"),
	"Constraint.pattern":    says("RE2; must match the whole text"),
	"Constraint.prefix":     says("a folder; the path must lie in it, without .. or escapes"),
	"Constraint.recipients": says("each of a list, or of a text with commas, is one of these: names, addresses or *@domain"),
	"Constraint.budget":     says("the number, or the sum of the array, is charged to this budget"),
	"URLForm.schemes":       oneOf("https if left out", "https", "http"),
}
