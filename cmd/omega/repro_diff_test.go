package main

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/u-root/u-root/pkg/cpio"
)

// initrd packs records the way an image is packed.
func initrd(t *testing.T, level zstd.EncoderLevel, records ...cpio.Record) []byte {
	t.Helper()
	var raw bytes.Buffer
	w := cpio.Newc.Writer(&raw)
	for i, r := range records {
		r.Ino, r.NLink = uint64(len(r.Name)), 1
		if err := w.WriteRecord(r); err != nil {
			t.Fatalf("record %d: %v", i, err)
		}
	}
	if err := cpio.WriteTrailer(w); err != nil {
		t.Fatal(err)
	}
	z, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(level))
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	return z.EncodeAll(raw.Bytes(), nil)
}

func TestADifferenceIsNamedInsideTheArtifact(t *testing.T) {
	best := zstd.SpeedBestCompression
	program := cpio.StaticFile("init", strings.Repeat("a program ", 1000), 0o755)
	other := cpio.StaticFile("init", strings.Repeat("a program ", 999)+"a problem ", 0o755)
	readable := cpio.StaticFile("init", strings.Repeat("a program ", 1000), 0o777)
	late := program
	late.MTime = 7
	shim := cpio.StaticFile("bin/shim", "shim", 0o755)
	image := initrd(t, best, shim, program)
	tests := []struct {
		name string
		a, b map[string][]byte
		want []string
	}{
		{"equal", map[string][]byte{"initrd": image, "kernel": {1}}, map[string][]byte{"initrd": image, "kernel": {1}}, nil},
		{"an entry's mode", map[string][]byte{"initrd": image}, map[string][]byte{"initrd": initrd(t, best, shim, readable)},
			[]string{"initrd: file init: mode 0100755 and 0100777"}},
		{"an entry's time", map[string][]byte{"initrd": image}, map[string][]byte{"initrd": initrd(t, best, shim, late)},
			[]string{"initrd: file init: time 0 and 7"}},
		{"an entry's content", map[string][]byte{"initrd": image}, map[string][]byte{"initrd": initrd(t, best, shim, other)},
			[]string{"initrd: file init: content differs from byte 9995 on (10000 bytes and 10000 bytes)"}},
		{"an entry that is missing", map[string][]byte{"initrd": image}, map[string][]byte{"initrd": initrd(t, best, program)},
			[]string{"initrd: file bin/shim: only in the first build"}},
		{"an entry more", map[string][]byte{"initrd": initrd(t, best, shim)}, map[string][]byte{"initrd": image},
			[]string{"initrd: file init: only in the second build"}},
		{"the order of entries", map[string][]byte{"initrd": image}, map[string][]byte{"initrd": initrd(t, best, program, shim)},
			[]string{"initrd: the entries are equal but stand in another order"}},
		{"the compression", map[string][]byte{"initrd": image}, map[string][]byte{"initrd": initrd(t, zstd.SpeedFastest, shim, program)},
			[]string{"initrd: the entries are equal, but not their compression"}},
		{"an archive that cannot be read", map[string][]byte{"initrd": image}, map[string][]byte{"initrd": []byte("nonsense")},
			[]string{"initrd: differs from byte 0 on", "initrd: what is inside cannot be compared: second build"}},
		{"a file that only one made", map[string][]byte{"kernel": {1}}, map[string][]byte{"kernel": {1}, "ovmf.fd": {2}},
			[]string{"ovmf.fd: only the second build made it"}},
		{"a file that is shorter", map[string][]byte{"kernel": {1, 2, 3}}, map[string][]byte{"kernel": {1, 2}},
			[]string{"kernel: differs from byte 2 on (3 bytes and 2 bytes)"}},
		{"a line of text", map[string][]byte{"kernel.config": []byte("A=y\nB=y\n")}, map[string][]byte{"kernel.config": []byte("A=y\nB=n\n")},
			[]string{`kernel.config: line 2: "B=y" and "B=n"`}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			list, err := compareFolders(folder(t, tt.a), folder(t, tt.b))
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, f := range list {
				for _, d := range f.Differences {
					got = append(got, f.Name+": "+d)
				}
			}
			if !slices.EqualFunc(got, tt.want, strings.HasPrefix) {
				t.Errorf("differences %q, want %q", got, tt.want)
			}
		})
	}
}

func folder(t *testing.T, files map[string][]byte) string {
	t.Helper()
	dir := t.TempDir()
	for name, b := range files {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestNothingIsNotEqualToNothing(t *testing.T) {
	if list, err := compareFolders(t.TempDir(), t.TempDir()); err == nil {
		t.Errorf("two empty folders are equal: %v", list)
	}
}
