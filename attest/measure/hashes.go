package measure

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
)

// GUIDs of QEMU's SEV hashes table (QEMU target/i386/sev.c, and OVMF's
// BlobVerifierSevHashes).
var (
	guidHashes  = guid("9438d606-4f22-4cc9-b479-a793d411fd21")
	guidCmdline = guid("97d02dd8-bd20-4c94-aa78-e7714d36ab2a")
	guidInitrd  = guid("44baf731-3a2f-4bd7-9af1-41e29169781d")
	guidKernel  = guid("4de79437-abd2-427f-b835-d5b172d2045b")
)

// Part is one of the three things that QEMU hands to the firmware: the kernel,
// the initrd or the command line. The zero value stands for none.
type Part struct {
	given bool
	sum   [32]byte
}

// Bytes is a part given whole.
func Bytes(b []byte) Part { return Part{true, sha256.Sum256(b)} }

// Digest is a part given by the SHA-256 of what QEMU hands over. For a command
// line that includes its NUL.
func Digest(sum [32]byte) Part { return Part{true, sum} }

// Cmdline is a kernel command line, to which QEMU adds a NUL.
func Cmdline(s string) Part { return Bytes(append([]byte(s), 0)) }

// or is p, or what QEMU hashes where there is none.
func (p Part) or(absent []byte) [32]byte {
	if p.given {
		return p.sum
	}
	return sha256.Sum256(absent)
}

// hashesPage is the page that holds the SEV hashes table at its offset.
func hashesPage(in *Input, tableGPA uint32) ([]byte, error) {
	const head, entry = 16 + 2, 16 + 2 + 32
	const size = head + 3*entry
	offset := int(tableGPA % pageSize)
	if tableGPA == 0 {
		return nil, errors.New("firmware has no place for kernel hashes")
	}
	if offset+size > pageSize {
		return nil, fmt.Errorf("hash table at %#x crosses its page", tableGPA)
	}
	page := make([]byte, offset, pageSize)
	page = append(page, guidHashes[:]...)
	page = binary.LittleEndian.AppendUint16(page, size)
	for _, e := range []struct {
		id  [16]byte
		sum [32]byte
	}{
		{guidCmdline, in.Cmdline.or([]byte{0})},
		{guidInitrd, in.Initrd.or(nil)},
		{guidKernel, in.Kernel.sum},
	} {
		page = append(page, e.id[:]...)
		page = binary.LittleEndian.AppendUint16(page, entry)
		page = append(page, e.sum[:]...)
	}
	return page[:pageSize], nil
}
