package main

import (
	"bytes"
	"context"
	"encoding/json"
	"reflect"
	"strings"

	"omega/agentloader/bundle"
)

// runBundleSchema prints the JSON Schema of agent.json.
func runBundleSchema(_ context.Context, e *env, args []string) error {
	fs := e.flags("bundle")
	if err := fs.Parse(args); err != nil {
		return err
	}
	b, err := manifestSchema()
	if err != nil {
		return err
	}
	_, err = e.Stdout.Write(b)
	return err
}

// manifestSchema is made of the Go types that read agent.json, so that both say the same. What a schema
// cannot say (names that come twice, what excludes what) ParseManifest still checks.
func manifestSchema() ([]byte, error) {
	s := &manifestSchemas{defs: map[string]any{}}
	root := s.of(reflect.TypeFor[bundle.Manifest]())
	b := new(bytes.Buffer)
	enc := json.NewEncoder(b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", " ")
	err := enc.Encode(map[string]any{
		"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "Omega agent manifest, " + bundle.VersionManifest,
		"$ref": root["$ref"], "$defs": s.defs,
	})
	return b.Bytes(), err
}

type manifestSchemas struct{ defs map[string]any }

func (s *manifestSchemas) of(t reflect.Type) map[string]any {
	switch {
	case t == reflect.TypeFor[bundle.Digest]():
		return map[string]any{"type": "string", "pattern": "^sha256:[0-9a-f]{64}$"}
	case t == reflect.TypeFor[json.RawMessage]():
		return map[string]any{"type": "object"}
	}
	switch t.Kind() {
	case reflect.Pointer: // null stands for what is not there
		return map[string]any{"anyOf": []any{s.of(t.Elem()), map[string]any{"type": "null"}}}
	case reflect.Struct:
		return s.object(t)
	case reflect.Slice:
		return map[string]any{"type": []any{"array", "null"}, "items": s.of(t.Elem())}
	case reflect.Map:
		return map[string]any{"type": []any{"object", "null"}, "additionalProperties": s.of(t.Elem())}
	case reflect.Bool:
		return map[string]any{"type": "boolean"}
	case reflect.Int, reflect.Int64:
		return map[string]any{"type": "integer"}
	}
	return map[string]any{"type": "string"}
}

func (s *manifestSchemas) object(t reflect.Type) map[string]any {
	ref := map[string]any{"$ref": "#/$defs/" + t.Name()}
	if _, done := s.defs[t.Name()]; done {
		return ref
	}
	props, required := map[string]any{}, []string{}
	def := map[string]any{"type": "object", "additionalProperties": false, "properties": props}
	s.defs[t.Name()] = def
	for i := range t.NumField() {
		f := t.Field(i)
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		of := s.of(f.Type)
		for key, value := range manifestFacts[t.Name()+"."+name] {
			of[key] = value
		}
		props[name] = of
		if mandatory[t.Name()+"."+name] || t != reflect.TypeFor[bundle.Manifest]() && t != reflect.TypeFor[bundle.Limits]() && options == "" {
			required = append(required, name)
		}
	}
	if len(required) > 0 {
		def["required"] = required
	}
	return ref
}

// mandatory are the fields of the manifest itself that nobody fills in.
var mandatory = map[string]bool{"Manifest.version": true, "Manifest.name": true, "Manifest.image": true, "Manifest.command": true}

const schemaName = `^[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?$`

// manifestFacts are what Go's types do not say.
var manifestFacts = map[string]map[string]any{
	"Manifest.version":    {"const": bundle.VersionManifest},
	"Manifest.name":       {"pattern": schemaName, "description": "the name that the policy's agent rule has"},
	"Manifest.image":      {"description": "the OCI image's manifest; `omega bundle pack` fills it in"},
	"Manifest.command":    {"type": "array", "minItems": 1, "maxItems": 64, "description": "the program and its words"},
	"Manifest.env":        {"description": "above the image's own variables, below the platform's"},
	"Manifest.tools":      {"maxItems": 64, "description": "MCP servers of the policy, with their pinned tool descriptors"},
	"Manifest.models":     {"maxItems": 64, "description": "models of the policy, behind the gateway"},
	"Manifest.model":      {"description": "a model file of the agent's own, under /models"},
	"Manifest.adapters":   {"description": "adapters of that model, under /adapters"},
	"Manifest.data":       {"description": "data sets, under /data"},
	"Manifest.peers":      {"description": "peers of the policy, each with its bundle or the key that signs it"},
	"Manifest.card":       {"description": "the A2A agent card that the agent serves"},
	"Manifest.serve":      {"description": "the agent answers requests"},
	"Manifest.server":     {"description": "the bundle is an MCP server over stdio"},
	"Manifest.restart":    {"description": "left out: an agent that ended stays ended"},
	"Manifest.warm":       {"description": "sandboxes that wait for it"},
	"Manifest.engine":     {"description": "the bundle is an inference engine, and runs confined without gVisor"},
	"Manifest.inference":  {"description": "the engine behind the agent's models; model and adapters are then what it applies"},
	"Engine.adapter_args": {"maxItems": 64, "description": "words that follow the command for each adapter; {path} and {name} are its own"},
	"Engine.processes":    {"minimum": 0, "maximum": 64, "description": "at most at once, one for each set of adapters; 0 is one"},
	"Engine.gpu":          {"description": "it has the machine's GPU, and no other engine beside it"},
	"Inference.engine":    {"pattern": schemaName, "description": "the agent of the policy that is the engine"},
	"Inference.bundle":    {"description": "digest of the bundle that must run there"},
	"Limits.memory_bytes": {"minimum": 0},
	"Limits.cpu_millis":   {"minimum": 0},
	"Limits.processes":    {"minimum": 0},

	"Limits.io_bytes_per_second": {"minimum": 0, "maximum": 1 << 40},

	"Restart.when":        {"enum": []string{bundle.RestartFailure, bundle.RestartAlways}},
	"Restart.max":         {"minimum": 1, "maximum": 1000},
	"File.name":           {"pattern": schemaName},
	"File.digest":         {"description": "of the artifact that its principal signs"},
	"File.size":           {"minimum": 1},
	"File.root":           {"description": "verity root: SHA-256, blocks of 4096 bytes, no salt"},
	"Tool.server":         {"pattern": schemaName},
	"Serve.port":          {"minimum": 1024, "maximum": 65535},
	"MCPServer.transport": {"const": bundle.TransportStdio},
}
