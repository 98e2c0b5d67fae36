package kernel

import (
	"fmt"
	"slices"
)

// A Variant is one kernel that the recipe gives.
type Variant struct {
	Name      string
	Fragments []string // of config.d, in order
	MaxSize   int64    // of the finished image, in bytes
}

// common is what every kernel has.
var common = []string{
	"00-base", "10-x86", "20-snp", "30-devices", "40-storage", "50-sandbox", "60-network", "70-hardening",
}

// Variants are all kernels: the place where it runs, then what may be loaded.
var Variants = []Variant{
	{Name: "cpu", Fragments: with("80-qemu", "90-closed"), MaxSize: 6 << 20},
	{Name: "cloud", Fragments: with("80-cloud", "90-closed"), MaxSize: 7 << 20},
	{Name: "gpu", Fragments: with("80-qemu", "90-gpu"), MaxSize: 7 << 20},
	// The initramfs is inside, so the bound is that of the whole payload.
	{Name: "single", Fragments: with("80-qemu", "90-closed", "95-single"), MaxSize: 24 << 20},
}

func with(more ...string) []string { return append(slices.Clone(common), more...) }

// Named returns the variant called name.
func Named(name string) (Variant, error) {
	for _, v := range Variants {
		if v.Name == name {
			return v, nil
		}
	}
	return Variant{}, fmt.Errorf("no kernel variant %q", name)
}
