package flatten

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/erofs/go-erofs"
	"github.com/google/go-cmp/cmp"

	"omega/internal/skip"
)

// entry is a tar entry in short.
type entry struct {
	flag byte
	name string
	body string // contents or link target
}

func file(name, body string) entry { return entry{tar.TypeReg, name, body} }
func dir(name string) entry        { return entry{tar.TypeDir, name, ""} }
func link(name, to string) entry   { return entry{tar.TypeSymlink, name, to} }
func hard(name, to string) entry   { return entry{tar.TypeLink, name, to} }

func layer(t testing.TB, entries ...entry) *bytes.Buffer {
	t.Helper()
	b := new(bytes.Buffer)
	w := tar.NewWriter(b)
	for _, e := range entries {
		h := &tar.Header{Typeflag: e.flag, Name: e.name, Mode: 0o644, ModTime: time.Unix(1700000000, 0), Format: tar.FormatPAX}
		if e.flag == tar.TypeReg {
			h.Size = int64(len(e.body))
		} else {
			h.Linkname = e.body
		}
		if e.flag == tar.TypeDir {
			h.Mode = 0o755
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if e.flag == tar.TypeReg {
			if _, err := io.WriteString(w, e.body); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b
}

var roomy = Limits{Bytes: 1 << 20, Entries: 1000}

func build(t testing.TB, limits Limits, layers ...io.Reader) (*os.File, error) {
	t.Helper()
	f, err := New(t.TempDir(), limits)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, l := range layers {
		if err := f.AddLayer(l); err != nil {
			return nil, err
		}
	}
	out, err := os.Create(filepath.Join(t.TempDir(), "image"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { out.Close() })
	return out, f.Finish(out, File{Path: ".omega/shim", Data: []byte("shim"), Mode: 0o755})
}

// list reads an image back: path -> contents or "-> target", "/" for a directory.
func list(t testing.TB, image *os.File) map[string]string {
	t.Helper()
	fsys, err := erofs.Open(image)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	err = fs.WalkDir(fsys, ".", func(p string, d fs.DirEntry, err error) error {
		switch {
		case err != nil || p == ".":
			return err
		case d.IsDir():
			got[p] = "/"
		case d.Type() == fs.ModeSymlink:
			target, err := fs.ReadLink(fsys, p)
			got[p] = "-> " + target
			return err
		default:
			b, err := fs.ReadFile(fsys, p)
			got[p] = string(b)
			return err
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{"proc", "dev", "sys", "tmp", ".omega"} {
		if got[p] != "/" {
			t.Errorf("no directory /%s", p)
		}
		delete(got, p)
	}
	for _, p := range filePoints {
		if _, own := got[p]; !own {
			t.Errorf("no /%s", p)
		}
		if got[p] == "/" {
			delete(got, p)
		}
	}
	if got[".omega/shim"] != "shim" {
		t.Errorf("shim holds %q", got[".omega/shim"])
	}
	delete(got, ".omega/shim")
	return got
}

func TestLayersLieOverOneAnother(t *testing.T) {
	tests := []struct {
		name   string
		layers [][]entry
		want   map[string]string
	}{
		{"one layer", [][]entry{{dir("./"), dir("a/"), file("a/b", "1"), link("c", "/a/b"), hard("d", "a/b")}},
			map[string]string{"a": "/", "a/b": "1", "c": "-> /a/b", "d": "1"}},
		{"missing parents appear", [][]entry{{file("x/y/z", "1")}},
			map[string]string{"x": "/", "x/y": "/", "x/y/z": "1"}},
		{"the upper file counts", [][]entry{{file("a", "1")}, {file("a", "2")}}, map[string]string{"a": "2"}},
		{"a whiteout removes a file", [][]entry{{file("a", "1"), file("b", "1")}, {file(".wh.a", "")}}, map[string]string{"b": "1"}},
		{"a whiteout removes a tree", [][]entry{{file("d/a", "1")}, {file(".wh.d", "")}}, map[string]string{}},
		{"a whiteout spares its own layer", [][]entry{{file("d/a", "1")}, {file("d/b", "2"), file(".wh.d", "")}},
			map[string]string{"d": "/", "d/b": "2"}},
		{"an opaque directory hides the lower", [][]entry{{file("d/a", "1"), file("d/e/f", "1")}, {dir("d/"), file("d/b", "2"), file("d/.wh..wh..opq", "")}},
			map[string]string{"d": "/", "d/b": "2"}},
		{"opaque first, same result", [][]entry{{file("d/a", "1")}, {dir("d/"), file("d/.wh..wh..opq", ""), file("d/b", "2")}},
			map[string]string{"d": "/", "d/b": "2"}},
		{"a whiteout of nothing", [][]entry{{file("a", "1"), file("no/.wh.x", "")}}, map[string]string{"a": "1"}},
		{"a directory merges", [][]entry{{file("d/a", "1")}, {dir("d/"), file("d/b", "2")}},
			map[string]string{"d": "/", "d/a": "1", "d/b": "2"}},
		{"a file replaces a tree", [][]entry{{file("d/a", "1")}, {file("d", "2")}}, map[string]string{"d": "2"}},
		{"a directory replaces a symlink", [][]entry{{link("d", "/etc")}, {dir("d"), file("d/a", "1")}},
			map[string]string{"d": "/", "d/a": "1"}},
		{"a hard link outlives its first name", [][]entry{{file("a", "1")}, {hard("b", "a"), file(".wh.a", "")}}, map[string]string{"b": "1"}},
		{"a symlink may point outside", [][]entry{{link("a", "../../../etc/passwd")}}, map[string]string{"a": "-> ../../../etc/passwd"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var layers []io.Reader
			for _, l := range tt.layers {
				layers = append(layers, layer(t, l...))
			}
			image, err := build(t, roomy, layers...)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, list(t, image)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestHostileEntriesAreRefused(t *testing.T) {
	huge := func() *bytes.Buffer {
		b := new(bytes.Buffer)
		w := tar.NewWriter(b)
		if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "zeros", Size: 10 << 30}); err != nil {
			t.Fatal(err)
		}
		return b
	}
	truncated := func() *bytes.Buffer {
		b := layer(t, file("a", strings.Repeat("x", 2000)))
		b.Truncate(1024)
		return b
	}
	var many []entry
	for i := range roomy.Entries + 1 {
		many = append(many, dir(fmt.Sprintf("d%d", i)))
	}
	var implied, long, far []entry
	for i := range roomy.Entries / 10 {
		implied = append(implied, file(fmt.Sprintf("%d/%sx", i, strings.Repeat("n/", 60)), ""))
		long = append(long, file(fmt.Sprintf("%d%s", i, strings.Repeat("/"+strings.Repeat("n", 250), 16)), ""))
		far = append(far, link(fmt.Sprint(i), strings.Repeat("n", 4000)))
	}
	entries := func(e ...entry) []io.Reader { return []io.Reader{layer(t, e...)} }
	tests := []struct {
		name   string
		layers []io.Reader
		want   error
	}{
		{"climbing name", entries(file("../x", "")), ErrEntry},
		{"climbing in the middle", entries(file("a/../../x", "")), ErrEntry},
		{"climbing that stays inside", entries(file("a/../x", "")), ErrEntry},
		{"absolute name", entries(file("/x", "")), ErrEntry},
		{"through a symlink", entries(link("a", "/etc"), file("a/passwd", "x")), ErrEntry},
		{"through a symlink of a lower layer", []io.Reader{layer(t, link("a", "..")), layer(t, file("a/x", ""))}, ErrEntry},
		{"directory through a symlink", entries(link("a", ".."), dir("a/b/")), ErrEntry},
		{"below a file", entries(file("a", ""), file("a/b", "")), ErrEntry},
		{"character device", entries(entry{tar.TypeChar, "null", ""}), ErrEntry},
		{"block device", entries(entry{tar.TypeBlock, "sda", ""}), ErrEntry},
		{"fifo", entries(entry{tar.TypeFifo, "pipe", ""}), ErrEntry},
		{"unknown type", entries(entry{'Z', "z", ""}), ErrEntry},
		{"hard link outside", entries(hard("a", "../../etc/passwd")), ErrEntry},
		{"hard link to an absolute name", entries(hard("a", "/etc/passwd")), ErrEntry},
		{"hard link to nothing", entries(hard("a", "b")), ErrEntry},
		{"hard link to a directory", entries(dir("d"), hard("a", "d")), ErrEntry},
		{"hard link to a symlink", entries(link("s", "/etc"), hard("a", "s")), ErrEntry},
		{"hard link through a symlink", entries(link("s", "/etc"), hard("a", "s/passwd")), ErrEntry},
		{"same file twice", entries(file("a", "1"), file("a", "2")), ErrEntry},
		{"same file, spelt otherwise", entries(file("d/a", "1"), file("./d//a", "2")), ErrEntry},
		{"file over a directory of its layer", entries(file("d/a", "1"), file("d", "2")), ErrEntry},
		{"whiteout of nothing named", entries(file(".wh.", "")), ErrEntry},
		{"whiteout of the parent", entries(file("a/b", ""), file("a/.wh...", "")), ErrEntry},
		{"reserved whiteout", entries(file("a/b", ""), file("a/.wh..wh.plnk", "")), ErrEntry},
		{"the platform's directory", entries(file(".omega/shim", "evil")), ErrEntry},
		{"the platform's directory as a symlink", entries(link(".omega", "/tmp")), ErrEntry},
		{"a mount point as a symlink", entries(link("proc", "/etc")), ErrEntry},
		{"a mount point as a file", entries(file("tmp", "")), ErrEntry},
		{"empty name", entries(file(".", "")), ErrEntry},
		{"long name", entries(file(strings.Repeat("n", 256), "")), ErrEntry},
		{"long path", entries(file(strings.Repeat("n/", 2100)+"x", "")), ErrEntry},
		{"deep path", entries(file(strings.Repeat("n/", 100)+"x", "")), ErrEntry},
		{"name that is not UTF-8", entries(file("a\xff", "")), ErrEntry},
		{"empty symlink", entries(link("a", "")), ErrEntry},
		{"10 GB of zeros", []io.Reader{huge()}, ErrSize},
		{"10 GB in a sparse file", []io.Reader{sparse(10 << 30)}, ErrSize},
		{"a sparse file that ends before its map", []io.Reader{sparse(1)}, tar.ErrHeader},
		{"many entries", entries(many...), ErrSize},
		{"many directories in a few names", entries(implied...), ErrSize},
		{"long names", entries(long...), ErrSize},
		{"long link targets", entries(far...), ErrSize},
		{"cut short", []io.Reader{truncated()}, io.ErrUnexpectedEOF},
		{"not a tar", []io.Reader{strings.NewReader(strings.Repeat("hello", 300))}, tar.ErrHeader},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := build(t, roomy, tt.layers...)
			if !errors.Is(err, tt.want) {
				t.Errorf("error %v, want %v", err, tt.want)
			}
		})
	}
}

// sparse is a layer of one file in GNU's sparse form that has no bytes and says that it is size long.
func sparse(size int64) io.Reader {
	b := make([]byte, 3*512)
	octal := func(at, width int, n int64) { copy(b[at:at+width], fmt.Sprintf("%0*o\x00", width-1, n)) }
	copy(b, "hole")
	octal(100, 8, 0o644)
	octal(108, 8, 0)
	octal(116, 8, 0)
	octal(124, 12, 0) // bytes that are there
	octal(136, 12, 0)
	b[156] = tar.TypeGNUSparse
	copy(b[257:], "ustar  \x00")
	octal(386, 12, 10<<30) // the map's only entry: nothing, at the end of 10 GB
	octal(398, 12, 0)
	octal(483, 12, size)
	copy(b[148:156], "        ")
	sum := int64(0)
	for _, c := range b[:512] {
		sum += int64(c)
	}
	copy(b[148:156], fmt.Sprintf("%06o\x00 ", sum))
	return bytes.NewReader(b)
}

func TestLimitsCoverAllLayersTogether(t *testing.T) {
	big := strings.Repeat("x", 700<<10)
	if _, err := build(t, roomy, layer(t, file("a", big))); err != nil {
		t.Fatal(err)
	}
	_, err := build(t, roomy, layer(t, file("a", big)), layer(t, file("a", big)))
	if !errors.Is(err, ErrSize) {
		t.Errorf("error %v, want ErrSize", err)
	}
	if _, err := build(t, Limits{}, layer(t, file("a", "1"))); !errors.Is(err, ErrSize) {
		t.Errorf("zero limits: error %v, want ErrSize", err)
	}
}

func TestSameLayersGiveTheSameImage(t *testing.T) {
	sum := func() [32]byte {
		image, err := build(t, roomy, layer(t, file("b", "1"), dir("a"), link("c", "b"), file("a/long", strings.Repeat("z", 9000))), layer(t, file("a/x", "2")))
		if err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(image.Name())
		if err != nil {
			t.Fatal(err)
		}
		return sha256.Sum256(b)
	}
	if a, b := sum(), sum(); a != b {
		t.Errorf("%x and %x", a, b)
	}
}

func TestMetadataSurvives(t *testing.T) {
	b := new(bytes.Buffer)
	w := tar.NewWriter(b)
	for _, h := range []*tar.Header{
		{Typeflag: tar.TypeReg, Name: "suid", Mode: 0o6755, Uid: 7, Gid: 70000, ModTime: time.Unix(1650000000, 0)},
		{Typeflag: tar.TypeDir, Name: "open", Mode: 0o1777, ModTime: time.Unix(0, 0)},
	} {
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
	}
	w.Close()
	image, err := build(t, roomy, b)
	if err != nil {
		t.Fatal(err)
	}
	fsys, err := erofs.Open(image)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]struct {
		mode     uint32
		uid, gid uint32
		mtime    int64
	}{
		"suid": {0o755, 7, 70000, 1650000000},
		"open": {0o1777, 0, 0, stamp},
	} {
		i, err := fs.Stat(fsys, name)
		if err != nil {
			t.Fatal(err)
		}
		s := i.Sys().(*erofs.Stat)
		// The reader mixes raw and fs.FileMode bits; the raw permission bits are right.
		if uint32(i.Mode())&0o7777 != want.mode || s.UID != want.uid || s.GID != want.gid || i.ModTime().Unix() != want.mtime {
			t.Errorf("%s: %#o %d:%d %d, want %+v", name, uint32(i.Mode())&0o7777, s.UID, s.GID, i.ModTime().Unix(), want)
		}
	}
}

// Hard links cost nothing: they share their contents.
func TestHardLinksAreOneFile(t *testing.T) {
	entries := []entry{file("a", strings.Repeat("x", 1<<19))}
	for i := range 100 {
		entries = append(entries, hard(fmt.Sprintf("b%d", i), "a"))
	}
	image, err := build(t, roomy, layer(t, entries...))
	if err != nil {
		t.Fatal(err)
	}
	if i, err := image.Stat(); err != nil || i.Size() > 1<<20 {
		t.Errorf("image of %d bytes, %v", i.Size(), err)
	}
	if got := list(t, image); len(got) != 101 || got["b99"] != got["a"] {
		t.Errorf("%d files", len(got))
	}
	fsys, err := erofs.Open(image)
	if err != nil {
		t.Fatal(err)
	}
	if i, err := fs.Stat(fsys, "b7"); err != nil || i.Sys().(*erofs.Stat).Nlink != 101 {
		t.Errorf("%+v, %v", i.Sys(), err)
	}
}

// A foreign tool's opinion of the image.
func TestFsckAgrees(t *testing.T) {
	fsck, err := exec.LookPath("fsck.erofs")
	if err != nil {
		skip.Missing(t, "fsck.erofs is not installed; apt-get install erofs-utils gives it")
	}
	var entries []entry
	for i := range 600 {
		entries = append(entries, file(fmt.Sprintf("many/file-with-a-long-name-%d", i), strings.Repeat("x", i*7)))
	}
	for i := range 100 { // links and folders of many sizes, which stand beside their inodes
		entries = append(entries, link(fmt.Sprintf("links/%d", i), strings.Repeat("t", 1+i*40)),
			file(fmt.Sprintf("folders/%d/%s", i, strings.Repeat("n", 1+i*2)), "x"))
	}
	image, err := build(t, roomy.times(4), layer(t, entries...), layer(t, link("l", "many"), dir("e")))
	if err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(fsck, image.Name()).CombinedOutput(); err != nil {
		t.Errorf("fsck.erofs: %v\n%s", err, out)
	}
	got := list(t, image)
	for _, e := range entries {
		want := e.body
		if e.flag == tar.TypeSymlink {
			want = "-> " + want
		}
		if got[e.name] != want {
			t.Errorf("%.80s: %.80q, want %.80q", e.name, got[e.name], want)
		}
	}
}

func (l Limits) times(n int) Limits { return Limits{l.Bytes * int64(n), l.Entries * n} }

func TestNothingIsLeftBehind(t *testing.T) {
	dir := t.TempDir()
	f, err := New(dir, roomy)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.AddLayer(layer(t, file("../../escape", "x"))); err == nil {
		t.Error("escape accepted")
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if left, _ := os.ReadDir(dir); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func FuzzAddLayer(f *testing.F) {
	f.Add(layer(f, file("a", "1"), dir("d"), link("l", "a"), hard("h", "a"), file("d/.wh..wh..opq", "")).Bytes())
	f.Add(layer(f, file("../x", "")).Bytes())
	f.Fuzz(func(t *testing.T, b []byte) {
		image, err := build(t, roomy, layer(t, file("base/a", "1")), bytes.NewReader(b))
		if err != nil {
			return
		}
		if _, err := erofs.Open(image); err != nil {
			t.Fatalf("image written but not read: %v", err)
		}
	})
}
