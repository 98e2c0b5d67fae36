package images

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"
	"github.com/u-root/u-root/pkg/cpio"
)

func sample() []entry {
	return []entry{
		{file{"init", 0o755, program("./init")}, []byte("program")},
		{file{"dev", 0o755, directory()}, nil},
		{file{"dev/console", 0o600, device(5, 1)}, nil},
		{file{"etc", 0o755, directory()}, nil},
		{file{"etc/policy.json", 0o444, policy("json")}, []byte("{}")},
	}
}

func TestArchiveDependsOnItsEntriesAlone(t *testing.T) {
	first, err := writeArchive(sample())
	if err != nil {
		t.Fatal(err)
	}
	old := syscall.Umask(0o077)
	defer syscall.Umask(old)
	time.Sleep(1100 * time.Millisecond) // another second for whoever stamps one
	shuffled := sample()
	shuffled[0], shuffled[4] = shuffled[4], shuffled[0]
	second, err := writeArchive(shuffled)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(first, second) {
		t.Error("umask, time or order changed the archive")
	}
}

func TestArchiveHasOnlyWhatTheEntriesSay(t *testing.T) {
	b, err := writeArchive(sample())
	if err != nil {
		t.Fatal(err)
	}
	records, err := cpio.ReadAllRecords(cpio.Newc.Reader(bytes.NewReader(b)))
	if err != nil {
		t.Fatal(err)
	}
	type row struct {
		Name                             string
		Mode, Owner, Time, Ino, Maj, Min uint64
	}
	var got []row
	for _, r := range records {
		got = append(got, row{r.Name, r.Mode, r.UID | r.GID, r.MTime, r.Ino, r.Rmajor, r.Rminor})
	}
	want := []row{
		{"dev", 0o040755, 0, 0, 1, 0, 0},
		{"dev/console", 0o020600, 0, 0, 2, 5, 1},
		{"etc", 0o040755, 0, 0, 3, 0, 0},
		{"etc/policy.json", 0o100444, 0, 0, 4, 0, 0},
		{"init", 0o100755, 0, 0, 5, 0, 0},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if !bytes.Contains(b, []byte(cpio.Trailer)) {
		t.Error("no trailer: the kernel would read on")
	}
}

func TestArchiveRefusesWhatNobodyMeant(t *testing.T) {
	tests := []struct {
		name string
		e    entry
		want string
	}{
		{"an empty file", entry{file{"etc/policy.json", 0o444, policy("json")}, nil}, "no content"},
		{"a set-user-id program", entry{file{"init", 0o4755, program("./init")}, []byte("x")}, "more than permissions"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := writeArchive([]entry{tt.e}); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want one with %q", err, tt.want)
			}
		})
	}
}

func TestCompressionIsOneStreamThatAlwaysHasTheSameBytes(t *testing.T) {
	in := bytes.Repeat([]byte("a guest image is mostly program text. "), 1<<16)
	first, err := compress(in)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range []int{1, 2, 4} {
		w, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedBestCompression), zstd.WithEncoderConcurrency(n))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(first, w.EncodeAll(in, nil)) {
			t.Errorf("%d encoders give other bytes", n)
		}
	}
	var h zstd.Header
	if err := h.Decode(first); err != nil || h.Skippable || h.WindowSize > 128<<20 {
		t.Errorf("header %+v, error %v: the kernel refuses a window beyond 128 MiB", h, err)
	}
}

// The payload is listed in testdata, so that a new file in the measured image
// is a line in a review.
func TestPayloadIsTheListThatWasReviewed(t *testing.T) {
	for _, p := range profiles {
		t.Run(p.name, func(t *testing.T) {
			want, err := os.ReadFile(filepath.Join("testdata", "payload-"+p.name+".txt"))
			if err != nil {
				t.Fatal(err)
			}
			var got strings.Builder
			for _, f := range p.payload {
				got.WriteString(describe(f) + "\n")
			}
			if diff := cmp.Diff(string(want), got.String()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func describe(f file) string {
	kind := map[string]string{"directory": "d", "device": "c"}[f.from.kind]
	if kind == "" {
		kind = "-"
	}
	return kind + " " + strings.Repeat("0", 4-len(octal(f.mode))) + octal(f.mode) + " /" + f.path
}

func octal(mode uint64) string {
	s := ""
	for ; mode > 0; mode /= 8 {
		s = string(rune('0'+mode%8)) + s
	}
	return s
}

func TestProgramsOfTheImageAreWhatAnImageMayCarry(t *testing.T) {
	if testing.Short() {
		t.Skip("compiles programs")
	}
	dir := t.TempDir()
	source := `package main
import "fmt"
var where string
func main() { fmt.Println("hello", where) }
`
	good := "module probe\n\ngo 1.26.0\n"
	tests := []struct {
		name, gomod string
		flags       []string
		env         string
		want        string
	}{
		{"ours", good, goFlags, "CGO_ENABLED=0", ""},
		{"an old go line weakens TLS", "module probe\n\ngo 1.19\n", goFlags, "CGO_ENABLED=0", "DefaultGODEBUG"},
		{"paths not trimmed", good, []string{"-buildvcs=false"}, "CGO_ENABLED=0", "settings are missing"},
		{"position independent, with a loader", good, append([]string{"-buildmode=pie"}, goFlags...), "CGO_ENABLED=0", "-buildmode=pie"},
		{"symbols kept", good, []string{"-trimpath", "-buildvcs=false", "-ldflags=-w -buildid="}, "CGO_ENABLED=0", "other flags"},
		{"an identity kept", good, []string{"-trimpath", "-buildvcs=false", "-ldflags=-s -w"}, "CGO_ENABLED=0", "other flags"},
		{"with a tag", good, append([]string{"-tags=netgo"}, goFlags...), "CGO_ENABLED=0", "-tags=netgo"},
		{"naming its folder", good, append(slices.Clone(goFlags), "-ldflags=-s -w -buildid= -X main.where=WORK/main.go"), "CGO_ENABLED=0", "names its build folder"},
	}
	for i, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			work := filepath.Join(dir, string(rune('a'+i)))
			if err := os.Mkdir(work, 0o755); err != nil {
				t.Fatal(err)
			}
			for name, text := range map[string]string{"main.go": source, "go.mod": tt.gomod} {
				if err := os.WriteFile(filepath.Join(work, name), []byte(text), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			out := filepath.Join(work, "probe")
			args := append(append([]string{"build"}, tt.flags...), "-o", out, ".")
			for i := range args {
				args[i] = strings.ReplaceAll(args[i], "WORK", work)
			}
			cmd := exec.Command("go", args...)
			cmd.Dir = work
			cmd.Env = append(append(os.Environ(), goSettings...), tt.env)
			if said, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, said)
			}
			expect(t, CheckProgram(out, work), tt.want)
		})
	}
}

func TestProgramsWithALoaderOrOtherSettingsAreRefused(t *testing.T) {
	shell, err := os.ReadFile("/bin/sh")
	if err != nil {
		t.Skip("no /bin/sh")
	}
	expect(t, checkStatic(shell), "linked dynamically")
	var good []debug.BuildSetting
	for k, v := range programSettings {
		good = append(good, debug.BuildSetting{Key: k, Value: v})
	}
	expect(t, checkSettings(good), "")
	expect(t, checkSettings(good[1:]), "1 settings are missing")
	for key, want := range map[string]string{"GOAMD64": "GOAMD64=other", "GOEXPERIMENT": "no program", "vcs.revision": "checkout", "DefaultGODEBUG": "weakened"} {
		list := append(slices.DeleteFunc(slices.Clone(good), func(s debug.BuildSetting) bool { return s.Key == key }), debug.BuildSetting{Key: key, Value: "other"})
		expect(t, checkSettings(list), want)
	}
}

func expect(t *testing.T, err error, want string) {
	t.Helper()
	switch {
	case want == "" && err != nil:
		t.Errorf("error %v, want none", err)
	case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
		t.Errorf("error %v, want one with %q", err, want)
	}
}
