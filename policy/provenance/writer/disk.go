package writer

import (
	"context"
	"errors"
	"fmt"
	"io"

	"omega/policy/provenance"
)

// A Disk is the untrusted raw disk that keeps the log. If it has a method
// Sync() error, every batch ends with it.
type Disk interface {
	io.ReaderAt
	io.WriterAt
}

// errForeign reports a disk that holds something else: it is not overwritten.
var errForeign = errors.New("disk is neither empty nor a log disk")

// diskLog appends records behind those of earlier boots.
type diskLog struct {
	disk Disk
	end  int64
}

// openDisk finds the end of the last whole record, which a torn write may
// follow, and begins this boot's log there.
func openDisk(d Disk, origin string) (*diskLog, error) {
	end, err := findEnd(d)
	if err != nil {
		return nil, err
	}
	l := &diskLog{disk: d, end: end}
	if err := l.append([]provenance.Record{{Kind: provenance.RecordOrigin, Payload: []byte(origin)}}); err != nil {
		return nil, err
	}
	return l, l.sync()
}

// findEnd is where the last whole record of a disk ends. A disk that begins
// with neither a record nor zeros is not ours.
func findEnd(d Disk) (int64, error) {
	head := make([]byte, 4) // the length of a record's magic
	n, err := d.ReadAt(head, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return 0, fmt.Errorf("reading at 0: %w", err)
	}
	if n == len(head) && string(head) != provenance.RecordMagic && string(head) != "\x00\x00\x00\x00" {
		return 0, errForeign
	}
	// The host can make this long, but it could also not run the guest at all.
	return provenance.ScanDisk(context.Background(), d, func(provenance.Record) error { return nil })
}

func (l *diskLog) leaves(leaves [][]byte) error {
	records := make([]provenance.Record, 0, len(leaves))
	for _, b := range leaves {
		records = append(records, provenance.Record{Kind: provenance.RecordLeaf, Payload: b})
	}
	return l.append(records)
}

// checkpoint ends a batch: when it returns, leaves and checkpoint are durable.
func (l *diskLog) checkpoint(signed []byte) error {
	if err := l.append([]provenance.Record{{Kind: provenance.RecordCheckpoint, Payload: signed}}); err != nil {
		return err
	}
	return l.sync()
}

func (l *diskLog) append(records []provenance.Record) error {
	var b []byte
	var err error
	for _, r := range records {
		if b, err = provenance.AppendRecord(b, uint64(l.end)+uint64(len(b)), r); err != nil {
			return err
		}
	}
	if _, err := l.disk.WriteAt(b, l.end); err != nil {
		return fmt.Errorf("writing at %d: %w", l.end, err)
	}
	l.end += int64(len(b))
	return nil
}

func (l *diskLog) sync() error {
	if s, ok := l.disk.(interface{ Sync() error }); ok {
		return s.Sync()
	}
	return nil
}
