package main

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/u-root/u-root/pkg/cpio"

	"omega/attest"
	"omega/cmd/omega/internal/qemu"
	"omega/images"
)

// extraDisk attaches bytes as a disk with a serial.
func extraDisk(t *testing.T, serial string, content []byte) func(*qemu.Machine) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(path, append(content, make([]byte, 4096-len(content)%4096)...), 0o600); err != nil {
		t.Fatal(err)
	}
	return func(m *qemu.Machine) {
		m.Extra = append(m.Extra, "-drive", "file="+path+",if=none,id=hostile,format=raw", "-device", "virtio-blk-pci,drive=hostile,serial="+serial)
	}
}

// configFrame is a config disk that says it holds n bytes.
func configFrame(n uint32, text string) []byte {
	return append(binary.BigEndian.AppendUint32([]byte("OMEGACFG"), n), text...)
}

// TestVMRefusesAHostileMachine boots the measured image on machines that it must
// not serve on. It says why, in fixed words, and is off.
func TestVMRefusesAHostileMachine(t *testing.T) {
	from, zero := image(t), [32]byte{}
	tests := []struct {
		name    string
		arrange func(*qemu.Machine)
		o       bootOptions
		want    string
	}{
		{
			"a display that nobody ordered",
			func(m *qemu.Machine) { m.Extra = []string{"-device", "VGA,romfile="} },
			bootOptions{},
			"phase gpu: unexpected display device",
		},
		{
			"a config disk that lies about its length",
			extraDisk(t, "omega-config", configFrame(1<<32-1, plainConfig)),
			bootOptions{HostData: &zero},
			"phase config: launch config malformed",
		},
		{
			"a config disk of noise",
			extraDisk(t, "omega-config", bytes.Repeat([]byte("\x00\xffOMEGA{["), 9999)),
			bootOptions{HostData: &zero},
			"phase config: launch config malformed",
		},
		{
			"two config disks",
			extraDisk(t, "omega-config", configFrame(uint32(len(plainConfig)), plainConfig)),
			bootOptions{Config: config(t, plainConfig)},
			"phase config",
		},
		{
			"a log disk that holds something else",
			extraDisk(t, "omega-log", []byte("somebody's data")),
			bootOptions{},
			"phase log",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			tt.o.Artifacts, tt.o.Arrange = from, tt.arrange
			v, err := launch(t, tt.o)
			if err != nil {
				t.Fatal(err)
			}
			if err := v.Wait(vmContext(t)); err != nil {
				t.Fatal(err)
			}
			if got, _ := v.PoweredOff(); got != tt.want {
				t.Errorf("reason %q, want %q", got, tt.want)
			}
			if slices.ContainsFunc(v.Lines(), func(l string) bool { return strings.HasPrefix(l, "omega: serving") }) {
				t.Error("it served before it refused")
			}
		})
	}
}

// TestVerifierRefusesWhatWasNotMeasured boots what a host may put together from
// the image and things of its own. The guest runs it, because plain QEMU asks
// nobody; the launch digest, computed over what was launched, gives it away.
func TestVerifierRefusesWhatWasNotMeasured(t *testing.T) {
	from := image(t)
	tests := []struct {
		name  string
		edits map[string]func([]byte) ([]byte, error)
		took  func(v *vm, e *attest.Evidence) bool // shows that the change was in force
		fails []string                             // the checks that must fail
	}{
		{
			"a second initrd behind the measured one",
			map[string]func([]byte) ([]byte, error){"initrd": appendInitrd},
			func(_ *vm, e *attest.Evidence) bool { return e.Boot.SVN == hostileSVN },
			[]string{"measurement", "svn"},
		},
		{
			"another initrd, with a policy of the host's",
			map[string]func([]byte) ([]byte, error){"initrd": otherInitrd},
			nil,
			[]string{"measurement", "policy"},
		},
		{
			"an altered command line",
			map[string]func([]byte) ([]byte, error){"cmdline": alterCmdline},
			func(v *vm, _ *attest.Evidence) bool {
				return slices.ContainsFunc(v.Lines(), func(l string) bool {
					return strings.Contains(l, "Command line: ") && strings.HasSuffix(l, hostileArguments)
				})
			},
			[]string{"measurement"},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			if err := variant(from, dir, tt.edits); err != nil {
				t.Fatal(err)
			}
			v, err := launch(t, bootOptions{Artifacts: dir})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := v.WaitLine(vmContext(t), "omega: serving "); err != nil {
				t.Fatal(err)
			}
			code, out := verifyVM(t, v, from)
			if code != exitMismatch || out.Verdict != attest.VerdictRefused || !slices.Equal(failed(out), tt.fails) {
				t.Errorf("exit %d, verdict %q, failed %q; want exit %d and %q", code, out.Verdict, failed(out), exitMismatch, tt.fails)
			}
			if tt.took != nil && !tt.took(v, out.Evidence) {
				t.Error("the change was not in force: this proves nothing")
			}
		})
	}
}

// A command line can also name another PID 1. What it names is not the platform:
// nothing serves, so there is no evidence to be fooled by.
func TestVMWithAnotherPID1ServesNothing(t *testing.T) {
	from, dir := image(t), t.TempDir()
	err := variant(from, dir, map[string]func([]byte) ([]byte, error){
		"cmdline": func(b []byte) ([]byte, error) { return append(bytes.TrimSpace(b), " rdinit=/bin/shim"...), nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err = launch(t, bootOptions{Artifacts: dir}); err == nil || !strings.Contains(err.Error(), "init did not start") {
		t.Errorf("got %v", err)
	}
}

// hostileArguments are what a host would like on the command line.
const hostileArguments = " mitigations=off init=/bin/shim console=tty0 lockdown=none 8250.nr_uarts=4 modprobe.blacklist=virtio_net loglevel=7"

func alterCmdline(b []byte) ([]byte, error) {
	return append(bytes.TrimSpace(b), hostileArguments...), nil
}

// hostileSVN is the security version that a second initrd pretends.
const hostileSVN = 99

// appendInitrd adds an archive that the kernel unpacks over the measured one.
func appendInitrd(initrd []byte) ([]byte, error) {
	records, err := readPayload(initrd)
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(records, func(r cpio.Record) bool { return r.Name == "etc/omega/image.json" })
	text := make([]byte, records[i].FileSize)
	if _, err := records[i].ReadAt(text, 0); err != nil {
		return nil, err
	}
	image := bytes.Replace(text, []byte(`"svn":1,`), fmt.Appendf(nil, `"svn":%d,`, hostileSVN), 1)
	second, err := writePayload([]cpio.Record{cpio.StaticFile("etc/omega/image.json", string(image), 0o444)})
	// The kernel finds a plain archive at a multiple of four (Documentation/driver-api/early-userspace/buffer-format.rst).
	return append(append(initrd, make([]byte, 3-(len(initrd)+3)%4)...), second...), err
}

// otherInitrd is the initramfs with another policy document.
func otherInitrd(initrd []byte) ([]byte, error) {
	records, err := readPayload(initrd)
	if err != nil {
		return nil, err
	}
	for i, r := range records {
		if r.Name != "etc/omega/policy.json" {
			continue
		}
		text := make([]byte, r.FileSize)
		if _, err := r.ReadAt(text, 0); err != nil {
			return nil, err
		}
		records[i] = cpio.StaticFile(r.Name, strings.Replace(string(text), `"platform":"`, `"platform":"evil-`, 1), 0o444)
	}
	return writePayload(records)
}

// verifyVM is `omega verify` of a running guest against the manifest in dir.
func verifyVM(t *testing.T, v *vm, dir string) (int, verification) {
	t.Helper()
	var out, words bytes.Buffer
	e := &env{Stdin: strings.NewReader(""), Stdout: &out, Stderr: &words}
	code := e.main(vmContext(t), []string{
		"verify", fmt.Sprintf("https://127.0.0.1:%d", v.Port), "--json", "--allow-emulated", v.Root,
		"--manifest", images.At(dir).Manifest, "--manifest-unsigned",
	})
	var result verification
	if err := json.Unmarshal(out.Bytes(), &result); err != nil {
		t.Fatalf("exit %d: %v: %s", code, err, words.Bytes())
	}
	return code, result
}

// failed are the names of the checks that failed.
func failed(v verification) (names []string) {
	for _, c := range v.Checks {
		if c.Status == attest.Failed {
			names = append(names, c.Name)
		}
	}
	return names
}
