package main

import (
	"fmt"
	"maps"
	"slices"

	"omega/attest"
)

// pairs joins two maps by key, in the order of the keys.
func pairs(a, b map[string]string) [][3]string {
	all := maps.Clone(a)
	maps.Copy(all, b)
	var out [][3]string
	for _, k := range slices.Sorted(maps.Keys(all)) {
		out = append(out, [3]string{k, orMissing(a, k), orMissing(b, k)})
	}
	return out
}

func orMissing(m map[string]string, k string) string {
	if v, ok := m[k]; ok {
		return v
	}
	return "(missing)"
}

func artifactsOf(m *attest.Manifest) map[string]string {
	out := map[string]string{}
	for _, s := range m.Subject {
		out["artifact "+s.Name] = s.Digest.SHA256.String()
	}
	return out
}

func sourcesOf(r *attest.Release) map[string]string {
	out := map[string]string{}
	for name, d := range r.Source {
		out[name] = d.String()
	}
	return out
}

func launchesOf(r *attest.Release) map[string]string {
	out := map[string]string{}
	for _, l := range r.LaunchDigests {
		out[fmt.Sprintf("%d vCPUs of %s, features %s, firmware %s", l.VCPUs, l.CPU, l.GuestFeatures, l.OVMF)] = l.Digest.String()
	}
	return out
}
