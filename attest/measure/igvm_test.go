package measure

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"testing"

	"omega/internal/vectors"
)

// readIGVM is our own reader: it takes the file apart by the format's numbers,
// as a loader does, and returns the policy and the launch digest of what lies in it.
func readIGVM(b []byte) (policy uint64, digest [48]byte, err error) {
	le := binary.LittleEndian
	if len(b) < 24 || string(b[:4]) != "IGVM" || le.Uint32(b[4:]) != 1 || int(le.Uint32(b[16:])) != len(b) {
		return 0, digest, errors.New("fixed header")
	}
	start, size := int(le.Uint32(b[8:])), int(le.Uint32(b[12:]))
	if start < 24 || start%8 != 0 || size < 0 || start+size > len(b) {
		return 0, digest, errors.New("variable header")
	}
	head := bytes.Clone(b[:start+size])
	clear(head[20:24])
	if crc32.ChecksumIEEE(head) != le.Uint32(b[20:]) {
		return 0, digest, errors.New("checksum")
	}
	var g gctx
	section, vcpus := uint32(0), uint16(0)
	for rest := head[start:]; len(rest) > 0; {
		kind, n := le.Uint32(rest), int(le.Uint32(rest[4:]))
		item := rest[8 : 8+n]
		rest = rest[8+(n+7)/8*8:]
		if kind>>8 < section { // platform, initialization, directives
			return 0, digest, fmt.Errorf("item %#x comes too late", kind)
		}
		section = kind >> 8
		at := uint64(0)
		if kind >= 0x300 {
			if le.Uint32(item[8:]) != 1 {
				return 0, digest, errors.New("compatibility mask")
			}
			at = uint64(le.Uint32(item[12:]))
		}
		switch {
		case kind == 0x1 && n == 16 && le.Uint32(item) == 1 && item[5] == 2 && le.Uint16(item[6:]) == 1:
		case kind == 0x101 && n == 16 && le.Uint32(item[8:]) == 1:
			policy = le.Uint64(item)
		case kind == 0x302 && n == 24 && le.Uint32(item[16:]) == 0:
			gpa, empty := le.Uint64(item), at == 0
			switch t := le.Uint16(item[20:]); {
			case t == 0 && empty:
				g.blank(pageZero, gpa, 0x1000)
			case t == 0:
				g.data(pageNormal, gpa, b[at:at+0x1000])
			case t == 1 && empty:
				g.blank(pageSecrets, gpa, 0x1000)
			case t == 2 && empty:
				g.blank(pageCPUID, gpa, 0x1000)
			default:
				return 0, digest, fmt.Errorf("page data type %d", t)
			}
		case kind == 0x304 && n == 20 && le.Uint16(item[16:]) == vcpus:
			g.data(pageVMSA, le.Uint64(item), b[at:at+0x1000])
			vcpus++
		default:
			return 0, digest, fmt.Errorf("item %#x of %d bytes", kind, n)
		}
	}
	return policy, g.digest, nil
}

func TestAnIGVMFileHasTheLaunchDigestOfDirectBoot(t *testing.T) {
	var file struct{ Cases []golden }
	if err := json.Unmarshal(vectors.Read(t, "launch-digest", "golden.json"), &file); err != nil {
		t.Fatal(err)
	}
	tried := 0
	for i, c := range file.Cases {
		in := c.input(t)
		b, err := IGVM(in, 0x30000)
		if in.VMM != QEMU {
			if err == nil {
				t.Errorf("case %d: a file for %s", i, in.VMM)
			}
			continue
		}
		if err != nil {
			t.Fatalf("case %d: %v", i, err)
		}
		policy, digest, err := readIGVM(b)
		if err != nil || policy != 0x30000 || fmt.Sprintf("%x", digest) != c.LaunchDigest {
			t.Errorf("case %d: policy %#x, digest %x, error %v; want %s", i, policy, digest, err, c.LaunchDigest)
		}
		tried++
	}
	if tried == 0 {
		t.Error("no case is for QEMU")
	}
}

func TestAnIGVMFileIsTheSameBytesAgainAndOneFlippedBitIsSeen(t *testing.T) {
	in := Input{
		OVMF: vectors.Read(t, "launch-digest", "ovmf_AmdSev_suffix.bin"), Kernel: Bytes([]byte("kernel")),
		VCPUs: 3, CPU: "EPYC-Turin", VMM: QEMU, GuestFeatures: 1,
	}
	a, err := IGVM(in, 0x30000)
	if err != nil {
		t.Fatal(err)
	}
	if b, err := IGVM(in, 0x30000); err != nil || !bytes.Equal(a, b) {
		t.Errorf("two files of one machine differ, error %v", err)
	}
	want, err := LaunchDigest(in)
	if err != nil {
		t.Fatal(err)
	}
	for _, at := range []int{0, 5, 21, 40, len(a) - 1} {
		broken := bytes.Clone(a)
		broken[at] ^= 1
		if _, digest, err := readIGVM(broken); err == nil && digest == want {
			t.Errorf("bit flipped at %d: not seen", at)
		}
	}
	in.CPU = "Opteron"
	if _, err := IGVM(in, 0x30000); err == nil {
		t.Error("a file for an unknown CPU")
	}
}
