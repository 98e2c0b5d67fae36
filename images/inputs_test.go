package images

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestInputsNameEveryFileOfThePayload(t *testing.T) {
	in := Inputs{}
	in.payload(sample())
	want := Inputs{
		"payload:/dev": "0755 directory", "payload:/dev/console": "0600 device 5:1", "payload:/etc": "0755 directory",
		"payload:/init":            "0755 1310ca2c8932dbd118668bd97442558a3e1f546b5e15c69699dfbd6024f548d8",
		"payload:/etc/policy.json": "0444 44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a",
	}
	if diff := cmp.Diff(want, in); diff != "" {
		t.Error(diff)
	}
}

// The inputs of what `omega build` left are those of this tree, where there is
// one: every package of ours, every module, every option.
func TestTheBuiltImagesManifestNamesItsInputs(t *testing.T) {
	a, files := builtPayload(t)
	b, err := os.ReadFile(a.Manifest)
	if err != nil {
		t.Fatal(err)
	}
	manifest := string(b)
	for _, want := range []string{
		`"file:init/main.go":"`, `"file:init/phases.go":"`, `"file:images/runsc/main.go":"`, `"file:agentloader/shim/main.go":"`,
		`"module:/bin/runsc:gvisor.dev/gvisor":"v0.0.0-`, `"module:/init:github.com/tetratelabs/wazero":"v1.`, `"language:omega":"1.26.0"`,
		`"kernel-option:CONFIG_AMD_MEM_ENCRYPT":"y"`, `"kernel-patch:`, `"kernel-tool:gcc":"gcc`, `"compiler:GOAMD64":"v1"`,
	} {
		if !strings.Contains(manifest, want) {
			t.Errorf("the manifest does not name %s", want)
		}
	}
	for name := range files {
		if !strings.Contains(manifest, `"payload:/`+name+`":"0`) {
			t.Errorf("the manifest does not name /%s", name)
		}
	}
	if strings.Contains(manifest, "_test.go") {
		t.Error("tests are no input")
	}
}

func TestGuestCodeIsCountedInLines(t *testing.T) {
	dir := t.TempDir()
	writeAt(t, filepath.Join(dir, "init", "a.go"), "package main\n\n// x\n")
	writeAt(t, filepath.Join(dir, "init", "data.json"), "{\n}\n")
	got, err := Inputs{"file:init/a.go": "x", "file:init/data.json": "y", "module:/init:b": "z"}.Code(dir)
	if err != nil || got != (Code{Files: 1, Lines: 3}) {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := (Inputs{"file:gone.go": "x"}).Code(dir); err == nil {
		t.Error("a file that is gone was counted")
	}
}
