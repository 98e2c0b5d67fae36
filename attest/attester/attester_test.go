package attester

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"omega/attest/snp"
)

// host is the far end of a port that answers each request with reply.
func host(t *testing.T, reply func(data [64]byte) []byte) *Port {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	far := os.NewFile(uintptr(fds[1]), "host")
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer far.Close()
		var b [72]byte
		for {
			if _, err := io.ReadFull(far, b[:]); err != nil {
				return
			}
			if string(b[:8]) != "OPSP\x00\x00\x00\x40" {
				t.Errorf("request begins with %q", b[:8])
			}
			out := reply([64]byte(b[8:]))
			if out == nil {
				return
			}
			if _, err := far.Write(out); err != nil {
				return
			}
		}
	}()
	p := FromPort(os.NewFile(uintptr(fds[0]), "port"))
	t.Cleanup(func() { p.file.Close(); <-done })
	return p
}

func encode(parts ...[]byte) []byte {
	b := []byte("OPSR")
	for _, p := range parts {
		b = append(binary.BigEndian.AppendUint32(b, uint32(len(p))), p...)
	}
	return b
}

func report(data [64]byte) []byte {
	return (&snp.Report{Version: 3, GuestPolicy: snp.PolicyStrict, ReportData: data}).Marshal()
}

func TestThePortGivesReportsOverTheRightData(t *testing.T) {
	table := (&snp.Table{VCEK: []byte("vcek")}).Marshal()
	p := host(t, func(data [64]byte) []byte { return encode(report(data), table) })
	for i := range byte(3) {
		data := [64]byte{i, 1}
		got, certs, err := p.Report(t.Context(), data)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, report(data)) || !bytes.Equal(certs, table) {
			t.Errorf("request %d: another reply", i)
		}
	}
}

func TestBadRepliesAreRefusedAndBreakThePort(t *testing.T) {
	tests := []struct {
		name  string
		reply func(data [64]byte) []byte
		want  string
	}{
		{"a reply to another request", func([64]byte) []byte { return encode(report([64]byte{9}), nil) }, "other REPORT_DATA"},
		{"other magic", func(d [64]byte) []byte { return append([]byte("XPSR"), encode(report(d), nil)[4:]...) }, "begins with"},
		{"a long report", func([64]byte) []byte { return encode(make([]byte, snp.ReportSize+1), nil) }, "limit"},
		{"a long table", func(d [64]byte) []byte { return encode(report(d), make([]byte, maxTable+1)) }, "limit"},
		{"no report", func([64]byte) []byte { return encode(nil, nil) }, "report of 0 bytes"},
		{"a broken table", func(d [64]byte) []byte { return encode(report(d), []byte{1}) }, "no end"},
		{"no reply", func([64]byte) []byte { return nil }, "EOF"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := host(t, tt.reply)
			if _, _, err := p.Report(t.Context(), [64]byte{1}); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error is %v", err)
			}
			if _, _, err := p.Report(t.Context(), [64]byte{1}); err == nil || !strings.Contains(err.Error(), "broken earlier") {
				t.Errorf("second error is %v", err)
			}
		})
	}
}

func TestACallerThatGaveUpCostsTheOthersNothing(t *testing.T) {
	p := host(t, func(data [64]byte) []byte { return encode(report(data), nil) })
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := p.Report(gone, [64]byte{1}); err == nil {
		t.Error("a cancelled request is answered")
	}
	if _, _, err := p.Report(t.Context(), [64]byte{2}); err != nil {
		t.Error(err)
	}
}

func TestADeviceThatIsNotThePSPGivesNoReport(t *testing.T) {
	f, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, _, err := FromGuestDevice(f).Report(t.Context(), [64]byte{}); err == nil || !strings.Contains(err.Error(), "/dev/sev-guest") {
		t.Errorf("error is %v", err)
	}
}

func TestABusyDeviceIsAskedAgainAndABrokenOneIsNot(t *testing.T) {
	for _, tt := range []struct {
		name  string
		err   error
		times int // that the device fails
		calls int
		good  bool
	}{
		{"at once", nil, 0, 1, true},
		{"busy twice", unix.EBUSY, 2, 3, true},
		{"throttled", unix.EAGAIN, 5, 6, true},
		{"busy for ever", unix.EAGAIN, 100, busyTries, false},
		{"broken", unix.EIO, 100, 1, false},
	} {
		calls := 0
		err := retry(t.Context(), time.Microsecond, func() error {
			if calls++; calls <= tt.times {
				return fmt.Errorf("report request: %w", tt.err)
			}
			return nil
		})
		if calls != tt.calls || (err == nil) != tt.good {
			t.Errorf("%s: %d calls, %v", tt.name, calls, err)
		}
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if err := retry(gone, time.Hour, func() error { return unix.EBUSY }); err == nil {
		t.Error("a caller that went away is served")
	}
}
