package main

import (
	"fmt"
	"slices"

	"omega/attest"
)

func artifactsOf(m *attest.Manifest) map[string]string {
	out := map[string]string{}
	for _, s := range m.Subject {
		out[s.Name] = s.Digest.SHA256.String()
	}
	return out
}

func textOf(m map[string]attest.Bytes32) map[string]string {
	out := map[string]string{}
	for name, d := range m {
		out[name] = d.String()
	}
	return out
}

func revisionOf(r *attest.Release) map[string]string {
	if r.Revision == nil {
		return nil
	}
	return map[string]string{"source tree": r.Revision.GitTree, "source tree in SHA-256": r.Revision.GitTreeSHA256.String()}
}

// firmwareOf tells a machine's firmware where it is not the release's own.
func firmwareOf(m *attest.Manifest, l attest.LaunchDigest) string {
	if own := artifactsOf(m)["ovmf"]; own == "" || own == l.OVMF.String() {
		return ""
	}
	return ", firmware " + l.OVMF.String()
}

// machines compares which machines two manifests have launch digests for.
func (l *differences) machines(a, b *attest.Manifest) {
	x, y := vcpusOf(a), vcpusOf(b)
	l.pairs(diffInput, x, y, func(k string) string { return "vCPUs of " + k })
}

// vcpusOf tells the vCPU counts of each CPU model as ranges.
func vcpusOf(m *attest.Manifest) map[string]string {
	counts := map[string][]int{}
	for _, l := range m.Predicate.LaunchDigests {
		k := fmt.Sprintf("%s, features %s%s", l.CPU, l.GuestFeatures, firmwareOf(m, l))
		counts[k] = append(counts[k], l.VCPUs)
	}
	out := map[string]string{}
	for k, list := range counts {
		slices.Sort(list)
		text := ""
		for i := 0; i < len(list); {
			j := i
			for j+1 < len(list) && list[j+1] <= list[j]+1 {
				j++
			}
			if text != "" {
				text += ", "
			}
			if text += fmt.Sprint(list[i]); list[j] > list[i] {
				text += fmt.Sprint(" to ", list[j])
			}
			i = j + 1
		}
		out[k] = text
	}
	return out
}

// computed compares what follows from the artifacts: one line stands for all
// launch digests, and one for all PCRs.
func (l *differences) computed(a, b *attest.Manifest) {
	other := map[string]string{}
	for _, d := range b.Predicate.LaunchDigests {
		other[machineOf(b, d)] = d.Digest.String()
	}
	var launches, pcrs differences
	for _, d := range a.Predicate.LaunchDigests {
		name := machineOf(a, d)
		if digest, ok := other[name]; ok {
			launches.differ(diffResult, "launch digest for "+name, d.Digest.String(), digest)
		}
	}
	values := map[string]string{}
	for _, p := range b.Predicate.PCRs {
		values[registerOf(p)] = p.Value
	}
	for _, p := range a.Predicate.PCRs {
		if value, ok := values[registerOf(p)]; ok {
			pcrs.differ(diffResult, registerOf(p), p.Value, value)
		}
	}
	x, y := artifactsOf(a), artifactsOf(b)
	l.first(launches, "machines", slices.ContainsFunc([]string{"kernel", "initrd", "cmdline", "ovmf"}, func(s string) bool { return x[s] != y[s] }))
	l.first(pcrs, "registers", x["uki"] != y["uki"])
}

// first notes one of many differences that have the same reason, if there is one.
func (l *differences) first(list differences, what string, explained bool) {
	if len(list) == 0 {
		return
	}
	d := list[0]
	if !explained {
		d.Place = diffOdd
	}
	if n := len(list) - 1; n > 0 {
		d.What += fmt.Sprintf(" (and of %d other %s)", n, what)
	}
	*l = append(*l, d)
}

func machineOf(m *attest.Manifest, l attest.LaunchDigest) string {
	return fmt.Sprintf("%d vCPUs of %s, features %s%s", l.VCPUs, l.CPU, l.GuestFeatures, firmwareOf(m, l))
}

func registerOf(p attest.PCRValue) string {
	return fmt.Sprintf("PCR %d of %s boot, %s", p.PCR, p.Boot, p.Bank)
}
