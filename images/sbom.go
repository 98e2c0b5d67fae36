package images

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"

	"omega/internal/lock"
)

// ownLicense is the licence of this project: file LICENSE at its root.
const ownLicense = "Apache-2.0"

// A component is one thing inside of the image, for the lists of what is inside.
type component struct {
	ref     string // one name for one thing
	name    string
	version string
	purl    string // package URL (purl-spec), "" for what only this image has
	license string // SPDX expression
	purpose string // application, library, firmware, operating-system, data
	sha256  string // of its bytes, where the image or the lock file has those
	note    string
	parts   []string // refs of what it is made of
	texts   []legalText
}

// A bill is all that is inside of an image; the first component is the image.
type bill struct {
	profile    profile
	components []component
}

// collectBill lists what is inside of the artifacts: every program with the
// modules that the linker put into it, and every package of the lock file.
func collectBill(ctx context.Context, s *Store, p profile, o Options, entries []entry, a *Artifacts) (*bill, error) {
	c := &collector{ctx: ctx, store: s, o: o, found: map[string]component{}}
	image := component{
		ref: "image", name: "omega-" + p.name, version: fmt.Sprint("svn", p.svn), license: ownLicense, purpose: "operating-system",
		sha256: hexOf(a.Digests["uki"]), note: "the digest is that of omega.efi, the image as one EFI program",
	}
	for _, e := range entries {
		ref, err := c.entry(e)
		if err != nil {
			return nil, fmt.Errorf("SBOM: /%s: %w", e.path, err)
		}
		if ref != "" {
			image.parts = append(image.parts, ref)
		}
	}
	for _, b := range []struct{ subject, entry, purpose string }{
		{"kernel", kernelSource, "operating-system"}, {"ovmf", "ovmf-amdsev", "firmware"}, {"", "systemd-stub", "firmware"},
	} {
		ref, err := c.debian(b.entry, b.purpose)
		if err != nil {
			return nil, fmt.Errorf("SBOM: %s: %w", b.entry, err)
		}
		if b.subject == "kernel" {
			ref = c.built(component{ref: "kernel", name: "kernel", version: c.found[ref].version, license: c.found[ref].license,
				purpose: b.purpose, sha256: hexOf(a.Digests["kernel"]), parts: []string{ref}})
		}
		image.parts = append(image.parts, ref)
	}
	out := &bill{p, []component{image}}
	for _, x := range c.found {
		slices.Sort(x.parts)
		x.parts = slices.Compact(x.parts)
		out.components = append(out.components, x)
	}
	slices.Sort(out.components[0].parts)
	slices.SortFunc(out.components[1:], func(x, y component) int { return cmp.Compare(x.ref, y.ref) })
	return out, nil
}

func hexOf(d [32]byte) string { return hex.EncodeToString(d[:]) }

// A collector finds components, each once.
type collector struct {
	ctx   context.Context
	store *Store
	o     Options
	found map[string]component
}

// built notes what is not fetched but made, and returns its ref.
func (c *collector) built(x component) string {
	c.found[x.ref] = x
	return x.ref
}

// entry notes a file of the initramfs that consists of other people's work.
func (c *collector) entry(e entry) (string, error) {
	sum := sha256.Sum256(e.content)
	own := component{ref: "file:/" + e.path, name: "/" + e.path, version: "in this image", license: ownLicense, purpose: "application", sha256: hexOf(sum)}
	switch e.from.kind {
	case "program":
		return c.program(own, e.content, c.o.Source)
	case "runsc":
		return c.program(own, e.content, filepath.Join(c.o.Source, runscModule))
	case "uroot":
		return c.program(own, e.content, filepath.Join(c.o.Source, debugModule))
	case "policy":
		own.purpose, own.license, own.note = "data", "NOASSERTION", "compiled from the operator's policy"
		if e.from.name == "wasm" {
			return c.wasm(own)
		}
		return c.built(own), nil
	case "roots":
		own.purpose, own.license, own.note = "data", "NOASSERTION", "the operator's trust roots"
		if c.o.Roots != nil {
			return c.built(own), nil
		}
		ref, err := c.debian("ca-certificates", "data")
		own.license, own.parts, own.note = c.found[ref].license, []string{ref}, "the public certificate authorities"
		return c.built(own), err
	}
	return "", nil
}

// program notes a Go program, its modules and Go's own library.
func (c *collector) program(own component, content []byte, module string) (string, error) {
	info, err := buildinfo.Read(bytes.NewReader(content))
	if err != nil {
		return "", err
	}
	if own.parts, err = c.modules(module, info.Deps); err != nil {
		return "", err
	}
	ref, err := c.standardLibrary(info.GoVersion)
	own.parts = append(own.parts, ref)
	return c.built(own), err
}

// wasm notes the compiled policy, which carries the runtime of its compiler.
func (c *collector) wasm(own component) (string, error) {
	if c.o.PolicyCompiler == nil {
		return "", errors.New("nobody says which compiler's runtime is in the policy")
	}
	refs, err := c.modules(c.o.Source, []*debug.Module{c.o.PolicyCompiler})
	if err != nil {
		return "", err
	}
	own.parts, own.license = refs, ownLicense+" AND BSD-2-Clause AND BSD-3-Clause"
	own.note = "compiled from the operator's policy; the compiler's runtime in it has libmpdec (BSD-2-Clause) and RE2 (BSD-3-Clause)"
	return c.built(own), nil
}

// modules notes Go modules and returns their refs.
func (c *collector) modules(dir string, list []*debug.Module) ([]string, error) {
	texts, err := moduleTexts(c.ctx, c.store.cache, dir, list)
	if err != nil {
		return nil, err
	}
	var refs []string
	for _, m := range list {
		own := texts[m.Path]
		if len(own) == 0 {
			return nil, fmt.Errorf("module %s has no licence", m.Path)
		}
		license, err := classify([]byte(own[0].text))
		if err != nil {
			return nil, fmt.Errorf("module %s: %s: %w", m.Path, own[0].name, err)
		}
		purl := "pkg:golang/" + m.Path + "@" + strings.ReplaceAll(m.Version, "+", "%2B")
		refs = append(refs, c.built(component{
			ref: purl, name: m.Path, version: m.Version, purl: purl, license: license, purpose: "library", note: "go.sum " + m.Sum, texts: own,
		}))
	}
	return refs, nil
}

// standardLibrary notes what every Go program contains.
func (c *collector) standardLibrary(version string) (string, error) {
	purl := "pkg:golang/std@" + strings.TrimPrefix(version, "go")
	if _, ok := c.found[purl]; ok {
		return purl, nil
	}
	root, err := exec.CommandContext(c.ctx, "go", "env", "GOROOT").Output()
	if err != nil {
		return "", fmt.Errorf("asking go for its folder: %w", err)
	}
	x := component{ref: purl, name: "std", version: strings.TrimPrefix(version, "go"), purl: purl, purpose: "library", note: "Go's standard library and runtime"}
	for _, name := range []string{"LICENSE", "PATENTS"} {
		b, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(root)), name))
		if err != nil {
			return "", fmt.Errorf("licence of Go: %w", err)
		}
		x.texts = append(x.texts, legalText{name, string(b)})
	}
	if x.license, err = classify([]byte(x.texts[0].text)); err != nil {
		return "", fmt.Errorf("licence of Go: %w", err)
	}
	return c.built(x), nil
}

// debian notes a package of the lock file.
func (c *collector) debian(name, purpose string) (string, error) {
	e, err := c.store.lock.Entry(name)
	if err != nil {
		return "", err
	}
	known, ok := debLicenses[name]
	if !ok {
		return "", fmt.Errorf("nobody has read the licence of package %s: add it to debLicenses", e.Package)
	}
	tree, err := c.store.Tree(c.ctx, name)
	if err != nil {
		return "", err
	}
	path := filepath.Join(tree, "usr/share/doc", e.Package, "copyright")
	b, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("copyright file: %w", err)
	}
	if got := hexOf(sha256.Sum256(b)); got != known.copyright {
		return "", fmt.Errorf("the copyright file of %s is another one than was read: look at it, then put %s into debLicenses", e.Package, got)
	}
	purl := debianURL(e)
	return c.built(component{
		ref: purl, name: e.Package, version: e.Version, purl: purl, license: known.license, purpose: purpose,
		sha256: e.SHA256.String(), note: "the digest is that of the package", texts: []legalText{{"copyright", string(b)}},
	}), nil
}

// debianURL is a package's URL (purl-spec, type deb).
func debianURL(e lock.Entry) string {
	return "pkg:deb/debian/" + e.Package + "@" + strings.NewReplacer("+", "%2B", ":", "%3A").Replace(e.Version)
}

// notices is the file that tells whose work is inside and under which terms.
func (b *bill) notices() []byte {
	users := map[string][]string{} // by text
	for _, c := range b.components {
		for _, t := range c.texts {
			who := c.name + " " + c.version + " (" + c.license + "), file " + t.name
			users[t.text] = append(users[t.text], who)
		}
	}
	var texts []string
	for text, who := range users {
		slices.Sort(who)
		users[text] = slices.Compact(who)
		texts = append(texts, text)
	}
	slices.SortFunc(texts, func(x, y string) int { return cmp.Compare(users[x][0]+x, users[y][0]+y) })
	var out bytes.Buffer
	fmt.Fprintf(&out, "Image omega-%s is made of Omega (%s) and of the work of others.\n"+
		"These are their licences and notices, in their own words. The sources are those that the\n"+
		"lock file and go.sum of Omega's source tree name.\n", b.profile.name, ownLicense)
	for _, text := range texts {
		fmt.Fprintf(&out, "\n%s\n", strings.Repeat("=", 78))
		for _, who := range users[text] {
			fmt.Fprintln(&out, who)
		}
		fmt.Fprintf(&out, "%s\n\n%s\n", strings.Repeat("-", 78), strings.TrimRight(text, "\n"))
	}
	return out.Bytes()
}

// toolName is who wrote a list: omega, as compiled by this Go.
func toolName() string { return "omega (" + runtime.Version() + ")" }
