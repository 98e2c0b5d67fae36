package images

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func placed(t *testing.T) *Artifacts {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{"k": "kernel bytes", "i": "initrd bytes", "o": "firmware bytes"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	p, err := profileNamed("cpu")
	if err != nil {
		t.Fatal(err)
	}
	a, err := place(filepath.Join(dir, "out"), p, []artifact{
		{"kernel", "kernel", filepath.Join(dir, "k")},
		{"initrd", "initrd", filepath.Join(dir, "i")},
		{"ovmf", "ovmf.fd", filepath.Join(dir, "o")},
	})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func sampleValues() Values {
	return Values{
		PolicyDigest: [32]byte{1},
		Launches:     []Launch{{VCPUs: 2, CPU: "EPYC-Milan", GuestFeatures: 1, Digest: [48]byte{2}}},
		PCRs:         []PCR{{"disk", "sha256", 4, "abcd"}},
	}
}

func TestManifestIsTheSameBytesForEveryone(t *testing.T) {
	var all [][]byte
	for range 20 {
		a := placed(t)
		a.Inputs = Inputs{"file:init/main.go": "ab", "kernel-option:CONFIG_A": "y", "module:/init:b": "v1"}
		a.Revision = Revision{"cd", "ef"}
		if err := WriteManifest(a, sampleValues()); err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(a.Manifest)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, b)
	}
	if slices.ContainsFunc(all, func(b []byte) bool { return !bytes.Equal(b, all[0]) }) {
		t.Error("builds of the same artifacts give different manifests")
	}
	for _, want := range []string{
		`{"_type":"https://in-toto.io/Statement/v1","predicate":{`,
		`"launch_digests":[{"cpu":"EPYC-Milan","digest":"02`, `"guest_features":"0x1"`, `"vcpus":2`,
		`"policy_digest":"01`, `"pcrs":[{"bank":"sha256","boot":"disk","pcr":4,"value":"abcd"}]`,
		`"inputs":{"file:init/main.go":"ab",`, `"revision":{"git_tree":"cd","git_tree_sha256":"ef"}`, `"systemd-stub":"390ecdc`, `"profile":"cpu"`, `"svn":1`, `"go":"go1.`,
		`"subject":[{"digest":{"sha256":"`, `"name":"cmdline"`,
	} {
		if !strings.Contains(string(all[0]), want) {
			t.Errorf("manifest lacks %s:\n%s", want, all[0])
		}
	}
}

func TestAnOldManifestDoesNotOutliveItsArtifacts(t *testing.T) {
	a := placed(t)
	if err := WriteManifest(a, Values{PolicyDigest: [32]byte{1}}); err != nil {
		t.Fatal(err)
	}
	p, err := profileNamed("cpu")
	if err != nil {
		t.Fatal(err)
	}
	writeAt(t, filepath.Join(a.Dir, "manifest.dsse.json"), "a signature")
	if _, err := place(a.Dir, p, []artifact{{"kernel", "kernel", filepath.Join(a.Dir, "absent")}}); err == nil {
		t.Fatal("an absent artifact was placed")
	}
	for _, name := range []string{"manifest.json", "manifest.dsse.json"} {
		if _, err := os.Stat(filepath.Join(a.Dir, name)); err == nil {
			t.Errorf("the %s of the build before is still beside other files", name)
		}
	}
}

func TestOnlyKnownProfilesAreBuilt(t *testing.T) {
	_, err := Build(t.Context(), Options{Profile: "unheard-of"})
	expect(t, err, "unheard-of")
}
