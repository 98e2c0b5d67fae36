package measure

import (
	"fmt"
	"strings"
)

// cpuModel is a CPU's family, model and stepping as QEMU reports them.
type cpuModel struct{ family, model, stepping uint32 }

// cpuModels are QEMU's EPYC models (target/i386/cpu.c, builtin_x86_defs) with
// the number of versions of each; -vN never changes the signature. Models
// older than EPYC have no SEV.
var cpuModels = []struct {
	name     string
	versions int
	cpuModel
}{
	{"EPYC", 5, cpuModel{23, 1, 2}},
	{"EPYC-IBPB", 0, cpuModel{23, 1, 2}}, // alias of EPYC-v2
	{"EPYC-Rome", 5, cpuModel{23, 49, 0}},
	{"EPYC-Milan", 3, cpuModel{25, 1, 1}},
	{"EPYC-Genoa", 2, cpuModel{25, 17, 0}},
	{"EPYC-Turin", 1, cpuModel{26, 0, 0}},
}

// CPUSignature is CPUID Fn0000_0001 EAX of a CPU model of QEMU. An unknown
// name is an error: a guessed signature gives a digest that no machine has.
func CPUSignature(name string) (uint32, error) {
	for _, m := range cpuModels {
		if name == m.name {
			return m.signature(), nil
		}
		for v := 1; v <= m.versions; v++ {
			if name == fmt.Sprintf("%s-v%d", m.name, v) {
				return m.signature(), nil
			}
		}
	}
	var known []string
	for _, m := range cpuModels {
		known = append(known, m.name)
	}
	return 0, fmt.Errorf("CPU model %.80q is not known; known are %s, and their versions (%s-v1)", name, strings.Join(known, ", "), known[0])
}

// signature packs extended family, extended model, family, model, stepping
// (AMD APM volume 3, CPUID Fn0000_0001_EAX).
func (m cpuModel) signature() uint32 {
	low, high := m.family, uint32(0)
	if m.family > 0xf {
		low, high = 0xf, m.family-0xf
	}
	return high<<20 | m.model>>4<<16 | low<<8 | m.model&0xf<<4 | m.stepping
}
