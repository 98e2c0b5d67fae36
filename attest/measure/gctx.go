package measure

import (
	"crypto/sha512"
	"encoding/binary"
)

const pageSize = 4096

// pageType is PAGE_TYPE of SNP_LAUNCH_UPDATE (SNP ABI, table "Page Types").
type pageType byte

const (
	pageNormal     pageType = 1
	pageVMSA       pageType = 2
	pageZero       pageType = 3
	pageUnmeasured pageType = 4
	pageSecrets    pageType = 5
	pageCPUID      pageType = 6
)

// gctx is the launch digest as the PSP extends it, page by page, in the guest
// context (SNP ABI, 8.17.2 "Launch Digest", PAGE_INFO).
type gctx struct {
	digest [48]byte
	// added, if it is set, is told of every page; data is nil where the PSP sets
	// or clears the contents itself.
	added func(t pageType, gpa uint64, data []byte)
}

func (g *gctx) tell(t pageType, gpa uint64, data []byte) {
	if g.added != nil {
		g.added(t, gpa, data)
	}
}

func (g *gctx) update(t pageType, gpa uint64, contents [48]byte) {
	var info [0x70]byte
	copy(info[0x00:], g.digest[:])
	copy(info[0x30:], contents[:])
	binary.LittleEndian.PutUint16(info[0x60:], uint16(len(info)))
	info[0x62] = byte(t) // 0x63: IMI page and VMPL permissions, all zero
	binary.LittleEndian.PutUint64(info[0x68:], gpa)
	g.digest = sha512.Sum384(info[:])
}

// data extends with whole pages whose contents are measured.
func (g *gctx) data(t pageType, gpa uint64, b []byte) {
	for off := 0; off < len(b); off += pageSize {
		page := b[off : off+pageSize]
		g.tell(t, gpa+uint64(off), page)
		g.update(t, gpa+uint64(off), sha512.Sum384(page))
	}
}

// blank extends with pages whose contents the PSP sets or clears itself.
func (g *gctx) blank(t pageType, gpa, size uint64) {
	for off := uint64(0); off < size; off += pageSize {
		g.tell(t, gpa+off, nil)
		g.update(t, gpa+off, [48]byte{})
	}
}
