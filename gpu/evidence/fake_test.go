package evidence

import (
	"crypto/x509"
	"errors"
	"slices"
	"strings"
	"testing"
)

func TestFakeGPUIsAppraised(t *testing.T) {
	fwid := slices.Repeat([]byte{7}, digestSize)
	tests := []struct {
		name string
		edit func(*fake, *Policy)
		want error
	}{
		{"as it is", func(*fake, *Policy) {}, nil},
		{"firmware identifier in Blackwell's form", func(f *fake, _ *Policy) { f.opaque = append(f.opaque, field{opaqueFWID, fwid}) }, nil},
		{"another firmware identifier", func(f *fake, _ *Policy) {
			f.opaque = append(f.opaque, field{opaqueFWID, make([]byte, digestSize)})
		}, ErrMismatch},
		{"CC mode demanded and on", func(f *fake, p *Policy) {
			p.CC, f.opaque = CCRequired, append(f.opaque, field{opaqueFeatures, []byte{0, 0, 0, 0}})
		}, nil},
		{"CC mode demanded, protected PCIe", func(f *fake, p *Policy) {
			p.CC, f.opaque = CCIfCarried, append(f.opaque, field{opaqueFeatures, []byte{2}})
		}, ErrMismatch},
		{"CC mode if carried, PCIe switch on", func(f *fake, p *Policy) {
			p.CC, f.opaque = CCIfCarried, append(f.opaque, field{opaquePPCIe, []byte{stateOn}})
		}, ErrMismatch},
		{"CC mode if carried, not carried", func(_ *fake, p *Policy) { p.CC = CCIfCarried }, nil},
		{"unknown feature flag", func(f *fake, _ *Policy) { f.opaque = append(f.opaque, field{opaqueFeatures, []byte{9}}) }, ErrFormat},
		{"a field twice", func(f *fake, _ *Policy) { f.opaque = append(f.opaque, f.opaque[0]) }, ErrFormat},
		{"no driver version", func(f *fake, _ *Policy) { f.opaque = f.opaque[1:] }, ErrFormat},
		{"a measurement is another", func(f *fake, _ *Policy) { f.blocks[4] = [48]byte{1} }, ErrMismatch},
		{"a measurement is missing", func(f *fake, _ *Policy) { delete(f.blocks, 10) }, ErrMismatch},
		{"NVDEC0 measurement is another", func(f *fake, _ *Policy) { f.blocks[36] = [48]byte{1} }, ErrMismatch},
		{"NVDEC0 measurement is another, and it is off", func(f *fake, _ *Policy) {
			f.blocks[36] = [48]byte{1}
			f.opaque = append(f.opaque, field{opaqueNVDEC0, []byte{stateOff}})
		}, nil},
		{"an index in both RIMs", func(f *fake, _ *Policy) { f.vbios[3] = f.hex(4) }, ErrMismatch},
		{"driver new enough", func(_ *fake, p *Policy) { p.MinDriver = "590.1" }, nil},
		{"driver too old by number, not by letter", func(_ *fake, p *Policy) { p.MinDriver = "1000" }, ErrMismatch},
		{"VBIOS allowed in another case", func(_ *fake, p *Policy) { p.VBIOS = []string{"x", "97.00.83.00.09"} }, nil},
	}
	f := newFake(t, tcbInfo(t, fwid))
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			own := *newFakeOf(f)
			p := Policy{}
			tt.edit(&own, &p)
			params := own.params(t)
			params.Policy = p
			r, err := Appraise(own.evidence(t), params)
			if !errors.Is(err, tt.want) || (tt.want == nil) != (r.Verdict == VerdictVerified) {
				t.Errorf("verdict %s, %v; want %v", r.Verdict, err, tt.want)
			}
			if strings.Contains(tt.name, "it is off") && !slices.Equal(r.Excepted, []int{indexNVDEC0}) {
				t.Errorf("excepted %v is not told", r.Excepted)
			}
		})
	}
}

// newFakeOf shares keys and copies the rest.
func newFakeOf(f *fake) *fake {
	out := *f
	out.opaque = slices.Clone(f.opaque)
	out.blocks, out.driver, out.vbios = clone(f.blocks), clone(f.driver), clone(f.vbios)
	return &out
}

func clone[V any](m map[int]V) map[int]V {
	out := map[int]V{}
	for k, v := range m {
		out[k] = v
	}
	return out
}

func TestChainsOfTheWrongKindAreRefused(t *testing.T) {
	f := newFake(t, nil)
	root, stranger := f.device[3], issue(t, "device root", nil, nil)
	tests := []struct {
		name string
		edit func(*fake)
		want error
	}{
		{"out of order", func(f *fake) { f.device[1], f.device[2] = f.device[2], f.device[1] }, ErrChain},
		{"a certificate too many", func(f *fake) { f.device = slices.Insert(f.device, 2, stranger) }, ErrChain},
		{"root of the same name", func(f *fake) { f.device[3] = stranger }, ErrChain},
		{"a leaf that signs", func(f *fake) {
			brom := issue(t, "BROM", f.device[2], leafOnly)
			f.device[1], f.device[0] = brom, issue(t, "FMC", brom, leafOnly)
		}, ErrChain},
		{"a leaf signed with SHA-256", func(f *fake) {
			f.device[0] = issue(t, "FMC", f.device[1], func(c *x509.Certificate) {
				leafOnly(c)
				c.SignatureAlgorithm = x509.ECDSAWithSHA256
			})
		}, ErrChain},
		{"an expired device", func(f *fake) {
			brom := issue(t, "BROM", f.device[2], func(c *x509.Certificate) { c.NotAfter = forgeTime.AddDate(0, 0, -1) })
			f.device[1], f.device[0] = brom, issue(t, "FMC", brom, leafOnly)
		}, ErrExpired},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			own := newFakeOf(f)
			own.device = slices.Clone(f.device)
			tt.edit(own)
			e := own.evidence(t)
			own.device = []*party{nil, nil, nil, root}
			if _, err := Appraise(e, own.params(t)); !errors.Is(err, tt.want) {
				t.Errorf("error %v, want %v", err, tt.want)
			}
		})
	}
}

func TestSignedDocumentsOfTheWrongFormAreRefused(t *testing.T) {
	f := newFake(t, nil)
	body := rimBody("590.1.2", f.driver)
	good := string(f.sign(t, body))
	if _, err := ParseRIM([]byte(good)); err != nil {
		t.Fatalf("the RIM itself: %v", err)
	}
	swap := func(old, new string) []byte { return []byte(strings.Replace(good, old, new, 1)) }
	tests := []struct {
		name string
		rim  []byte
		want error
	}{
		{"a document type", []byte("<!DOCTYPE x>" + good), ErrFormat},
		{"a comment", swap("<n:Payload>", "<n:Payload><!-- -->"), ErrFormat},
		{"a processing instruction", swap("<n:Payload>", "<n:Payload><?p i?>"), ErrFormat},
		{"an entity", swap(`name="GB100"`, `name="&x;"`), ErrFormat},
		{"a second document", []byte(good + good), ErrFormat},
		{"text behind the document", []byte(good + "x"), ErrFormat},
		{"a second signature", swap("</SoftwareIdentity>", `<ds:Signature xmlns:ds="`+nsSignature+`"/></SoftwareIdentity>`), ErrFormat},
		{"no signature", []byte(body + "</SoftwareIdentity>"), ErrFormat},
		{"a reference elsewhere", swap(`URI=""`, `URI="#x"`), ErrFormat},
		{"two references", swap("</ds:SignedInfo>", `<ds:Reference URI=""/></ds:SignedInfo>`), ErrFormat},
		{"SHA-1", swap(algDigest, "http://www.w3.org/2000/09/xmldsig#sha1"), ErrFormat},
		{"HMAC", swap(algSignature, "http://www.w3.org/2000/09/xmldsig#hmac-sha1"), ErrFormat},
		{"XSLT", f.signWith(t, body, "http://www.w3.org/TR/1999/REC-xslt-19991116"), ErrFormat},
		{"an object in the signature", swap("</ds:Signature>", "<ds:Object/></ds:Signature>"), ErrFormat},
		{"an xml attribute", swap("<n:Payload>", `<n:Payload xml:lang="en">`), ErrFormat},
		{"an attribute twice", swap(`size="48"`, `size="48" size="48"`), ErrFormat},
		{"an undeclared prefix", swap("<n:Payload>", `<n:Payload q:x="1">`), ErrFormat},
		{"a changed digest", swap(f.hex(4), strings.Repeat("00", 48)), ErrSignature},
		{"an element behind the signature", swap("</SoftwareIdentity>", "<n:Entity/></SoftwareIdentity>"), ErrSignature},
		{"an index twice", f.sign(t, strings.Replace(body, `index="1"`, `index="0"`, 1)), ErrFormat},
		{"fewer digests than announced", f.sign(t, strings.Replace(body, `alternatives="1"`, `alternatives="2"`, 1)), ErrFormat},
		{"more digests than announced", f.sign(t, strings.Replace(body, `size="48"`, `size="48" h:Hash7=""`, 1)), ErrFormat},
		{"no alternative", f.sign(t, strings.Replace(body, `alternatives="1"`, `alternatives="0"`, 1)), ErrFormat},
		{"active said in another way", f.sign(t, strings.Replace(body, `active="True"`, `active="true"`, 1)), ErrFormat},
		{"nothing active", f.sign(t, rimBody("590.1.2", nil)), ErrFormat},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := ParseRIM(tt.rim); !errors.Is(err, tt.want) {
				t.Errorf("error %v, want %v", err, tt.want)
			}
		})
	}
}

func TestMeasurementsHaveDistinctIndexes(t *testing.T) {
	block := func(index, form, value byte) []byte {
		return append([]byte{index, form, value + 3, 0, 1, value, 0}, make([]byte, value)...)
	}
	tests := []struct {
		name   string
		record []byte
		ok     bool
	}{
		{"two", slices.Concat(block(1, 1, 48), block(2, 1, 48)), true},
		{"an index twice", slices.Concat(block(1, 1, 48), block(1, 1, 48)), false},
		{"index zero", slices.Concat(block(0, 1, 48), block(1, 1, 48)), false},
		{"a form that is not the DMTF's", slices.Concat(block(1, 1, 48), block(2, 2, 48)), false},
		{"a short digest", slices.Concat(block(1, 1, 48), block(2, 1, 32)), false},
		{"one too many", slices.Concat(block(1, 1, 48), block(2, 1, 48), block(3, 1, 48)), false},
		{"one too few", block(1, 1, 48), false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := parseBlocks(tt.record, 2); (err == nil) != tt.ok {
				t.Errorf("error %v, want accepted: %t", err, tt.ok)
			}
		})
	}
}
