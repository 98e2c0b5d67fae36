package writer

import (
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

// findEnd walks the records of a disk.
func findEnd(d Disk) (int64, error) {
	buf := make([]byte, 4*provenance.MaxRecord)
	var begin, end int64 // of the buffer's content; of the last whole record
	for {
		n, err := d.ReadAt(buf, begin)
		if err != nil && !errors.Is(err, io.EOF) {
			return 0, fmt.Errorf("reading at %d: %w", begin, err)
		}
		content := buf[:n]
		if begin == 0 && !ours(content) {
			return 0, errForeign
		}
		for {
			_, size, err := provenance.ParseRecord(content[end-begin:], uint64(end))
			if err != nil {
				break
			}
			end += int64(size)
		}
		// A record that the buffer cut off is read again from its beginning.
		if end == begin || n < len(buf) {
			return end, nil
		}
		begin = end
	}
}

// ours reports a disk that begins with a log, or with nothing.
func ours(content []byte) bool {
	const probe = 4 // the length of a record's magic
	if len(content) < probe {
		return true
	}
	head := string(content[:probe])
	return head == "OPL1" || head == "\x00\x00\x00\x00"
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
