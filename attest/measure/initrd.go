package measure

import (
	"fmt"
	"strings"

	"omega/internal/pe"
)

// wrappedSections are what the stub hands on as files in /.extra, behind the
// initrd itself (systemd v257, src/boot/stub.c, generate_embedded_initrds).
var wrappedSections = []struct{ section, file string }{
	{".pcrsig", "tpm2-pcr-signature.json"},
	{".pcrpkey", "tpm2-pcr-public-key.pem"},
	{".osrel", "os-release"},
}

// combinedInitrd is what the kernel in a UKI gets as its initrd: the sections
// in the stub's order, each padded to 4 bytes; one alone is not padded.
func combinedInitrd(img *pe.Image) ([]byte, error) {
	var list [][]byte
	for _, name := range []string{".ucode", ".initrd"} {
		b, err := img.Content(name)
		if err != nil {
			return nil, err
		}
		if b != nil {
			list = append(list, b)
		}
	}
	for _, w := range wrappedSections {
		b, err := img.Content(w.section)
		if err != nil {
			return nil, err
		}
		if b != nil {
			list = append(list, wrap(w.file, b))
		}
	}
	if len(list) == 1 {
		return list[0], nil
	}
	var out []byte
	for _, b := range list {
		out = pad4(append(out, b...))
	}
	return out, nil
}

// wrap is the stub's own cpio archive: /.extra and one file in it.
func wrap(name string, content []byte) []byte {
	const directory, file = 0o040555, 0o100444
	out := cpioEntry(nil, 1, directory, 0, ".extra")
	out = cpioEntry(out, 2, file, len(content), ".extra/"+name)
	out = pad4(append(out, content...))
	out = append(out, "070701"+strings.Repeat("0", 32)+"00000001"+strings.Repeat("0", 48)+"0000000B"+strings.Repeat("0", 8)...)
	return append(out, "TRAILER!!!\x00\x00\x00\x00"...)
}

// cpioEntry appends a header (Documentation/driver-api/early-userspace/buffer-format.rst).
func cpioEntry(out []byte, inode, mode, size int, path string) []byte {
	out = fmt.Appendf(out, "070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%s\x00",
		inode, mode, 0, 0, 1, 0, size, 0, 0, 0, 0, len(path)+1, 0, path)
	return pad4(out)
}

func pad4(b []byte) []byte {
	for len(b)%4 != 0 {
		b = append(b, 0)
	}
	return b
}
