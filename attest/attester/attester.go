// Package attester asks the guest's secure processor for attestation reports:
// the real one through /dev/sev-guest, or the emulated one through its virtio
// port. It opens nothing itself, so that the process that holds the keys needs
// no file system, and it decides nothing: where SNP is active, the caller must
// never hand it the port.
package attester

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"omega/attest/snp"
)

// portTimeout is how long the host may take for one report. A caller that
// gives up earlier must not leave half a reply on the port.
const portTimeout = 15 * time.Second

// maxTable bounds the certificate table in a reply.
const maxTable = 64 << 10

// Port is the emulated PSP's virtio port.
type Port struct {
	mu     sync.Mutex // guards what follows; one request at a time
	file   *os.File
	broken error
}

// FromPort speaks to the emulated PSP over an open virtio port.
func FromPort(f *os.File) *Port { return &Port{file: pollable(f)} }

// Report asks for a report over reportData. After a failed exchange the port
// has lost its place and refuses all others.
func (p *Port) Report(ctx context.Context, reportData [64]byte) (report, certs []byte, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return nil, nil, err
	}
	if p.broken != nil {
		return nil, nil, fmt.Errorf("emulated PSP port: broken earlier: %w", p.broken)
	}
	report, certs, err = p.exchange(reportData)
	if err == nil {
		err = checkReply(report, certs, reportData)
	}
	if err != nil {
		p.broken = err
		return nil, nil, fmt.Errorf("emulated PSP port: %w", err)
	}
	return report, certs, nil
}

// exchange sends "OPSP", u32 big-endian 64, REPORT_DATA, and reads "OPSR" and
// two parts behind their u32 big-endian lengths.
func (p *Port) exchange(data [64]byte) (report, certs []byte, err error) {
	err = p.file.SetDeadline(time.Now().Add(portTimeout))
	if err != nil && !errors.Is(err, os.ErrNoDeadline) {
		return nil, nil, err
	}
	request := binary.BigEndian.AppendUint32([]byte("OPSP"), uint32(len(data)))
	if _, err := p.file.Write(append(request, data[:]...)); err != nil {
		return nil, nil, err
	}
	var magic [4]byte
	if _, err := io.ReadFull(p.file, magic[:]); err != nil {
		return nil, nil, err
	}
	if string(magic[:]) != "OPSR" {
		return nil, nil, fmt.Errorf("reply begins with %q", magic[:])
	}
	if report, err = readPart(p.file, snp.ReportSize); err != nil {
		return nil, nil, fmt.Errorf("report: %w", err)
	}
	if certs, err = readPart(p.file, maxTable); err != nil {
		return nil, nil, fmt.Errorf("certificates: %w", err)
	}
	return report, certs, nil
}

func readPart(r io.Reader, limit uint32) ([]byte, error) {
	var n [4]byte
	if _, err := io.ReadFull(r, n[:]); err != nil {
		return nil, err
	}
	size := binary.BigEndian.Uint32(n[:])
	if size > limit {
		return nil, fmt.Errorf("%d bytes, limit %d", size, limit)
	}
	b := make([]byte, size)
	_, err := io.ReadFull(r, b)
	return b, err
}

// checkReply finds a reply to another request before it is served as evidence.
func checkReply(report, certs []byte, data [64]byte) error {
	r, err := snp.ParseReport(report)
	if err != nil {
		return err
	}
	if r.ReportData != data {
		return errors.New("report is over other REPORT_DATA")
	}
	_, err = snp.ParseTable(certs)
	return err
}

// pollable is f with deadlines, where its driver can poll; else f as it is.
func pollable(f *os.File) *os.File {
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return f
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		_ = unix.Close(fd)
		return f
	}
	dup := os.NewFile(uintptr(fd), f.Name())
	_ = f.Close()
	return dup
}
