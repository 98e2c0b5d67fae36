package images

import (
	"bytes"
	"debug/buildinfo"
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func sampleBill() *bill {
	return &bill{profile{name: "cpu", built: "2026-11-23T00:00:00Z"}, []component{
		{ref: "image", name: "omega-cpu", version: "svn1", license: "Apache-2.0", purpose: "operating-system", sha256: "aa", parts: []string{"file:/init"}},
		{ref: "file:/init", name: "/init", version: "in this image", license: "Apache-2.0", purpose: "application", parts: []string{"pkg:golang/a.b/c@v1%2Bx"}},
		{ref: "pkg:golang/a.b/c@v1%2Bx", name: "a.b/c", version: "v1+x", purl: "pkg:golang/a.b/c@v1%2Bx", license: "MIT", purpose: "library",
			texts: []legalText{{"LICENSE", "Permission is granted\n"}}},
		{ref: "pkg:golang/a.b/d@v1", name: "a.b/d", version: "v1", license: "NOASSERTION", purpose: "data", texts: []legalText{{"LICENSE", "Permission is granted\n"}}},
	}}
}

func TestBothListsNameEveryComponentOnce(t *testing.T) {
	b := sampleBill()
	spdx, err := b.spdx()
	if err != nil {
		t.Fatal(err)
	}
	cdx, err := b.cycloneDX()
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`"relatedSpdxElement":"SPDXRef-pkg-golang-a.b-c-v1-2Bx","relationshipType":"STATIC_LINK","spdxElementId":"SPDXRef-file-init"`,
		`"primaryPackagePurpose":"OPERATING_SYSTEM"`, `"referenceLocator":"pkg:golang/a.b/c@v1%2Bx"`, `"licenseDeclared":"MIT"`, `"created":"2026-11-23T00:00:00Z"`,
	} {
		if !bytes.Contains(spdx, []byte(want)) {
			t.Errorf("SPDX lacks %s:\n%s", want, spdx)
		}
	}
	for _, want := range []string{
		`{"dependsOn":["pkg:golang/a.b/c@v1%2Bx"],"ref":"file:/init"}`, `"licenses":[{"expression":"MIT"}]`, `"serialNumber":"urn:uuid:`, `"specVersion":"1.6"`,
	} {
		if !bytes.Contains(cdx, []byte(want)) {
			t.Errorf("CycloneDX lacks %s:\n%s", want, cdx)
		}
	}
	if bytes.Contains(cdx, []byte("NOASSERTION")) {
		t.Error("CycloneDX has no such licence")
	}
	b.components[1].ref = "pkg:golang/a.b/c@v1+2Bx"
	_, err = b.spdx()
	expect(t, err, "one SPDX identifier")
}

func TestListsAreTheSameBytesUntilAComponentChanges(t *testing.T) {
	first, err := sampleBill().cycloneDX()
	if err != nil {
		t.Fatal(err)
	}
	again, err := sampleBill().cycloneDX()
	if err != nil || !bytes.Equal(first, again) {
		t.Errorf("%v: two lists of one image differ", err)
	}
	other := sampleBill()
	other.components[2].version = "v2"
	if other.identity() == sampleBill().identity() {
		t.Error("two images have one serial number")
	}
}

func TestNoticesCarryEachTextOnceAndNameItsUsers(t *testing.T) {
	text := string(sampleBill().notices())
	if n := strings.Count(text, "Permission is granted"); n != 1 {
		t.Errorf("the text is there %d times:\n%s", n, text)
	}
	for _, want := range []string{"a.b/c v1+x (MIT), file LICENSE", "a.b/d v1 (NOASSERTION), file LICENSE"} {
		if !strings.Contains(text, want) {
			t.Errorf("notices lack %q:\n%s", want, text)
		}
	}
}

// What `omega build` left is looked at as it is, where there is one.
func TestTheBuiltImagesListsNameWhatIsLinkedIntoItsPrograms(t *testing.T) {
	a, files := builtPayload(t)
	var spdx struct {
		Packages []struct {
			Name, VersionInfo, LicenseDeclared string
		}
	}
	b, err := os.ReadFile(a.SPDX)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, &spdx); err != nil {
		t.Fatal(err)
	}
	notices, err := os.ReadFile(a.Notices)
	if err != nil {
		t.Fatal(err)
	}
	listed := map[string]bool{}
	for _, p := range spdx.Packages {
		if p.LicenseDeclared == "" {
			t.Errorf("%s has no licence", p.Name)
		}
		listed[p.Name+" "+p.VersionInfo] = true
	}
	want := []string{"linux-source-6.12 6.12.117-1", "ovmf-amdsev 2026.08+ds-2", "systemd-boot-efi 257.13-1~deb13u1", "std " + strings.TrimPrefix(goVersionOf(t, files["init"]), "go")}
	for _, name := range programs(files) {
		info, err := buildinfo.Read(bytes.NewReader(files[name]))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for _, m := range info.Deps {
			want = append(want, m.Path+" "+m.Version)
		}
	}
	for _, w := range want {
		if !listed[w] || !bytes.Contains(notices, []byte(w+" (")) {
			t.Errorf("%s is inside, but not in the lists or the notices", w)
		}
	}
}

func goVersionOf(t *testing.T, program []byte) string {
	t.Helper()
	info, err := buildinfo.Read(bytes.NewReader(program))
	if err != nil {
		t.Fatal(err)
	}
	return info.GoVersion
}

func TestComponentsPartsAreComponents(t *testing.T) {
	a, _ := builtPayload(t)
	b, err := os.ReadFile(a.CycloneDX)
	if err != nil {
		t.Fatal(err)
	}
	var cdx struct {
		Metadata struct {
			Component struct {
				Ref string `json:"bom-ref"`
			}
		}
		Components []struct {
			Ref string `json:"bom-ref"`
		}
		Dependencies []struct {
			Ref       string
			DependsOn []string
		}
	}
	if err := json.Unmarshal(b, &cdx); err != nil {
		t.Fatal(err)
	}
	refs := []string{cdx.Metadata.Component.Ref}
	for _, c := range cdx.Components {
		refs = append(refs, c.Ref)
	}
	used := []string{cdx.Metadata.Component.Ref}
	for _, d := range cdx.Dependencies {
		used = append(used, d.DependsOn...)
	}
	slices.Sort(refs)
	slices.Sort(used)
	if diff := cmp.Diff(refs, slices.Compact(used)); diff != "" {
		t.Errorf("components and what is part of something: %s", diff)
	}
}
