package main

import (
	"bytes"
	"crypto"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// guestMemory is a picture of a running guest's memory, taken through QEMU's
// control socket.
func guestMemory(t *testing.T, control, dir string, size int) []byte {
	t.Helper()
	conn, err := net.Dial("unix", control)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	in := json.NewDecoder(conn)
	path := filepath.Join(dir, "memory")
	for _, command := range []string{
		`{"execute":"qmp_capabilities"}`,
		fmt.Sprintf(`{"execute":"pmemsave","arguments":{"val":0,"size":%d,"filename":%q}}`, size, path),
	} {
		if _, err := fmt.Fprintln(conn, command); err != nil {
			t.Fatal(err)
		}
		for answer := (map[string]any{}); answer["return"] == nil; {
			clear(answer)
			if err := in.Decode(&answer); err != nil || answer["error"] != nil {
				t.Fatalf("%s: %v, %v", command, answer, err)
			}
		}
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	memory, err := syscall.Mmap(int(f.Fd()), 0, size, syscall.PROT_READ, syscall.MAP_PRIVATE)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Munmap(memory) })
	return memory
}

// eventLog finds the firmware's event log in a guest's memory, where the kernel
// keeps a copy, and returns the digests of each register, in order. The longest
// one is the kernel's: the others were taken before it began.
func eventLog(t *testing.T, memory []byte) map[tpmRegister][]string {
	t.Helper()
	var longest map[tpmRegister][]string
	most := 0
	signature := []byte("Spec ID Event03\x00")
	for at := 0; ; {
		i := bytes.Index(memory[at:], signature)
		if i < 0 {
			break
		}
		at += i + len(signature)
		if begin := at - len(signature) - firstEventHead; begin >= 0 {
			if events, n := parseEventLog(memory[begin:]); n > most {
				longest, most = events, n
			}
		}
	}
	if most == 0 {
		t.Fatal("there is no event log in the guest's memory")
	}
	return longest
}

// firstEventHead is what stands before the signature: the first event has the
// old form, with one SHA-1 digest.
const firstEventHead = 4 + 4 + 20 + 4

// parseEventLog reads a log in the crypto-agile form (TCG PC Client Platform
// Firmware Profile, 10) until what follows is no event. It counts the events.
func parseEventLog(b []byte) (map[tpmRegister][]string, int) {
	const noAction, lastPCR = 3, 23
	u32 := func() uint32 {
		if len(b) < 4 {
			b = nil
			return 1<<32 - 1
		}
		v := binary.LittleEndian.Uint32(b)
		b = b[4:]
		return v
	}
	out := map[tpmRegister][]string{}
	if u32() != 0 || u32() != noAction || len(b) < 24 {
		return nil, 0
	}
	b = b[20:]
	size := u32()
	if uint64(size) > uint64(len(b)) {
		return nil, 0
	}
	b = b[size:]
	sizes := map[uint16]int{4: 20, 0xb: 32, 0xc: 48, 0xd: 64} // TPM_ALG_ID
	banks := map[uint16]crypto.Hash{0xb: crypto.SHA256, 0xc: crypto.SHA384}
	for n := 0; ; n++ {
		pcr, kind, count := u32(), u32(), u32()
		if pcr > lastPCR || count == 0 || count > uint32(len(sizes)) {
			return out, n
		}
		found := map[tpmRegister]string{}
		for range count {
			if len(b) < 2 || sizes[binary.LittleEndian.Uint16(b)] == 0 || len(b) < 2+64 {
				return out, n
			}
			alg := binary.LittleEndian.Uint16(b)
			if bank, ok := banks[alg]; ok {
				found[tpmRegister{int(pcr), bank}] = fmt.Sprintf("%x", b[2:2+sizes[alg]])
			}
			b = b[2+sizes[alg]:]
		}
		size := u32()
		if uint64(size) > uint64(len(b)) {
			return out, n
		}
		b = b[size:]
		for r, digest := range found {
			if kind != noAction {
				out[r] = append(out[r], digest)
			}
		}
	}
}
