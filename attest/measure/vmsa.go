package measure

import (
	"encoding/binary"
	"fmt"
)

// VMM is the virtual machine monitor, which sets the registers that a vCPU
// starts with.
type VMM string

// VMMs whose start values are known.
const (
	QEMU VMM = "qemu"
	EC2  VMM = "ec2"
	GCE  VMM = "gce"
)

const (
	// resetBSP is where the first vCPU starts: the x86 reset vector.
	resetBSP = 0xfffffff0
	// vmsaGPA is the GPA under which KVM measures every VMSA.
	vmsaGPA = 0xfffffffff000
)

// registers are the start values in which the VMMs differ.
type registers struct {
	csBSP, csAP, ss, tr uint16
	pat                 uint64
	rdx                 uint64
	mxcsr               uint32
	fcw                 uint16
}

func startRegisters(v VMM, signature uint32) (registers, error) {
	switch v {
	case QEMU:
		return registers{0x9b, 0x9b, 0x93, 0x8b, 0x7040600070406, uint64(signature), 0x1f80, 0x37f}, nil
	case EC2:
		return registers{0x9a, 0x9b, 0x92, 0x83, 0x7040600070406, 0x600, 0, 0}, nil
	case GCE:
		return registers{0x9b, 0x9b, 0x93, 0x8b, 0x70106, 0x600, 0, 0}, nil
	}
	return registers{}, fmt.Errorf("VMM %q is not known", v)
}

// vmsa is the save area of one vCPU at its start (AMD APM volume 2, table B-4).
func vmsa(r registers, eip uint32, features uint64) []byte {
	b := make([]byte, pageSize)
	le := binary.LittleEndian
	segment := func(at int, selector, attrib uint16, base uint64) {
		le.PutUint16(b[at:], selector)
		le.PutUint16(b[at+2:], attrib)
		le.PutUint32(b[at+4:], 0xffff) // limit
		le.PutUint64(b[at+8:], base)
	}
	cs := r.csAP
	if eip == resetBSP {
		cs = r.csBSP
	}
	segment(0x00, 0, 0x93, 0) // ES
	segment(0x10, 0xf000, cs, uint64(eip&0xffff0000))
	segment(0x20, 0, r.ss, 0) // SS
	segment(0x30, 0, 0x93, 0) // DS
	segment(0x40, 0, 0x93, 0) // FS
	segment(0x50, 0, 0x93, 0) // GS
	segment(0x60, 0, 0, 0)    // GDTR
	segment(0x70, 0, 0x82, 0) // LDTR
	segment(0x80, 0, 0, 0)    // IDTR
	segment(0x90, 0, r.tr, 0)
	le.PutUint64(b[0x0d0:], 0x1000) // EFER: SVME
	le.PutUint64(b[0x148:], 0x40)   // CR4: MCE
	le.PutUint64(b[0x158:], 0x10)   // CR0: ET
	le.PutUint64(b[0x160:], 0x400)  // DR7
	le.PutUint64(b[0x168:], 0xffff0ff0)
	le.PutUint64(b[0x170:], 0x2) // RFLAGS
	le.PutUint64(b[0x178:], uint64(eip&0xffff))
	le.PutUint64(b[0x268:], r.pat)
	le.PutUint64(b[0x310:], r.rdx)
	le.PutUint64(b[0x3b0:], features)
	le.PutUint64(b[0x3e8:], 1) // XCR0: x87
	le.PutUint32(b[0x408:], r.mxcsr)
	le.PutUint16(b[0x410:], r.fcw)
	return b
}
