package psp

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"omega/attest"
	"omega/attest/snp"
)

func testRoot(t *testing.T) (*Root, string) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "cache", "psp")
	r, err := LoadOrCreateRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	return r, dir
}

// TestTheEmulatedPSP makes one root, which takes seconds, for all of its parts.
func TestTheEmulatedPSP(t *testing.T) {
	r, dir := testRoot(t)
	t.Run("its root is made once and its files are private", func(t *testing.T) { rootIsKept(t, r, dir) })
	t.Run("its reports verify under its own root only", func(t *testing.T) { reportsVerify(t, r) })
	t.Run("it answers requests and ends with the port", func(t *testing.T) { answers(t, r) })
	t.Run("it refuses malformed requests and launches", func(t *testing.T) { refuses(t, r) })
	t.Run("it stops when it is told to", func(t *testing.T) { stops(t, r) })
	t.Run("a damaged root is refused by name", func(t *testing.T) { damaged(t, dir) })
}

func rootIsKept(t *testing.T, r *Root, dir string) {
	again, err := LoadOrCreateRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	if !again.ARK().Equal(r.ARK()) || again.chipID != r.chipID || r.chipID == [64]byte{} {
		t.Error("the second start has another root")
	}
	files, err := os.ReadDir(dir)
	if err != nil || len(files) != 4 {
		t.Fatalf("%d files: %v", len(files), err)
	}
	for _, f := range files {
		if info, err := f.Info(); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v %v", f.Name(), info.Mode(), err)
		}
	}
}

func reportsVerify(t *testing.T, r *Root) {
	launch := Launch{Digest: [48]byte{1}, HostData: [32]byte{2}, Firmware: "seabios-1.16.3"}
	raw, err := r.report(launch, [64]byte{3})
	if err != nil {
		t.Fatal(err)
	}
	chain := snp.Chain{Leaf: r.vcek, Intermediate: r.ask}
	v, err := snp.Verify(raw, chain, []snp.Root{{Product: snp.Milan, ARK: r.ARK()}}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	rep := v.Report
	if rep.Measurement != launch.Digest || rep.HostData != launch.HostData || rep.ReportData != [64]byte{3} ||
		rep.FamilyID != snp.EmulatedFamilyID || !strings.HasPrefix(string(rep.ImageID[:]), launch.Firmware) || rep.GuestPolicy != snp.PolicyStrict {
		t.Errorf("report is %+v", rep)
	}
	amd, err := snp.AMDRoots()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := snp.Verify(raw, chain, amd, time.Now()); !errors.Is(err, attest.ErrSignature) {
		t.Errorf("AMD's roots accept an emulated report: %v", err)
	}
}

func request(data byte) []byte {
	b := binary.BigEndian.AppendUint32([]byte(requestMagic), 64)
	return append(b, bytes.Repeat([]byte{data}, 64)...)
}

type port struct {
	io.Reader
	io.Writer
}

func answers(t *testing.T, r *Root) {
	var out bytes.Buffer
	in := bytes.NewReader(append(request(1), request(2)...))
	if err := r.Serve(t.Context(), port{in, &out}, Launch{}); err != nil {
		t.Fatal(err)
	}
	for want := byte(1); want <= 2; want++ {
		if string(out.Next(4)) != replyMagic {
			t.Fatal("no reply")
		}
		report := out.Next(int(binary.BigEndian.Uint32(out.Next(4))))
		table, err := snp.ParseTable(out.Next(int(binary.BigEndian.Uint32(out.Next(4)))))
		if err != nil || !bytes.Equal(table.VCEK, r.vcek.Raw) || !bytes.Equal(table.ASK, r.ask.Raw) {
			t.Errorf("certificate table: %v", err)
		}
		if rep, err := snp.ParseReport(report); err != nil || rep.ReportData[63] != want {
			t.Errorf("report %d: %v", want, err)
		}
	}
	if out.Len() != 0 {
		t.Errorf("%d bytes behind the replies", out.Len())
	}
}

func refuses(t *testing.T, r *Root) {
	long := request(0)
	long[7] = 65
	for name, in := range map[string][]byte{"other magic": append([]byte("XPSP"), request(0)[4:]...), "other length": long, "cut": request(0)[:20]} {
		var out bytes.Buffer
		if err := r.Serve(t.Context(), port{bytes.NewReader(in), &out}, Launch{}); err == nil || out.Len() != 0 {
			t.Errorf("%s: %v, %d bytes", name, err, out.Len())
		}
	}
	for _, name := range []string{"seventeen-bytes-x", "a b", "\x00"} {
		if err := r.Serve(t.Context(), port{bytes.NewReader(nil), io.Discard}, Launch{Firmware: name}); err == nil {
			t.Errorf("firmware %q is accepted", name)
		}
	}
}

func stops(t *testing.T, r *Root) {
	ctx, cancel := context.WithCancel(t.Context())
	ours, _ := net.Pipe()
	done := make(chan error)
	go func() { done <- r.Serve(ctx, ours, Launch{}) }()
	cancel()
	select {
	case err := <-done:
		if !errors.Is(err, context.Canceled) {
			t.Errorf("error is %v", err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("still serving")
	}
}

func damaged(t *testing.T, dir string) {
	if err := os.WriteFile(filepath.Join(dir, askFile), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadOrCreateRoot(dir); err == nil || !strings.Contains(err.Error(), askFile) {
		t.Errorf("error is %v", err)
	}
}
