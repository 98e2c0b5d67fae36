package snp

import (
	"fmt"
	"strconv"
	"strings"
)

// Product is a line of AMD's processors that share a root key.
type Product string

// Products whose reports can be verified.
const (
	Milan Product = "Milan"
	Genoa Product = "Genoa"
	Turin Product = "Turin"
)

// productLine is what differs from product to product.
type productLine struct {
	product Product
	// family and models are the CPUs that belong to it, by CPUID.
	family byte
	models [][2]byte
	// names are the words that a VCEK's product name may begin with.
	names []string
	// tcb gives, for each byte of TCB_VERSION from the lowest, the last number
	// of the extension that holds it in a certificate (AMD publication 57230,
	// "VCEK Certificate"), and its name; reserved bytes have names too.
	tcb [8]tcbPart
	// hwid is the length of the HWID extension; the rest of CHIP_ID is zero.
	hwid int
}

type tcbPart struct {
	oid  int
	name string
}

var (
	tcbMilan = [8]tcbPart{{1, "bl"}, {2, "tee"}, {4, "spl4"}, {5, "spl5"}, {6, "spl6"}, {7, "spl7"}, {3, "snp"}, {8, "microcode"}}
	tcbTurin = [8]tcbPart{{9, "fmc"}, {1, "bl"}, {2, "tee"}, {3, "snp"}, {5, "spl5"}, {6, "spl6"}, {7, "spl7"}, {8, "microcode"}}
)

// productLines are the known products. Zen 4c parts (Bergamo, Siena; models
// A0h to AFh) are endorsed under Genoa's keys.
var productLines = []productLine{
	{Milan, 0x19, [][2]byte{{0x00, 0x0f}}, []string{"Milan"}, tcbMilan, 64},
	{Genoa, 0x19, [][2]byte{{0x10, 0x1f}, {0xa0, 0xaf}}, []string{"Genoa", "Bergamo", "Siena"}, tcbMilan, 64},
	{Turin, 0x1a, [][2]byte{{0x00, 0x1f}}, []string{"Turin"}, tcbTurin, 8},
}

func lineOf(p Product) (*productLine, error) {
	for i := range productLines {
		if productLines[i].product == p {
			return &productLines[i], nil
		}
	}
	return nil, fmt.Errorf("product %q is not known", p)
}

// has reports whether the CPU belongs to the product.
func (l *productLine) has(family, model byte) bool {
	if family != l.family {
		return false
	}
	for _, m := range l.models {
		if model >= m[0] && model <= m[1] {
			return true
		}
	}
	return false
}

// cpus says which CPUs belong to the product.
func (l *productLine) cpus() string {
	var models []string
	for _, m := range l.models {
		models = append(models, fmt.Sprintf("%#x to %#x", m[0], m[1]))
	}
	return fmt.Sprintf("family %#x, models %s", l.family, strings.Join(models, ", "))
}

// TCB is a TCB_VERSION: eight security version numbers, laid out by product.
type TCB uint64

// String is t in hex, as a number.
func (t TCB) String() string { return fmt.Sprintf("0x%016x", uint64(t)) }

// MarshalText writes t as String does.
func (t TCB) MarshalText() ([]byte, error) { return []byte(t.String()), nil }

// UnmarshalText reads 0x and exactly 16 lower-case hex digits.
func (t *TCB) UnmarshalText(text []byte) error {
	n, err := strconv.ParseUint(strings.TrimPrefix(string(text), "0x"), 16, 64)
	if err != nil || TCB(n).String() != string(text) {
		return fmt.Errorf("TCB %.20q: want 0x and 16 lower-case hex digits", text)
	}
	*t = TCB(n)
	return nil
}

// Parts names the version numbers of t.
func (t TCB) Parts(p Product) (map[string]byte, error) {
	l, err := lineOf(p)
	if err != nil {
		return nil, err
	}
	out := map[string]byte{}
	for i, part := range l.tcb {
		out[part.name] = byte(t >> (8 * i))
	}
	return out, nil
}

// AtLeast reports whether each version number of t reaches that of floor. The
// layouts differ, but every byte is a number of its own in all of them.
func (t TCB) AtLeast(floor TCB) bool {
	for i := range 8 {
		if byte(t>>(8*i)) < byte(floor>>(8*i)) {
			return false
		}
	}
	return true
}
