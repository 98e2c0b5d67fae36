package images

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"omega/internal/cache"
	"omega/internal/lock"
)

// apt fetches packages of any Debian suite through the machine's own apt-get,
// with a private state: nothing of the system's package lists changes, and no
// root is needed. Where the archive is and which keys sign it is read from the
// machine's package sources.
type apt struct{ dir string }

// fetch downloads e as it stands in the provider's suite.
func (a *apt) fetch(ctx context.Context, e lock.Entry, p lock.Provider, dir string) error {
	return a.newest(ctx, p.Suite, []string{e.Package + "=" + e.Version}, dir)
}

// newest downloads packages as they stand in a suite; what is written as
// NAME=VERSION must be of that version.
func (a *apt) newest(ctx context.Context, suite string, packages []string, dir string) error {
	if err := os.MkdirAll(a.dir, 0o755); err != nil {
		return err
	}
	unlock, err := cache.Lock(ctx, filepath.Join(a.dir, "lock"))
	if err != nil {
		return err
	}
	defer unlock()
	conf, err := a.prepare(suite)
	if err != nil {
		return err
	}
	get := func(args ...string) error {
		env := append(os.Environ(), "APT_CONFIG="+conf, "LC_ALL=C")
		return run(ctx, job{dir: dir, env: env, args: append([]string{"apt-get", "-q"}, args...)})
	}
	download := func() error { return get(append([]string{"download"}, packages...)...) }
	// Lists that are there may already name the package.
	if download() == nil || ctx.Err() != nil {
		return ctx.Err()
	}
	if err := get("update"); err != nil {
		return fmt.Errorf("updating the package lists (is there a network?): %w", err)
	}
	return download()
}

// prepare writes the private state for one suite and returns its apt.conf.
func (a *apt) prepare(suite string) (string, error) {
	src, err := debianSource("/etc/apt")
	if err != nil {
		return "", err
	}
	dir := filepath.Join(a.dir, suite)
	for _, d := range []string{"lists/partial", "archives/partial", "sources", "none"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			return "", err
		}
	}
	stanza := fmt.Sprintf("Types: deb\nURIs: %s\nSuites: %s\nComponents: main\n", src.uri, suite)
	if src.signedBy != "" {
		stanza += "Signed-By: " + src.signedBy + "\n"
	}
	// Lists may be older than their signers like: the pinned digest decides, not the date.
	conf := fmt.Sprintf(`Dir::State %[1]q; Dir::State::Lists "%[1]s/lists"; Dir::State::status "%[1]s/status";
Dir::Cache %[1]q; Dir::Etc::SourceList "/dev/null"; Dir::Etc::SourceParts "%[1]s/sources";
Dir::Etc::Preferences "/dev/null"; Dir::Etc::PreferencesParts "%[1]s/none";
Acquire::Check-Valid-Until "false"; Acquire::Check-Date "false";
APT::Update::Error-Mode "any"; APT::Architecture "amd64"; APT::Sandbox::User "root"; Acquire::Languages "none"; Acquire::Retries "3";
Acquire::IndexTargets::deb::DEP-11::DefaultEnabled "false"; Acquire::IndexTargets::deb::Contents-deb::DefaultEnabled "false";
`, dir)
	for name, text := range map[string]string{"sources/debian.sources": stanza, "status": "", "apt.conf": conf} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			return "", err
		}
	}
	return filepath.Join(dir, "apt.conf"), nil
}

// An archive is where packages come from and who signs them.
type archive struct{ uri, signedBy string }

// debianSource finds the Debian archive among the package sources in etc: the
// first that has the component main of a suite that is not the security one,
// preferring one that names Debian's keys.
func debianSource(etc string) (archive, error) {
	var found []archive
	for _, pattern := range []string{"sources.list.d/*.sources", "sources.list", "sources.list.d/*.list"} {
		names, _ := filepath.Glob(filepath.Join(etc, pattern)) // the pattern is well formed
		for _, name := range names {
			b, err := os.ReadFile(name)
			if err != nil {
				continue // not ours to read; another one may be
			}
			found = append(found, parseSources(string(b), strings.HasSuffix(name, ".sources"))...)
		}
	}
	for _, a := range found {
		if strings.Contains(a.signedBy, "debian") {
			return a, nil
		}
	}
	if len(found) > 0 {
		return found[0], nil
	}
	return archive{}, errors.New("this machine's package sources name no Debian archive")
}

// parseSources reads one file of sources.list(5), in either of its two forms.
func parseSources(text string, deb822 bool) []archive {
	if deb822 {
		return parseStanzas(text)
	}
	var out []archive
	for line := range strings.Lines(text) {
		rest, ok := strings.CutPrefix(strings.TrimSpace(line), "deb ")
		if !ok {
			continue
		}
		var signedBy string
		if inside, ok := strings.CutPrefix(strings.TrimSpace(rest), "["); ok {
			options, after, _ := strings.Cut(inside, "]")
			for _, o := range strings.Fields(options) {
				if v, ok := strings.CutPrefix(o, "signed-by="); ok {
					signedBy = v
				}
			}
			rest = after
		}
		words := strings.Fields(rest)
		if len(words) >= 3 && usable(words[1:2], words[2:]) {
			out = append(out, archive{words[0], signedBy})
		}
	}
	return out
}

func parseStanzas(text string) []archive {
	var out []archive
	for _, stanza := range strings.Split(text, "\n\n") {
		field := map[string]string{}
		for line := range strings.Lines(stanza) {
			if key, value, ok := strings.Cut(line, ":"); ok && !strings.HasPrefix(line, "#") {
				field[strings.ToLower(key)] = strings.TrimSpace(value)
			}
		}
		uris := strings.Fields(field["uris"])
		if len(uris) > 0 && field["enabled"] != "no" && usable(strings.Fields(field["suites"]), strings.Fields(field["components"])) {
			out = append(out, archive{uris[0], field["signed-by"]})
		}
	}
	return out
}

// usable says whether a source can be the main archive: every suite of Debian
// has the component main, and the security archive is a place of its own.
func usable(suites, components []string) bool {
	return slices.Contains(components, "main") && !slices.ContainsFunc(suites, func(s string) bool {
		return strings.HasSuffix(s, "-security") || strings.HasSuffix(s, "/")
	})
}

// watchSize reports how many bytes lie under dir until stop is called.
func watchSize(dir string, total int64, step Step) (stop func()) {
	quit := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		tick := time.NewTicker(200 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-quit:
				return
			case <-tick.C:
				step.Set(sizeOf(dir), total)
			}
		}
	})
	return func() { close(quit); wg.Wait() }
}

func sizeOf(dir string) (sum int64) {
	_ = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil {
			return nil // a file that went away while we looked
		}
		if info, err := d.Info(); err == nil && !d.IsDir() {
			sum += info.Size()
		}
		return nil
	})
	return sum
}
