package main

import (
	"bytes"
	"context"
	"crypto"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"omega/attest/measure"
	"omega/cmd/omega/internal/qemu"
	"omega/images"
	"omega/internal/cache"
	"omega/internal/skip"
)

// The firmware that Debian's package ovmf holds.
const (
	ovmfCode = "/usr/share/OVMF/OVMF_CODE_4M.fd"
	ovmfVars = "/usr/share/OVMF/OVMF_VARS_4M.fd"
)

// predicted are the digests that extend a register, in order.
func predicted(p *measure.PCRPrediction, pcr int) (list []string) {
	for _, e := range p.Events {
		if e.PCR == pcr {
			list = append(list, hex.EncodeToString(e.Digest))
		}
	}
	return list
}

// tpmMemory is the memory of a guest that boots with a TPM, in MiB.
const tpmMemory = 512

// How firmware gets a program: from QEMU, or from a disk that holds it.
func asKernel(file string) []string { return []string{"-kernel", file} }
func asVirtioDisk(file string) []string {
	return []string{"-drive", "if=virtio,format=raw,file=" + file}
}
func asNVMeDisk(file string) []string {
	return []string{"-drive", "if=none,id=disk,format=raw,file=" + file, "-device", "nvme,drive=disk,serial=vol0123"}
}

// runWithTPM boots from medium, QEMU's arguments for it, until text is on the
// console. It returns the console and what extended the TPM's registers: as the
// TPM itself wrote it down, and as the firmware's event log has it.
func runWithTPM(t *testing.T, medium []string, text string) (said string, tpm, log map[tpmRegister][]string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	c, err := cache.Open("")
	if err != nil {
		t.Fatal(err)
	}
	dir, err := qemu.Private()
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	at := func(name string) string { return filepath.Join(dir, name) }
	vars, err := os.ReadFile(ovmfVars)
	if err := errors.Join(err, os.WriteFile(at("vars"), vars, 0o600), os.Mkdir(at("tpm"), 0o700)); err != nil {
		t.Fatal(err)
	}
	emulator := exec.CommandContext(ctx, "swtpm", "socket", "--tpm2", "--tpmstate", "dir="+at("tpm"),
		"--ctrl", "type=unixio,path="+at("socket"), "--log", "level=5,file="+at("log"), "--terminate")
	if err := emulator.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _, _ = emulator.Process.Kill(), emulator.Wait() }()
	bin, args, err := images.QEMU(ctx, c, nil)
	if err != nil {
		skip.Missing(t, "%v", err)
	}
	args = append(args, "-nodefaults", "-no-user-config", "-machine", "q35,accel=tcg", "-cpu", "max,la57=off", "-m", fmt.Sprint(tpmMemory),
		"-display", "none", "-serial", "stdio", "-no-reboot", "-no-shutdown", "-net", "none",
		"-qmp", "unix:"+at("control")+",server=on,wait=off",
		"-drive", "if=pflash,format=raw,readonly=on,file="+ovmfCode, "-drive", "if=pflash,format=raw,file="+at("vars"),
		"-chardev", "socket,id=tpm,path="+at("socket"), "-tpmdev", "emulator,id=tpm0,chardev=tpm", "-device", "tpm-crb,tpmdev=tpm0")
	args = append(args, medium...)
	waitForFile(t, at("socket"))
	console := &waitFor{text: text, seen: make(chan struct{})}
	machine := exec.CommandContext(ctx, bin, args...)
	machine.Stdout, machine.Stderr = console, console
	if err := machine.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- machine.Wait() }()
	select {
	case <-console.seen:
	case err := <-ended:
		t.Fatalf("%q was not said: %v\n%s", text, err, console.all.Bytes())
	}
	log = eventLog(t, guestMemory(t, at("control"), dir, tpmMemory<<20))
	cancel()
	<-ended
	commands, err := os.ReadFile(at("log"))
	if err != nil {
		t.Fatal(err)
	}
	return console.all.String(), extensions(t, commands), log
}

func waitForFile(t *testing.T, path string) {
	t.Helper()
	for range 100 {
		if _, err := os.Stat(path); err == nil {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Fatalf("%s did not appear", path)
}

// waitFor keeps what is written and closes seen once text was.
type waitFor struct {
	text string
	seen chan struct{}
	all  bytes.Buffer
	done bool
}

func (w *waitFor) Write(b []byte) (int, error) {
	w.all.Write(b)
	if !w.done && bytes.Contains(w.all.Bytes(), []byte(w.text)) {
		w.done = true
		close(w.seen)
	}
	return len(b), nil
}

// A tpmRegister is one PCR in one bank.
type tpmRegister struct {
	pcr  int
	bank crypto.Hash
}

// extensions reads the TPM2_PCR_Extend commands out of the TPM's log (TPM 2.0
// Library, Part 3, 22.2) and returns the digests of each register, in order.
func extensions(t *testing.T, log []byte) map[tpmRegister][]string {
	t.Helper()
	out := map[tpmRegister][]string{}
	for _, command := range commands(log) {
		const extend, header = 0x182, 10
		if len(command) < header+8 || binary.BigEndian.Uint32(command[6:]) != extend {
			continue
		}
		pcr := int(binary.BigEndian.Uint32(command[header:]))
		rest := command[header+8+int(binary.BigEndian.Uint32(command[header+4:])):] // behind the authorisation
		n := binary.BigEndian.Uint32(rest)
		rest = rest[4:]
		for range n {
			sizes := map[uint16]int{4: 20, 0xb: 32, 0xc: 48, 0xd: 64} // TPM_ALG_ID
			alg := binary.BigEndian.Uint16(rest)
			digest := rest[2:][:sizes[alg]]
			rest = rest[2+len(digest):]
			banks := map[uint16]crypto.Hash{0xb: crypto.SHA256, 0xc: crypto.SHA384}
			if bank, ok := banks[alg]; ok {
				r := tpmRegister{pcr, bank}
				out[r] = append(out[r], fmt.Sprintf("%x", digest))
			}
		}
	}
	if len(out) == 0 {
		t.Fatalf("nothing was extended:\n%.2000s", log)
	}
	return out
}

// commands returns the bytes of every command in swtpm's log: a line that
// announces them, and lines of hex.
func commands(log []byte) (list [][]byte) {
	reading := false
	for line := range strings.Lines(string(log)) {
		words := strings.Fields(line)
		if len(words) > 0 && strings.HasPrefix(words[0], "SWTPM_IO_") {
			reading = words[0] == "SWTPM_IO_Read:"
			if reading {
				list = append(list, nil)
			}
			continue
		}
		b, err := hex.DecodeString(strings.Join(words, ""))
		if err != nil || len(words) == 0 {
			reading = false
		} else if reading {
			list[len(list)-1] = append(list[len(list)-1], b...)
		}
	}
	return list
}

// writeTestDisk writes the disk that `omega convert` would.
func writeTestDisk(t *testing.T, path string, uki []byte) {
	t.Helper()
	d, err := images.NewDisk(uki, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(d.WriteSparse(f), f.Close()); err != nil {
		t.Fatal(err)
	}
}
