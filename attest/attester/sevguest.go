package attester

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"
	"unsafe"

	"github.com/google/go-sev-guest/client/linuxabi"
	"golang.org/x/sys/unix"

	"omega/attest/snp"
)

// maxHostCertificates is SEV_FW_BLOB_MAX_SIZE of Linux' sev-guest driver.
const maxHostCertificates = 0x4000

// GuestDevice is /dev/sev-guest: the real PSP, through the kernel.
type GuestDevice struct {
	mu    sync.Mutex // one request at a time
	ioctl func(op uintptr, arg unsafe.Pointer) unix.Errno
}

// FromGuestDevice speaks to the PSP over an open /dev/sev-guest.
func FromGuestDevice(f *os.File) *GuestDevice {
	return &GuestDevice{ioctl: func(op uintptr, arg unsafe.Pointer) unix.Errno {
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), op, uintptr(arg))
		return errno
	}}
}

// Report asks for a report at VMPL 0 over reportData, with the certificates
// that the host has for it, if any.
func (g *GuestDevice) Report(ctx context.Context, reportData [64]byte) (report, certs []byte, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return nil, nil, err
	}
	err = retry(ctx, busyPause, func() (err error) {
		report, certs, err = g.extended(reportData)
		return err
	})
	if err != nil { // a host that keeps no certificates need not answer this
		certs = nil
		err = retry(ctx, busyPause, func() (err error) {
			report, err = g.plain(reportData)
			return err
		})
	}
	if err != nil {
		return nil, nil, fmt.Errorf("/dev/sev-guest: %w", err)
	}
	if err := checkReply(report, certs, reportData); err != nil {
		return nil, nil, fmt.Errorf("/dev/sev-guest: %w", err)
	}
	return report, certs, nil
}

// Retries of a request that the host or the kernel had no time for. The kernel
// repeats the very same message, so that no sequence number is lost and the
// report key stays usable.
const (
	busyTries = 6
	busyPause = 50 * time.Millisecond
)

// retry does once more, after a growing pause, what was refused for being busy.
func retry(ctx context.Context, pause time.Duration, do func() error) error {
	for n := 1; ; n++ {
		err := do()
		busy := errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EBUSY) || errors.Is(err, unix.EINTR)
		if !busy || n == busyTries {
			return err
		}
		select {
		case <-time.After(pause):
			pause *= 2
		case <-ctx.Done():
			return errors.Join(err, ctx.Err())
		}
	}
}

func (g *GuestDevice) plain(data [64]byte) ([]byte, error) {
	req := &linuxabi.SnpReportReqABI{ReportData: data}
	return g.request(linuxabi.IocSnpGetReport, req)
}

func (g *GuestDevice) extended(data [64]byte) (report, certs []byte, err error) {
	blob := make([]byte, maxHostCertificates)
	req := &linuxabi.SnpExtendedReportReq{
		Data:        linuxabi.SnpReportReqABI{ReportData: data},
		Certs:       blob,
		CertsLength: maxHostCertificates,
	}
	if report, err = g.request(linuxabi.IocSnpGetExtendedReport, req); err != nil {
		return nil, nil, err
	}
	if blob[0] == 0 { // the first GUID begins with no zero: the host filled in nothing
		return report, nil, nil
	}
	table, err := snp.ParseTable(blob)
	if err != nil {
		return nil, nil, err
	}
	return report, table.Marshal(), nil
}

// request does one ioctl of the sev-guest driver (linux/sev-guest.h).
func (g *GuestDevice) request(op uintptr, req linuxabi.BinaryConvertible) ([]byte, error) {
	resp := &linuxabi.SnpReportRespABI{}
	call := linuxabi.SnpUserGuestRequest{ReqData: req, RespData: resp}
	abi := call.ABI()
	errno := g.ioctl(op, abi.Pointer())
	err := abi.Finish(&call)
	if errno != 0 {
		return nil, fmt.Errorf("report request: %w, firmware and host error %#x", errno, call.FwErr)
	}
	if err != nil {
		return nil, fmt.Errorf("report request: %w", err)
	}
	if resp.ReportSize != snp.ReportSize {
		return nil, errors.New("report request: report of another size")
	}
	return resp.Data[:snp.ReportSize], nil
}
