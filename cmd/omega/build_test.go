package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"omega/attest"
	"omega/images"
	"omega/internal/skip"
)

func TestBuildSaysWhatIsWrongBeforeItBuilds(t *testing.T) {
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	broken := file("broken.yaml", "version: omega/policy/v1\nplatform: test\nagents: nonsense\n")
	notRoots := file("roots.txt", "no certificate\n")
	tests := []struct {
		name string
		args []string
		want string
	}{
		{"a policy that does not compile", []string{"--policy", broken}, "broken.yaml:3"},
		{"a policy that is not there", []string{"--policy", filepath.Join(dir, "absent.yaml")}, "absent.yaml"},
		{"an unknown profile", []string{"--profile", "unheard-of", "--out", dir}, "unheard-of"},
		{"roots that are none", []string{"--roots", notRoots}, "no certificate"},
		{"a key that cannot sign", []string{"--sign", notRoots, "--out", dir}, "signing key: not PEM"},
		{"a stray argument", []string{"stray"}, "stray"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var out, words bytes.Buffer
			e := &env{Stdin: strings.NewReader(""), Stdout: &out, Stderr: &words}
			err := runBuild(t.Context(), e, tt.args)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want one with %q", err, tt.want)
			}
			if out.Len() > 0 {
				t.Errorf("stdout has %q", out.String())
			}
			if _, err := os.Stat(filepath.Join(dir, "kernel")); err == nil {
				t.Error("an image was built")
			}
		})
	}
}

// What `omega build` left is read the way a Verifier reads it.
func TestBuiltManifestHasTheLaunchDigestsOfItsFiles(t *testing.T) {
	root, err := sourceRoot()
	if err != nil {
		t.Fatal(err)
	}
	a := images.At(filepath.Join(root, "build", "cpu"))
	b, err := os.ReadFile(a.Manifest)
	if err != nil {
		skip.Missing(t, "no image is built; `omega build` makes one")
	}
	m, err := attest.ParseManifest(b)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range m.Subject {
		a.Digests[s.Name] = s.Digest.SHA256
	}
	cmdline, err := os.ReadFile(a.Cmdline)
	if err != nil || string(cmdline) != m.Predicate.Cmdline {
		t.Errorf("command line %q, the manifest says %q, error %v", cmdline, m.Predicate.Cmdline, err)
	}
	a.Arguments = string(cmdline)
	launches, err := launchDigests(a)
	if err != nil {
		t.Fatal(err)
	}
	if len(launches) != len(m.Predicate.LaunchDigests) {
		t.Errorf("%d launch digests, the manifest has %d", len(launches), len(m.Predicate.LaunchDigests))
	}
	pcrs, err := predictedPCRs(a)
	if err != nil || len(pcrs) != 16 || len(m.Predicate.PCRs) != 16 {
		t.Fatalf("%d PCRs, the manifest has %d, %v", len(pcrs), len(m.Predicate.PCRs), err)
	}
	for i, p := range m.Predicate.PCRs {
		if images.PCR(p) != pcrs[i] {
			t.Errorf("PCR %+v, the manifest has %+v", pcrs[i], p)
		}
	}
	for _, l := range launches {
		if m.Launch(l.Digest) == nil {
			t.Errorf("%d vCPUs of %s: the manifest lacks %x", l.VCPUs, l.CPU, l.Digest)
		}
	}
}
