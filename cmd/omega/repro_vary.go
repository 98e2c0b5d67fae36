package main

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// goKnobs are the settings that say where Go finds modules. They are the
// user's in both builds: go.sum decides what a module is.
var goKnobs = []string{"GOAUTH", "GOINSECURE", "GOMODCACHE", "GONOPROXY", "GONOSUMDB", "GOPRIVATE", "GOPROXY", "GOSUMDB", "GOVCS"}

// passed is what a build gets of our own environment: the way to the network.
var passed = []string{
	"PATH", "http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR",
}

// prepare sets up the builds and says what differs between them. A single one
// is made under the conditions of the first.
func (r *repro) prepare(ctx context.Context, tree *committedTree, single bool) ([]*reproBuild, error) {
	known, err := goEnv(ctx, r.source)
	if err != nil {
		return nil, err
	}
	locale := r.locale(ctx, r.work)
	second := filepath.Join(r.work, "the second build")
	first := filepath.Join(r.work, "one")
	builds := []*reproBuild{
		{name: "first build", umask: 0o022, goCache: known["GOCACHE"]},
		{name: "second build", umask: 0o077, reverse: true, older: days * 24 * time.Hour},
	}
	vary := [][]string{
		{"TZ=UTC", "LC_ALL=C", "LANG=C", "GOMAXPROCS=1"},
		// By now everything is there, so the second one may fetch no module.
		{"TZ=Pacific/Kiritimati", "LC_ALL=" + locale.name, "LANG=" + locale.name, fmt.Sprint("GOMAXPROCS=", max(2, runtime.NumCPU())), "GOPROXY=off"},
	}
	if locale.folder != "" {
		vary[1] = append(vary[1], "LOCPATH="+locale.folder)
	}
	if single {
		builds = builds[:1]
		builds[0].name = "build"
	} else {
		builds[0].oneCPU = oneCPU()
		builds[1].mapUser = canMapUser(ctx)
		if canShiftClock(ctx) {
			builds[1].shift = days * 24 * time.Hour
		} else {
			builds[1].clock = shiftClock()
		}
	}
	for i, b := range builds {
		dir := []string{first, second}[i]
		b.profile, b.goVersion = "cpu", known["GOVERSION"]
		b.tree, b.home, b.log = filepath.Join(dir, "src"), filepath.Join(dir, "home"), filepath.Join(dir, "build.log")
		if i > 0 && r.elsewhere != "" {
			b.keep, b.tree = b.tree, filepath.Join(r.elsewhere, "the second build", "src")
		}
		// The kernel's make splits paths at spaces, and builds here if it must.
		b.tmp = filepath.Join(r.work, fmt.Sprint("tmp", i+1))
		if i > 0 || r.o.Full {
			b.goCache, b.coldCache = filepath.Join(dir, "go-build"), true
		}
		b.settings = append(environment(b, known), vary[i]...)
		if err := b.setUp(tree, r.cache, r.o.Full); err != nil {
			return nil, err
		}
	}
	if single {
		return builds, nil
	}
	return builds, r.sayVaried(builds, locale)
}

// environment is everything that both builds see the same way, or at a place of
// their own.
func environment(b *reproBuild, known map[string]string) []string {
	out := []string{
		"HOME=" + b.home, "XDG_CACHE_HOME=" + filepath.Join(b.home, ".cache"), "TMPDIR=" + b.tmp, "GOCACHE=" + b.goCache,
		"CGO_ENABLED=0", "GOENV=off", "GOFLAGS=", "GOTOOLCHAIN=local", "GOWORK=off",
	}
	for _, name := range passed {
		if v, ok := os.LookupEnv(name); ok {
			out = append(out, name+"="+v)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(known)) {
		if slices.Contains(goKnobs, name) {
			out = append(out, name+"="+known[name])
		}
	}
	return out
}

// sayVaried says what differs between the two builds, and what should but does
// not on this machine.
func (r *repro) sayVaried(builds []*reproBuild, locale locale) error {
	same, err := sameOrder(builds[0].tree, builds[1].tree)
	if err != nil {
		return err
	}
	r.result.NotVaried = []string{}
	say := func(varied bool, what, why string) {
		if varied {
			r.result.Varied = append(r.result.Varied, what)
			return
		}
		r.result.NotVaried = append(r.result.NotVaried, why)
	}
	say(true, "path (with spaces), home and temporary folder", "")
	say(true, "Go's build cache ("+map[bool]string{true: "both", false: "the second"}[r.o.Full]+" empty)", "")
	say(true, "umask 022 and 077", "")
	say(true, fmt.Sprintf("age of the files, by %d days", days), "")
	say(true, "time zone UTC and UTC+14", "")
	say(locale.name != "C", "locale C and "+locale.name, "locale (no other one is installed)")
	say(true, fmt.Sprintf("GOMAXPROCS 1 and %d", max(2, runtime.NumCPU())), "")
	say(len(builds[0].oneCPU) > 0, fmt.Sprintf("processors 1 and %d", runtime.NumCPU()), "number of processors (there is one, or taskset is not installed)")
	say(builds[1].mapUser, fmt.Sprintf("user %d and %d", os.Getuid(), otherUser), "user (user namespaces are not available)")
	switch {
	case builds[1].shift > 0:
		say(true, fmt.Sprintf("clock, by %d days", days), "")
	case len(builds[1].clock) > 0:
		say(true, fmt.Sprintf("clock of programs that use the C library, by %d days", days), "")
		say(false, "", "clock of Go's own programs (this machine lets nobody trace)")
	default:
		say(false, "", "clock (this machine lets nobody trace, and faketime is not installed)")
	}
	say(!same, "order of the files in their folders", "order of the files in their folders (this file system sorts them itself)")
	say(r.o.Full, "kernel, runsc and packages, from empty caches", "kernel, runsc and packages (reused by digest; --full builds them twice)")
	r.e.sayf("varied: %s", strings.Join(r.result.Varied, "; "))
	r.e.sayf("not varied: %s", strings.Join(r.result.NotVaried, "; "))
	return nil
}

// goEnv asks go for the settings of the user.
func goEnv(ctx context.Context, dir string) (map[string]string, error) {
	cmd := exec.CommandContext(ctx, "go", append([]string{"env", "-json", "GOCACHE", "GOVERSION"}, goKnobs...)...)
	cmd.Dir = dir
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("asking go for its settings: %w", err)
	}
	var known map[string]string
	if err := json.Unmarshal(out, &known); err != nil {
		return nil, fmt.Errorf("asking go for its settings: %w", err)
	}
	return known, nil
}

// A locale is one that programs can be run under; folder is where it lies if
// that is not the system's place.
type locale struct{ name, folder string }

// otherLocale returns the locale that is least like C. Turkish is the best one:
// it has other capital letters. Where it is not installed it is made in work.
func otherLocale(ctx context.Context, work string) locale {
	out, err := exec.CommandContext(ctx, "locale", "-a").Output()
	if err != nil {
		return locale{name: "C"}
	}
	best := locale{name: "C"}
	for _, name := range strings.Fields(string(out)) {
		switch {
		case strings.HasPrefix(name, "tr_TR"):
			return locale{name: name}
		case name == "C" || name == "POSIX":
		case best.name == "C" || strings.HasPrefix(best.name, "C."):
			best = locale{name: name}
		}
	}
	const turkish = "tr_TR.UTF-8"
	folder := filepath.Join(work, "locale")
	if err := os.Mkdir(folder, 0o755); err != nil {
		return best
	}
	if err := exec.CommandContext(ctx, "localedef", "-i", "tr_TR", "-f", "UTF-8", filepath.Join(folder, turkish)).Run(); err != nil {
		return best
	}
	return locale{turkish, folder}
}

// oneCPU returns the command that runs another one on one processor, if there
// is more than that.
func oneCPU() []string {
	path, err := exec.LookPath("taskset")
	if err != nil || runtime.NumCPU() < 2 {
		return nil
	}
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err != nil {
		return nil
	}
	for cpu := range 8 * len(set) * 8 {
		if set.IsSet(cpu) {
			return []string{path, "-c", fmt.Sprint(cpu)}
		}
	}
	return nil
}

// shiftClock returns the command that runs another one at another time, if
// there is one. Programs in Go read the kernel's clock and do not notice.
func shiftClock() []string {
	path, err := exec.LookPath("faketime")
	if err != nil {
		return nil
	}
	return []string{path, "-f", fmt.Sprintf("+%dd", days)}
}
