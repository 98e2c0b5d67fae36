package images

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
)

// Fields of a tar header in GNU's old format, which holds sparse files (tar.h of
// GNU tar, struct oldgnu_header). Package archive/tar reads it but cannot write it.
const (
	tarBlock     = 512
	tarMaps      = 4   // entries of the map in the header
	tarMoreMaps  = 21  // and in each block that follows
	tarMapAt     = 386 // struct sparse: offset and size, 12 octal digits each
	tarExtended  = 482 // whether a block of the map follows
	tarRealSize  = 483
	tarMoreFlag  = 504 // the same flag in a block that follows
	tarSum       = 148
	tarNumber    = 12
	tarMaxNumber = 1 << 33 // eleven octal digits
)

// writeSparseTar writes d as the only member of an archive, with holes where it
// is zero, and without any time or owner.
func writeSparseTar(ctx context.Context, w io.Writer, name string, d *Disk, step Step) error {
	if d.Size >= tarMaxNumber || len(name) > 100 {
		return fmt.Errorf("tar: %s of %d bytes", name, d.Size)
	}
	data := d.blocks()
	var stored int64
	for _, x := range data {
		stored += int64(len(x.data))
	}
	if _, err := w.Write(sparseHeader(name, d.Size, stored, data)); err != nil {
		return err
	}
	var done int64
	for _, x := range data {
		n, err := io.Copy(w, &contextReader{ctx, bytes.NewReader(x.data)})
		if err != nil {
			return err
		}
		done += n
		step.Set(done, stored)
	}
	// Two blocks of zeros end an archive.
	_, err := w.Write(make([]byte, 2*tarBlock))
	return errors.Join(err, ctx.Err())
}

// sparseHeader is the header with the map of data, and the blocks of the map
// that do not fit into it.
func sparseHeader(name string, size, stored int64, data []extent) []byte {
	h := make([]byte, tarBlock)
	copy(h, name)
	copy(h[100:], "0000644\x00") // mode
	copy(h[108:], "0000000\x00") // uid
	copy(h[116:], "0000000\x00") // gid
	putOctal(h[124:], stored)    // size
	putOctal(h[136:], 0)         // mtime
	h[156] = 'S'                 // a sparse file
	copy(h[257:], "ustar  \x00") // magic
	putOctal(h[tarRealSize:], size)
	parts := append(data[:len(data):len(data)], extent{at: size}) // the end is an entry without bytes
	first := min(len(parts), tarMaps)
	putMap(h[tarMapAt:], parts[:first])
	if parts = parts[first:]; len(parts) > 0 {
		h[tarExtended] = 1
	}
	copy(h[tarSum:], "        ")
	sum := 0
	for _, c := range h {
		sum += int(c)
	}
	copy(h[tarSum:], fmt.Sprintf("%06o\x00 ", sum))
	for len(parts) > 0 {
		block := make([]byte, tarBlock)
		n := min(len(parts), tarMoreMaps)
		putMap(block, parts[:n])
		if parts = parts[n:]; len(parts) > 0 {
			block[tarMoreFlag] = 1
		}
		h = append(h, block...)
	}
	return h
}

func putMap(b []byte, parts []extent) {
	for i, x := range parts {
		putOctal(b[2*i*tarNumber:], x.at)
		putOctal(b[(2*i+1)*tarNumber:], int64(len(x.data)))
	}
}

// putOctal writes a number as tar has it: eleven digits and a zero byte.
func putOctal(b []byte, n int64) { copy(b, fmt.Sprintf("%011o\x00", n)) }

// blocks are the extents of d in whole sectors. Each begins at one.
func (d *Disk) blocks() []extent {
	var out []extent
	for _, x := range d.extents {
		padded := make([]byte, align(uint64(len(x.data)), tarBlock))
		copy(padded, x.data)
		out = append(out, extent{x.at, padded})
	}
	return out
}

// A contextReader stops when ctx is done.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (c *contextReader) Read(b []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(b[:min(len(b), mebibyte)])
}
