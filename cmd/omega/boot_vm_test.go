package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"omega/attest"
	"omega/images"
	"omega/internal/skip"
)

// vmTime is how long one guest may take to do anything, on a busy machine.
const vmTime = 4 * time.Minute

// vmImage is built once: from the cache, so only what changed costs time.
var vmImage = sync.OnceValues(func() (string, error) {
	if dir := os.Getenv("OMEGA_IMAGE"); dir != "" {
		return dir, nil
	}
	source, err := sourceRoot()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(source, "build", "vmtest")
	e := &env{Stdin: strings.NewReader(""), Stdout: io.Discard, Stderr: os.Stderr}
	_, err = build(context.Background(), e, buildOptions{Out: dir})
	return dir, err
})

// image returns the folder of artifacts to boot. It skips where no image was
// ever built: that takes many minutes and is not a test's to start.
func image(t *testing.T) string {
	t.Helper()
	if os.Getenv("OMEGA_SKIP_VM") != "" {
		t.Skip("OMEGA_SKIP_VM is set")
	}
	source, err := sourceRoot()
	if err != nil {
		t.Fatal(err)
	}
	if os.Getenv("OMEGA_IMAGE") == "" && !built(filepath.Join(source, "build", "cpu")) {
		skip.Missing(t, "no image is built; `omega build` makes one")
	}
	dir, err := vmImage()
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// launch boots o with TCG and stops it at the end of the test.
func launch(t *testing.T, o bootOptions) (*vm, error) {
	t.Helper()
	if o.Artifacts == "" {
		o.Artifacts = image(t)
	}
	o.Plain, o.Accel = true, "tcg"
	v, err := startVM(vmContext(t), bootEnv(t), o)
	if err == nil {
		t.Cleanup(func() {
			if err := v.Stop(context.Background()); err != nil {
				t.Errorf("stopping: %v", err)
			}
			if t.Failed() {
				t.Log(strings.Join(v.Lines(), "\n"))
			}
		})
	}
	return v, err
}

func vmContext(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), vmTime)
	t.Cleanup(cancel)
	return ctx
}

// config writes a launch config file.
func config(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "config.json")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

const plainConfig = `{"version":"omega/launch/v1","network":{"dhcp":true}}`

func TestVMBootsServesEvidenceAndPowersOff(t *testing.T) {
	v, err := launch(t, bootOptions{Config: config(t, plainConfig)})
	if err != nil {
		t.Fatal(err)
	}
	for _, mark := range []string{"omega: serving ", "omega: ready "} {
		if _, err := v.WaitLine(vmContext(t), mark); err != nil {
			t.Fatal(err)
		}
	}
	t.Run("its phases came in order", func(t *testing.T) {
		want, err := os.ReadFile("../../init/testdata/phases.golden")
		if err != nil {
			t.Fatal(err)
		}
		var got strings.Builder
		for _, l := range v.Lines() {
			if name, ok := strings.CutPrefix(l, "omega: phase "); ok {
				got.WriteString(strings.Fields(name)[0] + "\n")
			}
		}
		if got.String() != string(want) {
			t.Errorf("phases:\n%s", got.String())
		}
	})
	t.Run("its evidence binds the nonce, the TLS key and the launch config", func(t *testing.T) { checkEvidence(t, v) })
	if err := v.Stop(context.Background()); err != nil {
		t.Errorf("powering off: %v", err)
	}
	if reason, _ := v.PoweredOff(); reason != askedByHost {
		t.Errorf("powered off because: %q", reason)
	}
	if _, err := os.Stat(v.dir); !os.IsNotExist(err) {
		t.Errorf("the private folder is still there: %v", err)
	}
}

// checkEvidence reads evidence and compares what a stub could not know.
func checkEvidence(t *testing.T, v *vm) {
	t.Helper()
	nonce := sha256.Sum256([]byte(t.Name()))
	body, peer := get(t, v, "/.well-known/omega/evidence?nonce="+hex.EncodeToString(nonce[:]))
	ev, err := attest.ParseEvidence(body)
	if err != nil {
		t.Fatal(err)
	}
	if ev.Nonce.Nonce != nonce || !ev.Nonce.Holds(&ev.Session) {
		t.Error("the nonce is not the one we sent")
	}
	if want := sha256.Sum256(peer.RawSubjectPublicKeyInfo); ev.Boot.TLSKey != want {
		t.Error("the TLS key is not the one we talked to")
	}
	if want := sha256.Sum256([]byte(plainConfig)); ev.Boot.ConfigDigest != want {
		t.Error("the launch config is not the one we gave")
	}
	// REPORT_DATA is at offset 0x50 of the report, MEASUREMENT at 0x90 (AMD SNP
	// ABI, table ATTESTATION_REPORT).
	want := attest.ReportData(ev.Boot.Digest(), ev.Session.Digest())
	if len(ev.Report) < 0xC0 || !bytes.Equal(ev.Report[0x50:0x90], want[:]) {
		t.Error("REPORT_DATA does not bind boot claims and session")
	}
	if !bytes.Equal(ev.Report[0x90:0xC0], v.digest[:]) {
		t.Error("MEASUREMENT is not the launch digest of what was booted")
	}
	if ev.Boot.GPU != attest.GPUAbsent {
		t.Errorf("GPU %q", ev.Boot.GPU)
	}
}

func get(t *testing.T, v *vm, path string) ([]byte, *x509.Certificate) {
	t.Helper()
	client := &http.Client{Timeout: time.Minute, Transport: &http.Transport{
		// Trust comes from the evidence, not from a certificate authority.
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS13},
	}}
	defer client.CloseIdleConnections()
	resp, err := client.Get(fmt.Sprintf("https://127.0.0.1:%d%s", v.Port, path))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s, %v: %.200s", path, resp.Status, err, body)
	}
	return body, resp.TLS.PeerCertificates[0]
}

func TestVMPowersOffWithItsReason(t *testing.T) {
	other := sha256.Sum256([]byte("another launch config"))
	zero := [32]byte{}
	tests := []struct {
		name string
		o    func(t *testing.T) bootOptions
		want string
	}{
		{"a malformed launch config", func(t *testing.T) bootOptions {
			return bootOptions{Config: config(t, `{"version":"omega/launch/v1","network":{"dhcp":true},"debug":true}`), HostData: &zero}
		}, "phase config: launch config malformed"},
		{"a launch config that HOST_DATA does not name", func(t *testing.T) bootOptions {
			return bootOptions{Config: config(t, plainConfig), HostData: &other}
		}, "phase config: launch config does not match HOST_DATA"},
		{"HOST_DATA without a launch config", func(t *testing.T) bootOptions {
			return bootOptions{HostData: &other}
		}, "phase config: launch config does not match HOST_DATA"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			v, err := launch(t, tt.o(t))
			if err != nil {
				t.Fatal(err)
			}
			if err := v.Wait(vmContext(t)); err != nil {
				t.Fatal(err)
			}
			if got, _ := v.PoweredOff(); got != tt.want {
				t.Errorf("reason %q, want %q", got, tt.want)
			}
		})
	}
}

func TestVMPowersOffWhereThePolicyRequiresAGPUAndThereIsNone(t *testing.T) {
	image(t) // or skip
	dir := t.TempDir()
	policy := filepath.Join(dir, "policy.yaml")
	text := "version: omega/policy/v1\nplatform: test\ngpu: required\nprincipals: []\nauditors: []\nservers: []\nmodels: []\nagents: []\n"
	if err := os.WriteFile(policy, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	a, err := build(vmContext(t), bootEnv(t), buildOptions{Policy: policy, Out: filepath.Join(dir, "out")})
	if err != nil {
		t.Fatal(err)
	}
	v, err := launch(t, bootOptions{Artifacts: a.Dir, Config: config(t, plainConfig)})
	if err != nil {
		t.Fatal(err)
	}
	if err := v.Wait(vmContext(t)); err != nil {
		t.Fatal(err)
	}
	if got, _ := v.PoweredOff(); got != "phase gpu: the policy requires a GPU" {
		t.Errorf("reason %q", got)
	}
}

func TestVMWithABrokenInitramfsIsAnErrorThatQuotesTheConsole(t *testing.T) {
	good := images.At(image(t))
	dir := t.TempDir()
	for _, f := range []string{good.Kernel, good.Cmdline, good.OVMF, good.Initrd} {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if f == good.Initrd {
			b = b[:len(b)/3]
		}
		if err := os.WriteFile(filepath.Join(dir, filepath.Base(f)), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	_, err := launch(t, bootOptions{Artifacts: dir})
	if err == nil || !strings.Contains(err.Error(), "init did not start") || !strings.Contains(err.Error(), "anic") {
		t.Errorf("got %v", err)
	}
}

func TestVMIsGoneAfterAnInterrupt(t *testing.T) {
	dir := image(t)
	ctx, cancel := context.WithCancel(t.Context())
	left := ownTemp(t)
	time.AfterFunc(2*time.Second, cancel) // long before the first line
	v, err := startVM(ctx, bootEnv(t), bootOptions{Artifacts: dir, Plain: true, Accel: "tcg"})
	if err == nil {
		_ = v.Stop(context.Background())
		t.Fatal("it booted in two seconds, or the interrupt was not seen")
	}
	if names := left(); len(names) > 0 {
		t.Errorf("left behind: %q", names)
	}
	children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", os.Getpid(), os.Getpid()))
	if err == nil && len(children) > 0 {
		t.Errorf("processes are left: %s", children)
	}
	var status syscall.WaitStatus
	if pid, err := syscall.Wait4(-1, &status, syscall.WNOHANG, nil); err != syscall.ECHILD {
		t.Errorf("process %d is left (%v)", pid, err)
	}
}
