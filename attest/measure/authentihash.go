package measure

import (
	"cmp"
	"crypto"
	_ "crypto/sha256" // the banks' algorithms
	_ "crypto/sha512"
	"errors"
	"fmt"
	"slices"

	"omega/internal/pe"
)

// Authentihash is the digest of an EFI program by which firmware measures it
// (Microsoft, "Windows Authenticode Portable Executable Signature Format",
// "Calculating the PE Image Hash"): everything but the checksum and what
// belongs to signatures.
func Authentihash(program []byte, bank crypto.Hash) ([]byte, error) {
	img, err := pe.Parse(program)
	if err != nil {
		return nil, err
	}
	return authentihash(img, bank)
}

func authentihash(img *pe.Image, bank crypto.Hash) ([]byte, error) {
	h := bank.New()
	headers := int(img.SizeOfHeaders)
	if img.CheckSum+4 > headers || img.Certificates+8 > headers {
		return nil, errors.New("PE image: headers do not fit")
	}
	h.Write(img.Raw[:img.CheckSum])
	rest := img.CheckSum + 4
	if img.Certificates != 0 {
		h.Write(img.Raw[rest:img.Certificates])
		rest = img.Certificates + 8
	}
	h.Write(img.Raw[rest:headers])
	hashed := uint64(headers)
	order := slices.Clone(img.Sections)
	slices.SortStableFunc(order, func(a, b pe.Section) int { return cmp.Compare(a.PointerToRawData, b.PointerToRawData) })
	for _, s := range order {
		if s.SizeOfRawData == 0 {
			continue
		}
		h.Write(img.Raw[s.PointerToRawData:][:s.SizeOfRawData])
		hashed += uint64(s.SizeOfRawData)
	}
	// What stands behind the sections counts, down to the certificates.
	end := uint64(len(img.Raw)) - uint64(img.CertificateSize)
	if hashed > end {
		return nil, fmt.Errorf("PE image: sections overlap: %d bytes in a file of %d", hashed, end)
	}
	h.Write(img.Raw[hashed:end])
	return h.Sum(nil), nil
}
