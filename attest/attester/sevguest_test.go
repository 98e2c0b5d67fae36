package attester

import (
	"bytes"
	"encoding/binary"
	"slices"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"omega/attest/snp"
)

// Numbers of linux/sev-guest.h (6.12), written down here a second time: the
// driver is not in any kernel without SNP.
const (
	getReport         = 0xc0205300 // _IOWR('S', 0, struct snp_guest_request_ioctl)
	getExtendedReport = 0xc0205302
)

// A driver is the far side of the ioctl, on the bytes as C lays them out.
type driver struct {
	t        *testing.T
	errno    map[uintptr]unix.Errno // by operation
	fault    uint64                 // of the firmware, or of the host above bit 32
	status   uint32                 // of the report's message
	size     uint32                 // of the report; 0 is the right one
	table    []byte                 // what the host has
	calls    []uintptr
	lastVMPL uint32
}

// struct snp_guest_request_ioctl { __u8 msg_version; __u64 req_data, resp_data, exitinfo2; }
func (d *driver) ioctl(op uintptr, arg unsafe.Pointer) unix.Errno {
	d.calls = append(d.calls, op)
	request := unsafe.Slice((*byte)(arg), 32)
	if request[0] != 1 {
		d.t.Errorf("message version %d", request[0])
	}
	in, out := *(*unsafe.Pointer)(unsafe.Add(arg, 8)), *(*unsafe.Pointer)(unsafe.Add(arg, 16))
	if errno := d.errno[op]; errno != 0 {
		binary.LittleEndian.PutUint64(request[24:], d.fault)
		return errno
	}
	// struct snp_report_req { __u8 user_data[64]; __u32 vmpl; __u8 rsvd[28]; }
	req := unsafe.Slice((*byte)(in), 96)
	d.lastVMPL = binary.LittleEndian.Uint32(req[64:])
	if !bytes.Equal(req[68:], make([]byte, 28)) {
		d.t.Error("reserved bytes of the request are not zero")
	}
	if op == getExtendedReport { // and __u64 certs_address; __u32 certs_len
		blob := unsafe.Slice((*byte)(*(*unsafe.Pointer)(unsafe.Add(in, 96))), *(*uint32)(unsafe.Add(in, 104)))
		if len(blob) != 16<<10 {
			d.t.Errorf("room for %d bytes of certificates", len(blob))
		}
		copy(blob, d.table)
	}
	// struct snp_report_resp { __u8 data[4000]; }, a MSG_REPORT_RSP of the firmware's ABI
	resp := unsafe.Slice((*byte)(out), 4000)
	binary.LittleEndian.PutUint32(resp, d.status)
	if d.size == 0 {
		d.size = snp.ReportSize
	}
	binary.LittleEndian.PutUint32(resp[4:], d.size)
	copy(resp[32:], report([64]byte(req)))
	return 0
}

func TestTheDriverOfTheKernelIsSpokenToAsItsHeaderSays(t *testing.T) {
	table := (&snp.Table{VCEK: []byte("vcek"), ASK: []byte("ask")}).Marshal()
	const noCertificates = 1 << 32 // SNP_GUEST_VMM_ERR_INVALID_LEN: the host has more of them than there is room
	for _, tt := range []struct {
		name  string
		d     driver
		calls []uintptr
		table bool
		bad   string
	}{
		{"with the host's certificates", driver{table: table}, []uintptr{getExtendedReport}, true, ""},
		{"from a host that has none", driver{}, []uintptr{getExtendedReport}, false, ""},
		{"from a host that has too many", driver{errno: map[uintptr]unix.Errno{getExtendedReport: unix.EIO}, fault: noCertificates}, []uintptr{getExtendedReport, getReport}, false, ""},
		{"from a host that gives nonsense for a table", driver{table: bytes.Repeat([]byte("nonsense"), 4)}, []uintptr{getExtendedReport, getReport}, false, ""},
		{"from a driver that has lost its key", driver{errno: map[uintptr]unix.Errno{getExtendedReport: unix.ENOTTY, getReport: unix.ENOTTY}, fault: 0x27},
			[]uintptr{getExtendedReport, getReport}, false, "firmware and host error 0x27"},
		{"that the firmware refuses", driver{status: 0x16}, []uintptr{getExtendedReport, getReport}, false, "invalid parameters"},
		{"of another size", driver{size: 1152}, []uintptr{getExtendedReport, getReport}, false, "another size"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := tt.d
			d.t, d.lastVMPL = t, 9
			data := [64]byte{1, 2, 63: 4}
			got, certs, err := (&GuestDevice{ioctl: d.ioctl}).Report(t.Context(), data)
			if (err != nil) != (tt.bad != "") || err != nil && !strings.Contains(err.Error(), tt.bad) {
				t.Fatalf("error is %v, want %q", err, tt.bad)
			}
			if !slices.Equal(d.calls, tt.calls) {
				t.Errorf("ioctls %#x, want %#x", d.calls, tt.calls)
			}
			if err != nil {
				return
			}
			if !bytes.Equal(got, report(data)) || d.lastVMPL != 0 {
				t.Errorf("another report, of VMPL %d", d.lastVMPL)
			}
			if (len(certs) > 0) != tt.table || tt.table && !bytes.Equal(certs, table) {
				t.Errorf("certificates %q", certs)
			}
		})
	}
}
