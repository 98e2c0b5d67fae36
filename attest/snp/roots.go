package snp

import (
	"crypto/sha256"
	"crypto/x509"
	"embed"
	"encoding/hex"
	"fmt"
)

//go:embed roots/*.pem
var rootFiles embed.FS

// amdRoots pins AMD's root keys: the SHA-256 of the DER of each ARK.
var amdRoots = []struct {
	product Product
	ark     string
	files   []string
}{
	{Milan, "69d063b45344d26a2e94e1f4210de49ef555308287d4c174445c95639a540bcd", []string{"roots/milan-vcek.pem", "roots/milan-vlek.pem"}},
	{Genoa, "4c6598d19c18719c5dfd4a7d335f674e5bfe1d8f800cea2cf270c10d103db2f1", []string{"roots/genoa-vcek.pem", "roots/genoa-vlek.pem"}},
	{Turin, "1f084161a44bb6d93778a904877d4819cafa5d05ef4193b2ded9dd9c73dd3f6a", []string{"roots/turin-vcek.pem", "roots/turin-vlek.pem"}},
}

// Root is a root key that a caller chose to trust for one product, with the
// intermediate certificates that are known below it.
type Root struct {
	Product       Product
	ARK           *x509.Certificate
	Intermediates []*x509.Certificate // ASK for VCEKs, ASVK for VLEKs
}

// AMDRoots are the root keys of AMD's key distribution service.
func AMDRoots() ([]Root, error) {
	var out []Root
	for _, r := range amdRoots {
		root := Root{Product: r.product}
		for _, name := range r.files {
			b, err := rootFiles.ReadFile(name)
			if err != nil {
				return nil, fmt.Errorf("AMD root: %w", err)
			}
			certs, err := ParseCertificates(b)
			if err != nil || len(certs) != 2 {
				return nil, fmt.Errorf("AMD root %s: %d certificates: %w", name, len(certs), err)
			}
			if sum := sha256.Sum256(certs[1].Raw); hex.EncodeToString(sum[:]) != r.ark {
				return nil, fmt.Errorf("AMD root %s: ARK %x is not the pinned one", name, sum)
			}
			root.ARK = certs[1]
			root.Intermediates = append(root.Intermediates, certs[0])
		}
		out = append(out, root)
	}
	return out, nil
}
