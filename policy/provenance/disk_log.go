package provenance

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"golang.org/x/mod/sumdb/tlog"
)

// ScanDisk calls each for every whole record from the disk's beginning on, and
// returns where the first byte behind them is: the end of the log, though a
// torn record may stand there. What each keeps of a payload it copies.
func ScanDisk(ctx context.Context, disk io.ReaderAt, each func(Record) error) (end int64, err error) {
	buf := make([]byte, 4*MaxRecord)
	for begin := int64(0); ; begin = end {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		n, err := disk.ReadAt(buf, begin)
		if err != nil && !errors.Is(err, io.EOF) {
			return 0, fmt.Errorf("reading at %d: %w", begin, err)
		}
		for {
			r, size, err := ParseRecord(buf[end-begin:n], uint64(end))
			if err != nil {
				break // a record that the buffer cuts off is read again from its beginning
			}
			if err := each(r); err != nil {
				return 0, err
			}
			end += int64(size)
		}
		if end == begin || n < len(buf) {
			return end, nil
		}
	}
}

// A DiskLog is one boot's log as a disk has it, up to its last checkpoint. It is
// a Source; like every Source it proves nothing by itself.
type DiskLog struct {
	Origins []string // of every boot on the disk, in order

	origin     string
	checkpoint []byte
	leaves     [][]byte
	tree       Tree
}

// ErrNoLog reports a disk without a log of that origin.
var ErrNoLog = errors.New("disk holds no such log")

// OpenDisk reads the log of one origin from a disk; without one, the last.
func OpenDisk(ctx context.Context, disk io.ReaderAt, origin string) (*DiskLog, error) {
	d := &DiskLog{}
	if _, err := ScanDisk(ctx, disk, func(r Record) error { return d.take(r, origin) }); err != nil {
		return nil, err
	}
	if d.checkpoint == nil || (origin != "" && d.origin != origin) {
		return nil, fmt.Errorf("%w: %q among %d boots", ErrNoLog, origin, len(d.Origins))
	}
	return d, d.build()
}

// take keeps a record of the wanted log.
func (d *DiskLog) take(r Record, want string) error {
	switch {
	case r.Kind == RecordOrigin:
		if !validOrigin(string(r.Payload)) {
			return fmt.Errorf("%w: origin %.80q", ErrRecord, r.Payload)
		}
		d.Origins = append(d.Origins, string(r.Payload))
		if want == "" || want == string(r.Payload) {
			d.origin, d.checkpoint, d.leaves = string(r.Payload), nil, nil
		}
	case len(d.Origins) == 0 || d.Origins[len(d.Origins)-1] != d.origin:
	case r.Kind == RecordLeaf:
		if len(d.leaves) >= MaxSize {
			return fmt.Errorf("%w: more than %d leaves", ErrFraming, MaxSize)
		}
		d.leaves = append(d.leaves, append([]byte(nil), r.Payload...))
	case r.Kind == RecordCheckpoint:
		d.checkpoint = append([]byte(nil), r.Payload...)
	}
	return nil
}

// build makes the tree that the last checkpoint speaks of.
func (d *DiskLog) build() error {
	c, err := UnverifiedCheckpoint(d.checkpoint)
	if err != nil {
		return err
	}
	if c.Size > uint64(len(d.leaves)) {
		return fmt.Errorf("%w: %d of %d leaves are on the disk", ErrTampered, len(d.leaves), c.Size)
	}
	d.leaves = d.leaves[:c.Size]
	for _, b := range d.leaves {
		d.tree.Append(tlog.RecordHash(b))
	}
	return nil
}

// Read serves the log's files, as the writer did.
func (d *DiskLog) Read(_ context.Context, path string) ([]byte, error) {
	if path == "checkpoint" {
		return d.checkpoint, nil
	}
	t, err := ParseTile(path)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", fs.ErrNotExist, err)
	}
	if t.Level >= 0 {
		return notExist(d.tree.Tile(t))
	}
	return notExist(Bundle(d.leaves, t))
}

// notExist gives what lies beyond a log the name that a Source gives it.
func notExist(b []byte, err error) ([]byte, error) {
	if err != nil {
		return nil, fmt.Errorf("%w: %w", fs.ErrNotExist, err)
	}
	return b, nil
}
