package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"omega/attest"
	"omega/images"
	"omega/internal/skip"
)

// checkout makes a git checkout of files, whose `omega build` is the script.
func checkout(t *testing.T, script string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{"go.mod": "module omega\n", "omega.sh": "#!/bin/sh -eu\n" + script, "a/b.txt": "b\n"} {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o755)); err != nil {
			t.Fatal(err)
		}
	}
	for _, args := range [][]string{{"init", "-q"}, {"add", "."}, {"-c", "user.name=t", "-c", "user.email=t@example.com", "commit", "-q", "-m", "t"}} {
		if out, err := exec.Command("git", append([]string{"-C", dir}, args...)...).CombinedOutput(); err != nil {
			t.Fatalf("git %q: %v\n%s", args, err, out)
		}
	}
	return dir
}

// A tried is one run of the verb over a checkout whose omega is a script.
type tried struct {
	out, words string
	err        error
	tmp        string // where the trees are made
}

func tryRepro(t *testing.T, ctx context.Context, dir string, o reproOptions) tried {
	t.Helper()
	tmp := t.TempDir()
	t.Setenv("TMPDIR", tmp)
	var out, words bytes.Buffer
	e := &env{Stdin: strings.NewReader(""), Stdout: &out, Stderr: &words}
	install := func(ctx context.Context, b *reproBuild) error {
		return b.run(ctx, "sh", "-c", "mkdir bin && cp omega.sh bin/omega && chmod 755 bin/omega")
	}
	r := &repro{e: e, o: o, source: dir, cache: t.TempDir(), memory: sharedMemory, compile: install,
		locale: func(context.Context, string) locale { return locale{name: "POSIX"} }}
	err := r.run(ctx)
	if r.elsewhere != "" {
		if _, err := os.Stat(r.elsewhere); err == nil {
			t.Errorf("%s is left behind", r.elsewhere)
		}
	}
	return tried{out.String(), words.String(), err, tmp}
}

// left returns what a run left behind.
func (tr tried) left(t *testing.T) []string {
	t.Helper()
	list, err := filepath.Glob(filepath.Join(tr.tmp, "*"))
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func codeOf(err error) int {
	var coded *exitError
	if errors.As(err, &coded) {
		return coded.code
	}
	if err != nil {
		return exitUsage
	}
	return exitOK
}

func TestTwoBuildsAreComparedUnderVariedConditions(t *testing.T) {
	// What a careless build would let into its result.
	leaks := map[string]string{
		"path": "pwd", "home": "echo $HOME", "time zone": "date -d @0 +%z:$TZ", "locale": "echo $LC_ALL", "processors": "echo $GOMAXPROCS",
		"Go's cache": "echo $GOCACHE", "umask": "umask", "modes in the tree": "stat -c %a a/b.txt a", "age of the files": "stat -c %Y a/b.txt",
		"temporary folder": "echo $TMPDIR", "module proxy": "echo $GOPROXY",
	}
	if len(oneCPU()) > 0 {
		leaks["processors that there are"] = "nproc --ignore=0"
	}
	if canShiftClock(t.Context()) || len(shiftClock()) > 0 {
		leaks["clock"] = "date +%Y-%m"
	}
	if dir, err := otherFileSystem(sharedMemory); err == nil && dir != "" {
		leaks["order of files"] = "ls -U"
		if err := os.Remove(dir); err != nil {
			t.Fatal(err)
		}
	}
	if canMapUser(t.Context()) {
		leaks["user"] = "id -u"
	}
	for name, leak := range leaks {
		t.Run(name, func(t *testing.T) {
			dir := checkout(t, "mkdir -p build/cpu\necho same > build/cpu/kernel\n"+leak+" > build/cpu/cmdline\n")
			tr := tryRepro(t, t.Context(), dir, reproOptions{})
			if codeOf(tr.err) != exitMismatch {
				t.Fatalf("error %v, want exit code %d\n%s%s", tr.err, exitMismatch, tr.out, tr.words)
			}
			if !strings.Contains(tr.out, "DIFFERS  cmdline") || !strings.Contains(tr.out, "  kernel\n") {
				t.Errorf("stdout: %s", tr.out)
			}
			kept, err := filepath.Glob(filepath.Join(tr.tmp, "omega-repro-*", "*", "src", "build", "cpu", "cmdline"))
			if err != nil || len(kept) != 2 {
				t.Errorf("kept %q, want both results", kept)
			}
			for _, path := range kept {
				if tree := strings.TrimSuffix(path, "/build/cpu/cmdline"); !strings.Contains(tr.words, tree) {
					t.Errorf("words do not name %s: %s", tree, tr.words)
				}
			}
		})
	}
}

func TestTheImageIsBuiltWithThePolicyThatIsNamed(t *testing.T) {
	dir := checkout(t, "mkdir -p build/cpu\nprintf '%s ' \"$@\" > build/cpu/cmdline\n")
	policy := filepath.Join(t.TempDir(), "policy.yaml")
	writeTestFile(t, policy, []byte("x"))
	tr := tryRepro(t, t.Context(), dir, reproOptions{Policy: policy, JSON: true})
	var got reproResult
	if err := json.Unmarshal([]byte(tr.out), &got); err != nil || tr.err != nil {
		t.Fatalf("%v, %v in %s", tr.err, err, tr.out)
	}
	want := sha256.Sum256([]byte("build --profile cpu --policy " + policy + " "))
	if len(got.Artifacts) != 1 || got.Artifacts[0].SHA256[1] != hex.EncodeToString(want[:]) {
		t.Errorf("artifacts %+v", got.Artifacts)
	}
	if tr := tryRepro(t, t.Context(), dir, reproOptions{Policy: policy + "x"}); tr.err == nil || !strings.Contains(tr.err.Error(), "--policy") {
		t.Errorf("a policy that is not there: %v", tr.err)
	}
}

func TestAnUnpackedCommitIsTheTreeThatGitNames(t *testing.T) {
	dir := checkout(t, "")
	want, err := git(t.Context(), dir, "rev-parse", "HEAD^{tree}")
	if err != nil {
		t.Fatal(err)
	}
	tree, err := committed(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range []*reproBuild{{umask: 0o022}, {umask: 0o077, reverse: true, older: time.Hour}} {
		b.tree = t.TempDir()
		if err := tree.unpack(b); err != nil {
			t.Fatal(err)
		}
		got, err := images.SourceRevision(b.tree)
		if err != nil || got.GitTree+"\n" != string(want) {
			t.Errorf("tree %s, %v; git says %s", got.GitTree, err, want)
		}
	}
}

func TestTheSecondBuildRunsUnderTheTurkishLocale(t *testing.T) {
	if _, err := os.Stat("/usr/share/i18n/locales/tr_TR"); err != nil {
		skip.Missing(t, "apt-get install locales gives the locale")
	}
	l := otherLocale(t.Context(), t.TempDir())
	cmd := exec.Command("date", "-d", "2026-11-01", "+%B")
	cmd.Env = append(os.Environ(), "LC_ALL="+l.name)
	if l.folder != "" {
		cmd.Env = append(cmd.Env, "LOCPATH="+l.folder)
	}
	if out, err := cmd.Output(); err != nil || string(out) != "Kas\u0131m\n" {
		t.Errorf("under %+v November is %q, %v", l, out, err)
	}
}

func TestEqualBuildsLeaveNothingBehind(t *testing.T) {
	dir := checkout(t, "mkdir -p build/cpu\ncat a/b.txt > build/cpu/kernel\n")
	if err := os.WriteFile(filepath.Join(dir, "a", "b.txt"), []byte("changed\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	tr := tryRepro(t, t.Context(), dir, reproOptions{JSON: true})
	if tr.err != nil {
		t.Fatalf("error %v\n%s", tr.err, tr.words)
	}
	if !strings.Contains(tr.words, "uncommitted changes") {
		t.Errorf("words do not tell of uncommitted changes: %s", tr.words)
	}
	var got reproResult
	if err := json.Unmarshal([]byte(tr.out), &got); err != nil {
		t.Fatalf("%v in %s", err, tr.out)
	}
	// SHA-256 of "b\n": what is committed, not what lies there.
	const b = "0263829989b6fd954f72baaf2fc64bc2e2f01d692d4de72986ea808f6e99813f"
	if len(got.Artifacts) != 1 || got.Artifacts[0].SHA256 != [2]string{b, b} || len(got.Differences) != 0 || got.Kept != "" {
		t.Errorf("result %+v", got)
	}
	if left := tr.left(t); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}

func TestABuildThatBreaksIsToldAndClearedAway(t *testing.T) {
	dir := checkout(t, "echo the reason >&2\nexit 1\n")
	tr := tryRepro(t, t.Context(), dir, reproOptions{})
	if codeOf(tr.err) != exitUsage || !strings.Contains(tr.err.Error(), "the reason") {
		t.Errorf("error %v, want exit code %d and the reason", tr.err, exitUsage)
	}
	if left := tr.left(t); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}

func TestAnInterruptedBuildIsClearedAway(t *testing.T) {
	started := filepath.Join(t.TempDir(), "started")
	dir := checkout(t, "echo $$ > '"+started+"'\nsleep 60\n")
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		for ctx.Err() == nil {
			if _, err := os.Stat(started); err == nil {
				cancel()
			}
			time.Sleep(10 * time.Millisecond)
		}
	}()
	begin := time.Now()
	tr := tryRepro(t, ctx, dir, reproOptions{})
	if !errors.Is(tr.err, context.Canceled) {
		t.Errorf("error %v, want %v", tr.err, context.Canceled)
	}
	if took := time.Since(begin); took > 20*time.Second {
		t.Errorf("took %s", took)
	}
	if left := tr.left(t); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}

func TestReproSaysWhyItCannotBuild(t *testing.T) {
	t.Setenv("GIT_CEILING_DIRECTORIES", os.TempDir())
	plain := t.TempDir()
	foreign := checkout(t, "")
	inside := filepath.Join(foreign, "unpacked")
	if err := os.Mkdir(inside, 0o755); err != nil {
		t.Fatal(err)
	}
	tests := []struct{ name, dir, want string }{
		{"a tarball without git", plain, "is not a git checkout"},
		{"a tarball inside another repository", inside, "tarball"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tr := tryRepro(t, t.Context(), tt.dir, reproOptions{})
			if tr.err == nil || !strings.Contains(tr.err.Error(), tt.want) {
				t.Errorf("error %v, want one with %q", tr.err, tt.want)
			}
		})
	}
}

// release writes a manifest.json as a release would have it.
func release(t *testing.T, change func(*attest.Manifest)) string {
	t.Helper()
	m := &attest.Manifest{
		Type: attest.StatementType, PredicateType: attest.ReleasePredicate,
		Subject: []attest.Subject{{Name: "kernel", Digest: attest.SubjectDigest{SHA256: attest.Bytes32{1}}}},
		Predicate: attest.Release{
			Profile: "cpu", SVN: 1, Expires: time.Date(2027, 1, 2, 3, 4, 5, 0, time.UTC), PolicyDigest: attest.Bytes32{2}, Go: "go1.0",
			LaunchDigests: []attest.LaunchDigest{{VCPUs: 2, CPU: "EPYC-Milan", GuestFeatures: "0x1", Digest: attest.Bytes48{3}}},
		},
	}
	if change != nil {
		change(m)
	}
	b, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "manifest.json")
	if err := os.WriteFile(path, b, 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestOneBuildIsComparedWithARelease(t *testing.T) {
	tests := []struct {
		name   string
		change func(*attest.Manifest)
		want   []string // nothing: the build is the release
	}{
		{"equal", nil, nil},
		{"another kernel", func(m *attest.Manifest) { m.Subject[0].Digest.SHA256 = attest.Bytes32{9} },
			[]string{"artifact kernel", "- 09", "+ 01"}},
		{"an artifact that is not built", func(m *attest.Manifest) { m.Subject[0].Name = "disk" },
			[]string{"artifact disk", "artifact kernel", "(missing)"}},
		{"another launch digest", func(m *attest.Manifest) { m.Predicate.LaunchDigests[0].Digest = attest.Bytes48{9} },
			[]string{"launch digest for 2 vCPUs of EPYC-Milan", hex.EncodeToString([]byte{9, 0, 0})}},
		{"another policy", func(m *attest.Manifest) { m.Predicate.PolicyDigest = attest.Bytes32{9} }, []string{"policy digest"}},
	}
	dir := checkout(t, "mkdir -p build/cpu\ncp '"+release(t, nil)+"' build/cpu/manifest.json\n")
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tr := tryRepro(t, t.Context(), dir, reproOptions{Against: release(t, tt.change)})
			if want := map[bool]int{true: exitOK, false: exitMismatch}[tt.want == nil]; codeOf(tr.err) != want {
				t.Fatalf("error %v, want exit code %d", tr.err, want)
			}
			for _, want := range tt.want {
				if !strings.Contains(tr.out, want) {
					t.Errorf("stdout does not have %q: %s", want, tr.out)
				}
			}
			if kept := len(tr.left(t)) > 0; kept != (tt.want != nil) {
				t.Errorf("tree kept: %v", kept)
			}
			if !strings.Contains(tr.words, "go1.0") {
				t.Errorf("words do not tell of another Go: %s", tr.words)
			}
		})
	}
}

// A clean-up of the machine's that takes the tree away is told as that, and not
// as a shell that is missing.
func TestATreeThatVanishesIsNamed(t *testing.T) {
	tree := filepath.Join(t.TempDir(), "gone")
	b := &reproBuild{tree: tree, log: filepath.Join(t.TempDir(), "log")}
	if err := b.run(t.Context(), "true"); !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), tree) || strings.Contains(err.Error(), "fork") {
		t.Errorf("error %v", err)
	}
}
