package writer

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"omega/policy/provenance"
)

// memory is a disk of a fixed size.
type memory struct {
	b    []byte
	fail error
}

func (m *memory) ReadAt(p []byte, off int64) (int, error) {
	if off >= int64(len(m.b)) {
		return 0, io.EOF
	}
	n := copy(p, m.b[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (m *memory) WriteAt(p []byte, off int64) (int, error) {
	if m.fail != nil {
		return 0, m.fail
	}
	if off+int64(len(p)) > int64(len(m.b)) {
		return 0, io.ErrShortWrite
	}
	return copy(m.b[off:], p), nil
}

// records reads a disk as an auditor would.
func records(b []byte) []provenance.Record {
	var out []provenance.Record
	for offset := 0; ; {
		r, size, err := provenance.ParseRecord(b[offset:], uint64(offset))
		if err != nil {
			return out
		}
		out = append(out, r)
		offset += size
	}
}

func fill(t *testing.T, d Disk, entries int) {
	t.Helper()
	c := newSigner(t).config()
	c.Disk = d
	w, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	for range entries {
		if _, err := w.Append(t.Context(), boot()); err != nil {
			t.Fatal(err)
		}
	}
	w.Close()
}

// boots fills a disk with the logs of several boots and returns their keys.
func boots(t *testing.T, d Disk, origins ...string) map[string]*signer {
	t.Helper()
	signers := map[string]*signer{}
	for i, name := range origins {
		s := newSigner(t)
		c := s.config()
		c.Origin, c.Disk = name, d
		w, err := New(c)
		if err != nil {
			t.Fatal(err)
		}
		for range 100*i + 3 {
			if _, err := w.Append(t.Context(), boot()); err != nil {
				t.Fatal(err)
			}
		}
		w.Close()
		signers[name] = s
	}
	return signers
}

func TestEveryBootsLogIsVerifiedFromTheDisk(t *testing.T) {
	d := &memory{b: make([]byte, 4<<20)}
	signers := boots(t, d, "omega/one", "omega/two", "omega/three")
	for want, size := range map[string]uint64{"": 204, "omega/one": 4, "omega/two": 104, "omega/three": 204} {
		log, err := provenance.OpenDisk(t.Context(), d, want)
		if err != nil {
			t.Fatal(err)
		}
		s := signers[want]
		if s == nil {
			s = signers["omega/three"]
		}
		sum, err := provenance.Verify(t.Context(), log, provenance.Options{LogKey: s.public(), Origin: want})
		if err != nil || sum.Checkpoint.Size != size || len(log.Origins) != 3 {
			t.Errorf("%q: %+v of %d boots, error %v", want, sum, len(log.Origins), err)
		}
	}
	if _, err := provenance.OpenDisk(t.Context(), d, "omega/four"); !errors.Is(err, provenance.ErrNoLog) {
		t.Errorf("a boot that never was: error %v", err)
	}
	if _, err := provenance.OpenDisk(t.Context(), &memory{b: make([]byte, 1<<20)}, ""); !errors.Is(err, provenance.ErrNoLog) {
		t.Errorf("an empty disk: error %v", err)
	}
}

func TestALiarsDiskIsRefused(t *testing.T) {
	d := &memory{b: make([]byte, 64<<10)}
	s := boots(t, d, "omega/one")["omega/one"]
	whole := records(d.b)
	rewrite := func(keep func(i int, r *provenance.Record) bool) *memory {
		out := &memory{b: make([]byte, len(d.b))}
		var b []byte
		for i, r := range whole {
			r.Payload = append([]byte(nil), r.Payload...)
			if !keep(i, &r) {
				continue
			}
			var err error
			if b, err = provenance.AppendRecord(b, uint64(len(b)), r); err != nil {
				t.Fatal(err)
			}
		}
		copy(out.b, b)
		return out
	}
	tests := []struct {
		name string
		keep func(i int, r *provenance.Record) bool
		want error
	}{
		{"as it was", func(int, *provenance.Record) bool { return true }, nil},
		{"the last checkpoint is gone", func(i int, _ *provenance.Record) bool { return i != len(whole)-1 }, nil}, // only --min-size tells
		{"a leaf is gone", func(i int, _ *provenance.Record) bool { return i != 2 }, provenance.ErrTampered},
		{"a leaf is changed", func(i int, r *provenance.Record) bool {
			if i == 2 {
				r.Payload[60] ^= 1
			}
			return true
		}, provenance.ErrTampered},
		{"no checkpoint", func(_ int, r *provenance.Record) bool { return r.Kind != provenance.RecordCheckpoint }, provenance.ErrNoLog},
		{"no origin", func(i int, _ *provenance.Record) bool { return i != 0 }, provenance.ErrNoLog},
		{"a checkpoint that is none", func(_ int, r *provenance.Record) bool {
			if r.Kind == provenance.RecordCheckpoint {
				r.Payload = []byte("omega/one\n9\n")
			}
			return true
		}, provenance.ErrSignature},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			log, err := provenance.OpenDisk(t.Context(), rewrite(tt.keep), "")
			if err == nil {
				_, err = provenance.Verify(t.Context(), log, provenance.Options{LogKey: s.public()})
			}
			if !errors.Is(err, tt.want) {
				t.Errorf("error %v, want %v", err, tt.want)
			}
		})
	}
}

func count(rs []provenance.Record) map[byte]int {
	n := map[byte]int{}
	for _, r := range rs {
		n[r.Kind]++
	}
	return n
}

func TestEachBootsLogFollowsTheLastOneOnTheDisk(t *testing.T) {
	d := &memory{b: make([]byte, 4<<20)}
	for boots := 1; boots <= 3; boots++ {
		fill(t, d, 400) // longer than one read of the disk
		n := count(records(d.b))
		if n[provenance.RecordOrigin] != boots || n[provenance.RecordLeaf] != 401*boots || n[provenance.RecordCheckpoint] != 400*boots {
			t.Errorf("after %d boots: %v", boots, n)
		}
	}
}

func TestARealFileKeepsTheLog(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log.img")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	fill(t, f, 3)
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if n := count(records(b)); n[provenance.RecordLeaf] != 4 {
		t.Errorf("records %v", n)
	}
}

func TestATornWriteIsOverwrittenAndNothingBeforeItIsLost(t *testing.T) {
	whole := &memory{b: make([]byte, 64<<10)}
	fill(t, whole, 3)
	before := records(whole.b)
	var ends []int
	for end, i := 0, 0; i < len(before); i++ {
		_, size, err := provenance.ParseRecord(whole.b[end:], uint64(end))
		if err != nil {
			t.Fatal(err)
		}
		end += size
		ends = append(ends, end)
	}
	last := ends[len(ends)-2] // the last record is the one that tears
	for cut := last; cut < ends[len(ends)-1]; cut++ {
		torn := &memory{b: append([]byte(nil), whole.b...)}
		for i := cut; i < len(torn.b); i++ {
			torn.b[i] = ^torn.b[i] // every byte is another one, whatever was drawn for it
		}
		fill(t, torn, 1)
		after := records(torn.b)
		if len(after) != len(before)-1+4 { // origin, header, entry, checkpoint
			t.Fatalf("torn at %d: %d records, want %d", cut, len(after), len(before)+3)
		}
	}
}

func TestADiskWithSomethingElseIsNotOverwritten(t *testing.T) {
	d := &memory{b: make([]byte, 1<<20)}
	copy(d.b, "\xeb\x3c\x90mkfs")
	c := newSigner(t).config()
	c.Disk = d
	if _, err := New(c); !errors.Is(err, errForeign) {
		t.Errorf("error %v, want %v", err, errForeign)
	}
}

func TestALogIsFullBeforeItsDiskIs(t *testing.T) {
	d := &memory{b: make([]byte, 256<<10)}
	fill(t, d, 20) // by an earlier boot
	c := newSigner(t).config()
	c.Disk, c.DiskSize = d, int64(len(d.b))
	w := newWriter(t, c)
	var err error
	n := 0
	for ; err == nil && n < 10000; n++ {
		_, err = w.Append(t.Context(), boot())
	}
	if !errors.Is(err, ErrFull) || n < 50 {
		t.Errorf("after %d entries: error %v, want %v", n, err, ErrFull)
	}
	if _, err := w.Append(t.Context(), boot()); !errors.Is(err, ErrFull) || w.failed() != nil {
		t.Errorf("the log has ended: %v, %v", err, w.failed())
	}
}

func TestAFailingOrFullDiskEndsTheLog(t *testing.T) {
	d := &memory{b: make([]byte, 4<<10)}
	c := newSigner(t).config()
	c.Disk = d
	w := newWriter(t, c)
	var err error
	for n := 0; err == nil && n < 100; n++ {
		_, err = w.Append(t.Context(), boot())
	}
	if !errors.Is(err, ErrFailed) {
		t.Errorf("full disk: error %v, want %v", err, ErrFailed)
	}
	d = &memory{b: make([]byte, 1<<20)}
	c.Disk = d
	w = newWriter(t, c)
	d.fail = errors.New("medium error")
	if _, err := w.Append(t.Context(), boot()); !errors.Is(err, ErrFailed) {
		t.Errorf("failing disk: error %v, want %v", err, ErrFailed)
	}
}
