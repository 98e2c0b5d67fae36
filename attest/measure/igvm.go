package measure

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
)

// Numbers of the IGVM format, version 1 (Microsoft, igvm_defs).
const (
	igvmMagic       = "IGVM"
	igvmVersion     = 1
	igvmFixedHeader = 24
	igvmItemHeader  = 8

	igvmPlatform  = 0x001 // the machine that the file is for
	igvmPolicy    = 0x101 // SNP's guest policy
	igvmPageData  = 0x302
	igvmVPContext = 0x304 // the start state of one vCPU

	igvmSNP     = 2 // platform type, its version is 1
	igvmMask    = 1 // all items are for the one platform
	igvmNormal  = 0 // page data types
	igvmSecrets = 1
	igvmCPUID   = 2
)

// An igvmFile grows item by item: the items with their padding, and the pages
// that they point at.
type igvmFile struct {
	items []byte
	data  []byte
	// places are where items have the offset of a page, counted from data until
	// the size of all items is known.
	places []int
	vcpus  uint16
}

// IGVM returns the machine as one file that a VMM loads without more arguments:
// experimental, since no QEMU of Debian's takes one. Its digest is the launch
// digest of in, as QEMU loads it: a page without data is one that the PSP
// clears. The kernel itself is not inside, only the page with its hashes.
func IGVM(in Input, policy uint64) ([]byte, error) {
	if in.VMM != QEMU {
		return nil, fmt.Errorf("IGVM: VMM %q loads no such file of ours; want %q", in.VMM, QEMU)
	}
	le := binary.LittleEndian
	var f igvmFile
	platform := le.AppendUint32(nil, igvmMask)
	platform = append(platform, 0, igvmSNP)            // highest VTL, platform
	platform = le.AppendUint16(platform, 1)            // platform version
	f.item(igvmPlatform, le.AppendUint64(platform, 0)) // shared memory is the guest's to name
	guest := le.AppendUint64(nil, policy)
	guest = le.AppendUint32(guest, igvmMask)
	f.item(igvmPolicy, le.AppendUint32(guest, 0)) // reserved
	var err error
	if _, launchErr := in.launch(&gctx{added: func(t pageType, gpa uint64, data []byte) {
		err = errors.Join(err, f.page(t, gpa, data))
	}}); launchErr != nil {
		return nil, launchErr
	}
	if err != nil {
		return nil, err
	}
	return f.bytes(), nil
}

// page adds one page of the machine.
func (f *igvmFile) page(t pageType, gpa uint64, data []byte) error {
	le := binary.LittleEndian
	item := le.AppendUint32(le.AppendUint64(nil, gpa), igvmMask)
	offset := uint32(0) // no data
	if data != nil {
		f.places = append(f.places, len(f.items)+igvmItemHeader+len(item))
		offset = uint32(len(f.data))
		f.data = append(f.data, data...)
	}
	item = le.AppendUint32(item, offset)
	if t == pageVMSA {
		f.item(igvmVPContext, le.AppendUint16(le.AppendUint16(item, f.vcpus), 0))
		f.vcpus++
		return nil
	}
	kinds := map[pageType]uint16{pageNormal: igvmNormal, pageZero: igvmNormal, pageSecrets: igvmSecrets, pageCPUID: igvmCPUID}
	kind, ok := kinds[t]
	if !ok {
		return fmt.Errorf("IGVM: page type %d", t)
	}
	item = le.AppendUint32(item, 0) // flags
	f.item(igvmPageData, le.AppendUint16(le.AppendUint16(item, kind), 0))
	return nil
}

// item adds one item of the variable header.
func (f *igvmFile) item(kind uint32, content []byte) {
	le := binary.LittleEndian
	f.items = le.AppendUint32(f.items, kind)
	f.items = le.AppendUint32(f.items, uint32(len(content)))
	f.items = append(f.items, content...)
	for len(f.items)%8 != 0 {
		f.items = append(f.items, 0)
	}
}

func (f *igvmFile) bytes() []byte {
	le := binary.LittleEndian
	// Whole pages behind the headers, so that a VMM may map them.
	start := (igvmFixedHeader + len(f.items) + pageSize - 1) / pageSize * pageSize
	for _, at := range f.places {
		le.PutUint32(f.items[at:], le.Uint32(f.items[at:])+uint32(start))
	}
	b := make([]byte, igvmFixedHeader, start+len(f.data))
	copy(b, igvmMagic)
	le.PutUint32(b[4:], igvmVersion)
	le.PutUint32(b[8:], igvmFixedHeader)
	le.PutUint32(b[12:], uint32(len(f.items)))
	le.PutUint32(b[16:], uint32(start+len(f.data)))
	b = append(b, f.items...)
	le.PutUint32(b[20:], crc32.ChecksumIEEE(b)) // over a checksum of zero
	return append(b[:start], f.data...)
}
