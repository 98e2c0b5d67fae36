package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"omega/attest"
)

// diffSample is a manifest with one input of each kind.
func diffSample() *attest.Manifest {
	subject := func(name string, n byte) attest.Subject {
		return attest.Subject{Name: name, Digest: attest.SubjectDigest{SHA256: attest.Bytes32{n}}}
	}
	m := &attest.Manifest{
		Type: attest.StatementType, PredicateType: attest.ReleasePredicate,
		Subject: []attest.Subject{
			subject("kernel", 1), subject("initrd", 2), subject("cmdline", 3), subject("ovmf", 4), subject("uki", 5), subject("disk", 6), subject("sbom.spdx", 7),
		},
		Predicate: attest.Release{
			Profile: "cpu", SVN: 1, Expires: time.Date(2027, 1, 2, 3, 4, 5, 0, time.UTC), PolicyDigest: attest.Bytes32{8}, Cmdline: "quiet", Go: "go1.26.8",
			Source:   map[string]attest.Bytes32{"linux-source-6.12": {9}, "ovmf-amdsev": {10}, "systemd-stub": {11}},
			Revision: &attest.Revision{GitTree: strings.Repeat("ab", 20), GitTreeSHA256: attest.Bytes32{12}},
			PCRs:     []attest.PCRValue{{Boot: "disk", Bank: "sha256", PCR: 4, Value: strings.Repeat("00", 32)}, {Boot: "direct", Bank: "sha256", PCR: 4, Value: strings.Repeat("01", 32)}},
			Inputs: map[string]string{
				"file:init/main.go": "aa", "module:/init:golang.org/x/sys": "v0.48.0 h1:x", "language:omega": "1.26.0", "compiler:flag 1": "-trimpath",
				"kernel-option:CONFIG_SMP": "y", "kernel-patch:aml.patch": "bb", "kernel-environment:TZ": "UTC", "kernel-tool:gcc": "gcc 12.2.0",
				"payload:/init": "0755 cc", "payload:/etc/omega/roots.pem": "0444 dd",
			},
		},
	}
	for n := range 4 {
		m.Predicate.LaunchDigests = append(m.Predicate.LaunchDigests, attest.LaunchDigest{OVMF: attest.Bytes32{4}, VCPUs: n + 1, CPU: "EPYC-Milan", GuestFeatures: "0x1", Digest: attest.Bytes48{byte(n + 1)}})
	}
	return m
}

// remeasured changes an artifact and what is computed from it.
func remeasured(m *attest.Manifest, names ...string) {
	for i := range m.Subject {
		if slices.Contains(names, m.Subject[i].Name) {
			m.Subject[i].Digest.SHA256[31]++
		}
	}
	if !launched(names) {
		return
	}
	for i := range m.Predicate.LaunchDigests {
		m.Predicate.LaunchDigests[i].OVMF = m.Subject[3].Digest.SHA256
		m.Predicate.LaunchDigests[i].Digest[47]++
	}
}

// launched reports whether the launch digest covers one of the artifacts.
func launched(names []string) bool {
	return slices.ContainsFunc(names, func(s string) bool { return slices.Contains([]string{"kernel", "initrd", "cmdline", "ovmf"}, s) })
}

func TestTheInputThatMadeTwoMeasurementsDifferIsNamed(t *testing.T) {
	set := func(name, value string) func(*attest.Manifest) {
		return func(m *attest.Manifest) { m.Predicate.Inputs[name] = value }
	}
	initrd, kernel := []string{"initrd", "uki", "disk", "sbom.spdx"}, []string{"kernel", "uki", "disk", "sbom.spdx"}
	tests := []struct {
		name      string
		change    func(*attest.Manifest)
		artifacts []string
		want      string
	}{
		{"a source file of ours", set("file:init/main.go", "ff"), initrd, "source file init/main.go\n  - aa\n  + ff"},
		{"a new source file", set("file:init/new.go", "ff"), initrd, "source file init/new.go\n  - (missing)\n  + ff"},
		{"a module's version", set("module:/init:golang.org/x/sys", "v0.49.0 h1:y"), initrd, "Go module golang.org/x/sys in /init\n  - v0.48.0 h1:x\n  + v0.49.0 h1:y"},
		{"go.mod's Go line", set("language:omega", "1.25.0"), initrd, "go.mod's Go line of module omega"},
		{"a compiler flag", set("compiler:flag 1", "-race"), initrd, "Go compiler's flag 1"},
		{"Go", func(m *attest.Manifest) { m.Predicate.Go = "go1.26.9" }, initrd, "Go\n  - go1.26.8\n  + go1.26.9"},
		{"the trust roots", set("payload:/etc/omega/roots.pem", "0444 ff"), initrd, "file /etc/omega/roots.pem of the initramfs"},
		{"a kernel option", set("kernel-option:CONFIG_SMP", "n"), kernel, "kernel option CONFIG_SMP\n  - y\n  + n"},
		{"a kernel patch", set("kernel-patch:aml.patch", "ff"), kernel, "kernel patch aml.patch"},
		{"the kernel's environment", set("kernel-environment:TZ", "CET"), kernel, "kernel's build environment TZ"},
		{"the C compiler", set("kernel-tool:gcc", "gcc 14"), kernel, "kernel's build tool gcc\n  - gcc 12.2.0\n  + gcc 14"},
		{"the kernel's source", func(m *attest.Manifest) { m.Predicate.Source["linux-source-6.12"] = attest.Bytes32{99} }, kernel, "source linux-source-6.12"},
		{"the firmware", func(m *attest.Manifest) { m.Predicate.Source["ovmf-amdsev"] = attest.Bytes32{99} }, []string{"ovmf"}, "source ovmf-amdsev"},
		{"the stub", func(m *attest.Manifest) { m.Predicate.Source["systemd-stub"] = attest.Bytes32{99} }, []string{"uki", "disk"}, "source systemd-stub"},
		{"the command line", func(m *attest.Manifest) { m.Predicate.Cmdline = "debug" }, []string{"cmdline", "uki", "disk"}, "command line\n  - quiet\n  + debug"},
		{"the policy", func(m *attest.Manifest) { m.Predicate.PolicyDigest = attest.Bytes32{99} }, initrd, "policy digest"},
		{"the SVN", func(m *attest.Manifest) { m.Predicate.SVN = 2 }, initrd, "SVN\n  - 1\n  + 2"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a, b := diffSample(), diffSample()
			tt.change(b)
			remeasured(b, tt.artifacts...)
			var told bytes.Buffer
			list := compareManifests(a, b)
			writeDifferences(&told, list)
			inputs, rest, ok := strings.Cut(told.String(), "what follows from that:")
			if !strings.HasPrefix(inputs, "inputs that differ:\n"+tt.want) || !ok {
				t.Fatalf("told:\n%s\nwant the input first: %s", &told, tt.want)
			}
			if n := strings.Count(inputs, "\n  - "); n != 1 {
				t.Errorf("%d inputs are named, want one:\n%s", n, inputs)
			}
			for _, name := range tt.artifacts {
				if !strings.Contains(rest, "artifact "+name) {
					t.Errorf("artifact %s is missing in:\n%s", name, rest)
				}
			}
			if strings.Contains(rest, "launch digest for 1 vCPUs of EPYC-Milan, features 0x1 (and of 3 other machines)") != launched(tt.artifacts) || strings.Contains(told.String(), "no input") {
				t.Errorf("told:\n%s", &told)
			}
		})
	}
}

func TestASingleFileFollowsFromWhatIsInside(t *testing.T) {
	a, b := diffSample(), diffSample()
	for _, m := range []*attest.Manifest{a, b} {
		m.Subject[1].Digest.SHA256 = sha256.Sum256(nil)
	}
	b.Predicate.Inputs["file:init/main.go"] = "ff"
	remeasured(b, "kernel", "uki", "disk")
	var told bytes.Buffer
	writeDifferences(&told, compareManifests(a, b))
	if !strings.HasPrefix(told.String(), "inputs that differ:\nsource file init/main.go\n") || strings.Contains(told.String(), "no input") {
		t.Errorf("told:\n%s", &told)
	}
}

func TestADifferenceWithoutAKnownInputIsSaidToBeOne(t *testing.T) {
	for _, name := range []string{"kernel", "initrd", "cmdline", "ovmf"} {
		a, b := diffSample(), diffSample()
		b.Predicate.Revision.GitTree = strings.Repeat("cd", 20)
		remeasured(b, name)
		var told bytes.Buffer
		writeDifferences(&told, compareManifests(a, b))
		if !strings.Contains(told.String(), "no input of it is known to") || !strings.Contains(told.String(), "artifact "+name) ||
			!strings.Contains(told.String(), "not measured, so no reason for another measurement:\nsource tree\n") {
			t.Errorf("%s: %s", name, &told)
		}
	}
}

func TestMachinesThatOnlyOneManifestHasAreAnInput(t *testing.T) {
	a, b := diffSample(), diffSample()
	b.Predicate.LaunchDigests = append(b.Predicate.LaunchDigests[:2:2], b.Predicate.LaunchDigests[3])
	var told bytes.Buffer
	writeDifferences(&told, compareManifests(a, b))
	if want := "inputs that differ:\nvCPUs of EPYC-Milan, features 0x1\n  - 1 to 4\n  + 1 to 2, 4\n"; told.String() != want {
		t.Errorf("told %q, want %q", told.String(), want)
	}
}

func TestTwoLaunchDigestsOfOneImageDifferInTheirMachine(t *testing.T) {
	m := diffSample()
	m.Predicate.LaunchDigests[1].CPU = "EPYC-Genoa"
	path := writeSample(t, m)
	digest := func(i int) string { return hex.EncodeToString(m.Predicate.LaunchDigests[i].Digest[:]) }
	code, out, _ := omega(t, "measure", "--diff", digest(0), digest(3), "--in", path)
	if code != exitMismatch || out != "inputs that differ:\nvCPUs\n  - 1\n  + 4\n" {
		t.Errorf("exit %d, %q", code, out)
	}
	code, out, _ = omega(t, "measure", "--diff", digest(2), digest(1), "--in", path)
	if code != exitMismatch || !strings.Contains(out, "CPU model\n  - EPYC-Milan\n  + EPYC-Genoa") {
		t.Errorf("exit %d, %q", code, out)
	}
	if code, _, words := omega(t, "measure", "--diff", digest(0), strings.Repeat("ee", 48), "--in", path); code != exitMismatch || !strings.Contains(words, "another image") {
		t.Errorf("exit %d, %q", code, words)
	}
	if code, _, _ := omega(t, "measure", "--diff", digest(0), "ee", "--in", path); code != exitUsage {
		t.Errorf("no digest: exit %d", code)
	}
	if code, _, words := omega(t, "measure", "--diff", digest(0), digest(3)); code != exitUsage || !strings.Contains(words, "--in") {
		t.Errorf("no manifest: exit %d, %q", code, words)
	}
}

func TestMeasureDiffPrintsJSON(t *testing.T) {
	a, b := diffSample(), diffSample()
	b.Predicate.Inputs = maps.Clone(b.Predicate.Inputs)
	delete(b.Predicate.Inputs, "kernel-option:CONFIG_SMP")
	remeasured(b, "kernel")
	code, out, _ := omega(t, "measure", "--diff", "--json", writeSample(t, a), writeSample(t, b))
	var got struct{ Differences []difference }
	if err := json.Unmarshal([]byte(out), &got); err != nil || code != exitMismatch || len(got.Differences) < 3 ||
		got.Differences[0] != (difference{"input", "kernel option CONFIG_SMP", "y", "(missing)"}) {
		t.Errorf("exit %d, %v, %s", code, err, out)
	}
}

// writeSample writes m as a file.
func writeSample(t *testing.T, m *attest.Manifest) string {
	t.Helper()
	b, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "manifest.json")
	if err := os.WriteFile(path, b, 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}
