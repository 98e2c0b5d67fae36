package images

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"regexp"
	"strings"

	"omega/internal/strictjson"
)

// addBill writes the lists of what is inside, and the notices, into the output
// folder.
func (a *Artifacts) addBill(b *bill) error {
	for _, f := range []struct {
		subject, path string
		write         func() ([]byte, error)
	}{
		{"sbom.spdx", a.SPDX, b.spdx},
		{"sbom.cyclonedx", a.CycloneDX, b.cycloneDX},
		{"notices", a.Notices, func() ([]byte, error) { return b.notices(), nil }},
	} {
		text, err := f.write()
		if err != nil {
			return fmt.Errorf("SBOM: %w", err)
		}
		if err := a.put(f.subject, f.path, text); err != nil {
			return err
		}
	}
	return nil
}

// identity is the digest of all that the bill says. Lists of equal images have
// equal names.
func (b *bill) identity() [32]byte {
	h := sha256.New()
	for _, c := range b.components {
		fmt.Fprintf(h, "%q %q %q %q %q %q\n", c.ref, c.version, c.license, c.sha256, c.note, c.parts)
	}
	return [32]byte(h.Sum(nil))
}

type object = map[string]any

// spdxID is what SPDX allows in an identifier (SPDX 2.3, 7.2).
var spdxID = regexp.MustCompile(`[^A-Za-z0-9.-]+`)

func spdxRef(ref string) string { return "SPDXRef-" + spdxID.ReplaceAllString(ref, "-") }

// spdx writes the bill as SPDX 2.3 in JSON.
func (b *bill) spdx() ([]byte, error) {
	id := b.identity()
	seen := map[string]string{}
	packages, relations := []object{}, []object{{
		"spdxElementId": "SPDXRef-DOCUMENT", "relationshipType": "DESCRIBES", "relatedSpdxElement": spdxRef(b.components[0].ref),
	}}
	for _, c := range b.components {
		if other, ok := seen[spdxRef(c.ref)]; ok {
			return nil, fmt.Errorf("%s and %s have one SPDX identifier", c.ref, other)
		}
		seen[spdxRef(c.ref)] = c.ref
		packages = append(packages, c.spdx())
		for _, part := range c.parts {
			relations = append(relations, object{"spdxElementId": spdxRef(c.ref), "relationshipType": relation(part), "relatedSpdxElement": spdxRef(part)})
		}
	}
	return canonicalLine(object{
		"spdxVersion": "SPDX-2.3", "dataLicense": "CC0-1.0", "SPDXID": "SPDXRef-DOCUMENT", "name": b.components[0].name,
		"documentNamespace": "https://omega.invalid/sbom/" + hex.EncodeToString(id[:]),
		"creationInfo":      object{"created": b.profile.built, "creators": []string{"Tool: " + toolName()}},
		"packages":          packages, "relationships": relations,
	})
}

// relation says how a component is inside of another one (SPDX 2.3, 11.1).
func relation(part string) string {
	switch {
	case strings.HasPrefix(part, "pkg:golang/"):
		return "STATIC_LINK"
	case strings.HasPrefix(part, "pkg:deb/debian/linux-source"), strings.HasPrefix(part, "pkg:deb/debian/ca-certificates"):
		return "GENERATED_FROM"
	}
	return "CONTAINS"
}

func (c component) spdx() object {
	// The published schema spells these with an underscore.
	purpose := strings.ToUpper(strings.ReplaceAll(c.purpose, "-", "_"))
	if c.purpose == "data" {
		purpose = "FILE"
	}
	out := object{
		"SPDXID": spdxRef(c.ref), "name": c.name, "versionInfo": c.version, "downloadLocation": "NOASSERTION", "filesAnalyzed": false,
		"licenseConcluded": c.license, "licenseDeclared": c.license, "copyrightText": "NOASSERTION", "primaryPackagePurpose": purpose,
	}
	if c.note != "" {
		out["comment"] = c.note
	}
	if c.sha256 != "" {
		out["checksums"] = []object{{"algorithm": "SHA256", "checksumValue": c.sha256}}
	}
	if c.purl != "" {
		out["externalRefs"] = []object{{"referenceCategory": "PACKAGE-MANAGER", "referenceType": "purl", "referenceLocator": c.purl}}
	}
	return out
}

// cycloneDX writes the bill as CycloneDX 1.6 in JSON.
func (b *bill) cycloneDX() ([]byte, error) {
	id := b.identity()
	components, dependencies := []object{}, []object{}
	for i, c := range b.components {
		if i > 0 {
			components = append(components, c.cycloneDX())
		}
		dependencies = append(dependencies, object{"ref": c.ref, "dependsOn": append([]string{}, c.parts...)})
	}
	return canonicalLine(object{
		"bomFormat": "CycloneDX", "specVersion": "1.6", "version": 1, "serialNumber": "urn:uuid:" + uuidOf(id),
		"metadata": object{
			"timestamp": b.profile.built, "component": b.components[0].cycloneDX(),
			"tools": object{"components": []object{{"type": "application", "name": toolName()}}},
		},
		"components": components, "dependencies": dependencies,
	})
}

func (c component) cycloneDX() object {
	out := object{"bom-ref": c.ref, "type": c.purpose, "name": c.name, "version": c.version}
	if c.license != "NOASSERTION" {
		out["licenses"] = []object{{"expression": c.license}}
	}
	if c.note != "" {
		out["description"] = c.note
	}
	if c.sha256 != "" {
		out["hashes"] = []object{{"alg": "SHA-256", "content": c.sha256}}
	}
	if c.purl != "" {
		out["purl"] = c.purl
	}
	return out
}

// uuidOf makes a UUID of version 8 (RFC 9562, 5.8) out of a digest.
func uuidOf(d [32]byte) string {
	d[6], d[8] = d[6]&0x0f|0x80, d[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", d[0:4], d[4:6], d[6:8], d[8:10], d[10:16])
}

func canonicalLine(v any) ([]byte, error) {
	b, err := strictjson.Canonical(v)
	return append(b, '\n'), err
}
