package images

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"strings"

	"omega/internal/cache"
	"omega/internal/labelhash"
)

// knownLicenses are the licence texts that somebody has read, by the SHA-256 of
// their normal form, with the SPDX expression for them. A text that is not here
// stops the build: a new dependency is a decision, not an accident.
var knownLicenses = map[string]string{
	"4b27d449758fa125868d282eca4b2188deee87a3492cf2ed0057d9388a104a72": "Apache-2.0",                          // btree, go-containerregistry, go-sev-guest and others
	"5cffadb41d38043ced7facc74a41846d186d9f4906305bbce59711e78797f922": "Apache-2.0",                          // go-systemd
	"79dcc05b2ee7aa279ab3b6ae50b83ea64ab2d47e6832f6ce8669d843a33fd94e": "Apache-2.0",                          // netlink, netns, runtime-spec
	"cebdc76ad0efca11139188a3b2fcc5f334cb770edb15ff500eb834459cf87df4": "Apache-2.0",                          // cli, go-digest
	"d2db18460287465d1c9ba4d57d7f64a91e50060de9a08e9285bbcc2412ce60e0": "Apache-2.0",                          // opa
	"d16610c84fd7385b9ecd06f96474c1e7bce66dc9c7266ec418d0f398945773ac": "Apache-2.0 AND MIT AND BSD-3-Clause", // gvisor
	"a63ef1112ebbd402f4b08567180951af8e947e407c24ee835882c6ffa65195d0": "BSD-2-Clause",                        // dbus
	"bb366da3e45df4228c4583477c741a561ca4094c189e3fb67c976bace8ef2b05": "BSD-2-Clause",                        // capability
	"4624d1d727a4799aa20848a7163caf43c54d9c01ca6995780773950f1aef7745": "BSD-3-Clause",                        // exp, go, mod and others
	"49dcfd8971a985c80a3bb9db5d257242df9c1f09aa987a5bf069727a2291cb9d": "BSD-3-Clause",                        // flock
	"a3d908e6ac44753b0224cff1e727ee791f0f6a8743e6dec6d2b9e9f3ccc82e7b": "BSD-3-Clause",                        // protobuf
	"4ac4d0e3cef85682afb5e4f06524345a3dc4c3514306dac55c49824747388c3d": "BSD-3-Clause",                        // sh
	"36b6a89a9bbfdabcd4c677507c0e554b61b3d47ce0fb04d1d2fac0ffc1cb86bf": "MIT",                                 // go-humanize
	"97f3c548add521675bb459729f760ef5b2ab88b7c29c71521cbc015681aee98d": "BSD-3-Clause AND Apache-2.0 AND MIT", // compress
	"1673fc9bcd589fe70a9a86f9052219695248c51a4ca3aac699ce94492880d439": "MIT",                                 // deepcopy, logrus
	"56959050891f7b737ac4e803051170c7197f02df73d80bd9a78d968e305bf558": "MIT",                                 // docker-credential-helpers, pty
	"899ef0575ef07b007ce0e325991d576fd9e2435c78aa57762ac7f8c01e92279f": "MIT",                                 // backoff
}

// debLicenses are the licences of the lock file's packages that become part of
// an image, with the SHA-256 of the copyright file that was read for it. Of a
// package with many, those of the parts that an image carries.
var debLicenses = map[string]struct{ license, copyright string }{
	kernelSource:      {"GPL-2.0-only WITH Linux-syscall-note", "2ae27ed8a5581e2cc4969c266e655a280a8982f87dfe72c011c3f03d91897076"},
	"ovmf-amdsev":     {"BSD-2-Clause-Patent AND Apache-2.0 AND BSD-3-Clause AND MIT", "72c972003f5873800459a3948de9ffd4b22f0eda06aca336942848fcb2eb45f5"},
	"systemd-stub":    {"LGPL-2.1-or-later", "a79e4b379cabbd960bb44f6cc1a069081a3778c59a25ee529b68df5a2cb7d27d"},
	"ca-certificates": {"MPL-2.0", "e85e1bcad3a915dc7e6f41412bc5bdeba275cadd817896ea0451f2140a93967c"},
}

// maxLicense bounds one licence file.
const maxLicense = 1 << 20

// Files in a module that are its licence, and those that go along with it.
var (
	licenseFile = regexp.MustCompile(`(?i)^(licen[sc]e|copying)(\.(md|txt))?$`)
	noticeFile  = regexp.MustCompile(`(?i)^((licen[sc]e|copying|notice|patents)(\.(md|txt))?)$`)
)

// A legalText is a licence or a notice as its author wrote it.
type legalText struct {
	name, text string
}

// classify returns the SPDX expression of a licence text.
func classify(text []byte) (string, error) {
	sum := sha256.Sum256([]byte(normalLicense(string(text))))
	key := hex.EncodeToString(sum[:])
	if id, ok := knownLicenses[key]; ok {
		return id, nil
	}
	return "", fmt.Errorf("a licence text that nobody has classified: read it, and add it to knownLicenses as %s", key)
}

// normalLicense is what two copies of one licence share: the words, without
// case, space and whose copyright it is.
func normalLicense(text string) string {
	var words []string
	for line := range strings.Lines(text) {
		line = strings.ToLower(strings.TrimSpace(line))
		if !strings.HasPrefix(line, "copyright") && line != "all rights reserved." {
			words = append(words, strings.Fields(line)...)
		}
	}
	return strings.Join(words, " ")
}

// moduleTexts returns what the authors of each module say of its licence, the
// licence itself first. The files come from the very source that go.sum names.
func moduleTexts(ctx context.Context, c *cache.Cache, dir string, modules []*debug.Module) (map[string][]legalText, error) {
	parts := make([][]byte, 0, len(modules))
	for _, m := range modules {
		parts = append(parts, []byte(m.Path+" "+moduleVersion(m)))
	}
	key := cache.Key(labelhash.Sum256("omega/licenses/v1", parts...))
	kept, err := c.Dir(ctx, "licenses", key, func(into string) error {
		texts, err := downloadTexts(ctx, dir, modules)
		if err != nil {
			return err
		}
		b, err := json.Marshal(texts)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(into, "texts.json"), b, 0o644)
	})
	if err != nil {
		return nil, err
	}
	b, err := os.ReadFile(filepath.Join(kept, "texts.json"))
	if err != nil {
		return nil, fmt.Errorf("licences: %w", err)
	}
	var stored map[string][][2]string
	if err := json.Unmarshal(b, &stored); err != nil {
		return nil, fmt.Errorf("licences: %w", err)
	}
	out := map[string][]legalText{}
	for path, list := range stored {
		for _, t := range list {
			out[path] = append(out[path], legalText{t[0], t[1]})
		}
	}
	return out, nil
}

// downloadTexts reads the texts out of go's module cache, which go fills.
func downloadTexts(ctx context.Context, dir string, modules []*debug.Module) (map[string][][2]string, error) {
	out := map[string][][2]string{}
	if len(modules) == 0 {
		return out, nil
	}
	want := map[string]*debug.Module{}
	args := []string{"mod", "download", "-json"}
	for _, m := range modules {
		want[m.Path] = m
		args = append(args, m.Path)
	}
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), goSettings...)
	var said bytes.Buffer
	cmd.Stderr = &said
	list, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("licences: go mod download in %s: %w\n%s%s", dir, err, said.Bytes(), list)
	}
	for d := json.NewDecoder(bytes.NewReader(list)); ; {
		var got struct{ Path, Version, Sum, Dir string }
		if err := d.Decode(&got); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, fmt.Errorf("licences: go mod download: %w", err)
		}
		m := want[got.Path]
		if m == nil || got.Version != m.Version || got.Sum != m.Sum {
			return nil, fmt.Errorf("licences: module %s %s is not the one that was linked", got.Path, got.Version)
		}
		texts, err := textsIn(got.Dir)
		if err != nil {
			return nil, fmt.Errorf("licences: module %s: %w", got.Path, err)
		}
		out[got.Path] = texts
	}
	if len(out) != len(modules) {
		return nil, fmt.Errorf("licences: %d of %d modules were found", len(out), len(modules))
	}
	return out, nil
}

// textsIn reads the licence of the module in dir, and then every licence,
// notice and patent grant of it and its folders.
func textsIn(dir string) ([][2]string, error) {
	var licenses, others [][2]string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && d.Name() == "testdata":
			return filepath.SkipDir
		case !d.Type().IsRegular() || !noticeFile.MatchString(d.Name()):
			return nil
		}
		b, err := os.ReadFile(path)
		if err != nil || len(b) > maxLicense {
			return errors.Join(err, fmt.Errorf("%s: %d bytes", d.Name(), len(b)))
		}
		rel, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		text := [2]string{filepath.ToSlash(rel), string(b)}
		if rel == d.Name() && licenseFile.MatchString(rel) {
			licenses = append(licenses, text)
		} else {
			others = append(others, text)
		}
		return nil
	})
	if err == nil && len(licenses) != 1 {
		err = fmt.Errorf("%d licence files, want one", len(licenses))
	}
	return append(licenses, others...), err
}
