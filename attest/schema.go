package attest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"
)

// Schema is the JSON Schema (draft 2020-12) of evidence and of what is sent
// around it, made from the types that read them. ParseEvidence and the verifier
// know more than it can say: hashes, proofs, and which parts belong together.
func Schema() ([]byte, error) {
	defs := schemaDefs{}
	for _, t := range []reflect.Type{reflect.TypeFor[Evidence](), reflect.TypeFor[Request](), reflect.TypeFor[SignedInvocation](), reflect.TypeFor[Revocations]()} {
		defs.add(t)
	}
	for name, forms := range schemaForms {
		defs[name]["oneOf"] = forms
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", " ")
	err := e.Encode(map[string]any{
		"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": "https://omega.invalid/schema/" + EvidenceVersion,
		"title":       "Evidence of Omega, " + EvidenceVersion,
		"description": "what each field is worth: docs/evidence.md; requests, invocation statements and revocation lists are below $defs",
		"$ref":        "#/$defs/Evidence", "$defs": defs,
	})
	if err != nil {
		return nil, fmt.Errorf("schema: %w", err)
	}
	return b.Bytes(), nil
}

type fact = map[string]any

// schemaDefs are the definitions of a schema, by their Go type's name.
type schemaDefs map[string]fact

// add makes a definition of a struct and of those that it holds.
func (defs schemaDefs) add(t reflect.Type) {
	if defs[t.Name()] != nil {
		return
	}
	properties, required := fact{}, []string{}
	def := fact{"type": "object", "additionalProperties": false, "properties": properties}
	defs[t.Name()] = def
	for i := range t.NumField() {
		tag := t.Field(i).Tag.Get("json")
		name, _, optional := strings.Cut(tag, ",")
		property := defs.of(t.Field(i).Type)
		if most, err := strconv.Atoi(t.Field(i).Tag.Get("most")); err == nil {
			property["maxItems"] = most
		}
		for key, value := range schemaFacts[t.Name()+"."+name] {
			property[key] = value
		}
		properties[name] = property
		if !optional {
			required = append(required, name)
		}
	}
	if len(required) > 0 {
		def["required"] = required
	}
}

// of is the schema of one field.
func (defs schemaDefs) of(t reflect.Type) fact {
	switch t {
	case reflect.TypeFor[Bytes16](), reflect.TypeFor[Bytes32](), reflect.TypeFor[Bytes48](), reflect.TypeFor[Bytes64]():
		return fact{"type": "string", "pattern": fmt.Sprintf("^[0-9a-f]{%d}$", 2*t.Len())}
	case reflect.TypeFor[time.Time]():
		return fact{"type": "string", "format": "date-time"}
	case reflect.TypeFor[[]byte]():
		return fact{"type": []string{"string", "null"}, "contentEncoding": "base64", "pattern": "^([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$"}
	}
	switch t.Kind() {
	case reflect.Pointer:
		return defs.of(t.Elem())
	case reflect.Struct:
		defs.add(t)
		return fact{"$ref": "#/$defs/" + t.Name()}
	case reflect.Slice:
		return fact{"type": []string{"array", "null"}, "items": defs.of(t.Elem())}
	case reflect.Uint32:
		return fact{"type": "integer", "minimum": 0, "maximum": 1<<32 - 1}
	case reflect.Uint64:
		return fact{"type": "integer", "minimum": 0}
	}
	return fact{"type": "string", "maxLength": maxText}
}

// schemaForms are the types of which exactly one form must be there, by the
// fields that it has.
var schemaForms = map[string][]fact{
	"Evidence":  {form("report boot", "platform signature"), form("platform signature", "report certificates boot gpu")},
	"Agent":     {form("hidden", "details instance state name bundle salt identity components"), form("details identity", "hidden instance state name bundle salt"), form("state identity", "hidden details")},
	"Component": {form("hidden", "known kind name digest role principal signatures salt"), form("known", "hidden kind name digest role principal signatures"), form("kind", "hidden known")},
}

// form has these fields, and none of those.
func form(fields, without string) fact {
	var none []fact
	for _, f := range strings.Fields(without) {
		none = append(none, fact{"required": []string{f}})
	}
	return fact{"required": strings.Fields(fields), "not": fact{"anyOf": none}}
}

// base64Length is the length in base64 of n bytes.
func base64Length(n int) int { return (n + 2) / 3 * 4 }

// schemaFacts are what Go's types do not say.
var schemaFacts = map[string]fact{
	"Evidence.version":           {"const": EvidenceVersion},
	"Evidence.report":            {"type": "string", "maxLength": base64Length(maxReport), "description": "the SNP attestation report"},
	"Evidence.certificates":      {"maxLength": base64Length(maxCertificates), "description": "AMD's certificate table"},
	"Evidence.platform":          {"description": "digest of the boot claims that the asker knows, in place of report, certificates and boot"},
	"Evidence.signature":         {"type": "string", "minLength": base64Length(64), "maxLength": base64Length(64), "description": "Ed25519, by the attestation key"},
	"BootClaims.version":         {"const": BootVersion},
	"BootClaims.gpu":             {"description": "absent, refused or ready"},
	"Session.version":            {"const": SessionVersion},
	"Session.checkpoint":         {"maxLength": base64Length(maxCheckpoint), "description": "C2SP signed note"},
	"Agent.state":                {"enum": []string{AgentAdmitted, AgentRunning, AgentExited, AgentFailed, AgentStopped}},
	"Component.known":            {"description": "hash of a component that the asker named, or that stands whole before"},
	"Signature.key":              {"maxLength": base64Length(maxKey), "description": "SubjectPublicKeyInfo, DER"},
	"Signature.payload":          {"maxLength": base64Length(maxStatement), "description": "in-toto statement, or what cosign's older signatures cover"},
	"Signature.sig":              {"maxLength": base64Length(maxSignature), "description": "ECDSA P-256"},
	"GPUEvidence.report":         {"maxLength": base64Length(maxGPUFile), "description": "SPDM measurements"},
	"GPUEvidence.chain":          {"maxLength": base64Length(maxGPUFile), "description": "PEM"},
	"Request.version":            {"const": RequestVersion},
	"Open.instance":              {"minLength": 1},
	"Invocation.version":         {"const": InvocationVersion},
	"Invocation.instance":        {"minLength": 1},
	"Invocation.labels":          {"uniqueItems": true, "description": "sorted"},
	"SignedInvocation.signature": {"description": "Ed25519, by the attestation key"},
	"Revocations.version":        {"const": RevocationVersion},
	"Revocations.serial":         {"minimum": 1},
}
