package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"omega/attest"
	"omega/cmd/omega/internal/qemu"
	"omega/policy/provenance"
)

// hostileTable is an ACPI table whose methods reach for guest memory.
const hostileTable = "../../images/testdata/memory.aml"

// hostileDevices are devices that nobody ordered, as QEMU's arguments, and what
// the guest's kernel calls them: "vendor:device" on the PCI bus.
var hostileDevices = []struct {
	name string
	args []string
	pci  string
}{
	{"a network card", []string{"-device", "e1000,romfile="}, "0x8086:0x100e"},
	{"an NVMe disk", []string{"-device", "nvme,drive=junk1,serial=omega-config"}, "0x1b36:0x0010"},
	{"a USB controller with a keyboard", []string{"-device", "qemu-xhci", "-device", "usb-kbd"}, "0x1b36:0x000d"},
	{"memory shared with somebody", []string{
		"-object", "memory-backend-ram,id=shared,size=1M,share=on", "-device", "ivshmem-plain,memdev=shared",
	}, "0x1af4:0x1110"},
	{"a device that does DMA when told", []string{"-device", "edu"}, "0x1234:0x11e8"},
	{"random numbers of the host's", []string{"-device", "virtio-rng-pci"}, "0x1af4:0x1005"},
	{"a balloon", []string{"-device", "virtio-balloon-pci"}, "0x1af4:0x1002"},
	{"a SCSI controller", []string{"-device", "virtio-scsi-pci"}, "0x1af4:0x1004"},
	{"a keyboard", []string{"-device", "virtio-keyboard-pci"}, "0x1af4:0x1052"},
	{"a watchdog", []string{"-device", "i6300esb"}, "0x8086:0x25ab"},
	{"an SD card reader", []string{"-device", "sdhci-pci"}, "0x1b36:0x0007"},
	{"a sound card", []string{"-audiodev", "none,id=audio", "-device", "AC97,audiodev=audio"}, "0x8086:0x2415"},
}

// hostileTables are what firmware and QEMU hand over beside devices.
func hostileTables(dir string) []string {
	return []string{
		"-acpitable", "file=" + hostileTable,
		"-fw_cfg", "name=opt/omega/policy,string=permit everything",
		"-fw_cfg", "name=opt/org.tianocore/junk,file=" + filepath.Join(dir, "junk1"),
		"-smbios", "type=0,vendor=Evil", "-smbios", "type=1,manufacturer=Evil,serial=ds=nocloud;s=http://10.0.2.2/",
		"-smbios", "type=11,value=io.systemd.stub.kernel-cmdline-extra=rdinit=/bin/shim",
		"-device", "vmgenid,guid=auto", "-device", "pvpanic",
	}
}

// hostileDisks are disks that nobody ordered. All hold bytes that somebody might
// parse: a partition table with a FAT in it, an EROFS superblock, noise.
func hostileDisks(t *testing.T, dir string) (args []string) {
	t.Helper()
	noise := make([]byte, 1<<20)
	for i := range noise {
		noise[i] = byte(i*i>>3 ^ i>>7)
	}
	erofs := make([]byte, 1<<20)
	binary.LittleEndian.PutUint32(erofs[1024:], 0xE0F5E1E2) // EROFS_SUPER_MAGIC_V1
	copy(erofs[1028:], bytes.Repeat([]byte{0xff}, 124))
	writeTestDisk(t, filepath.Join(dir, "junk0"), noise)
	for name, b := range map[string][]byte{"junk1": noise, "junk2": noise, "junk3": erofs} {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for n := range 4 {
		args = append(args, "-drive", fmt.Sprintf("file=%s,if=none,id=junk%d,format=raw", filepath.Join(dir, fmt.Sprint("junk", n)), n))
	}
	return append(args,
		"-device", "virtio-blk-pci,drive=junk0", "-device", "virtio-blk-pci,drive=junk2,serial=omega-confi",
		"-device", "virtio-blk-pci,drive=junk3,serial=omega-config2")
}

// surroundings are all of them but for what a test adds.
func surroundings(t *testing.T, dir string) []string {
	t.Helper()
	args := hostileDisks(t, dir)
	for _, d := range hostileDevices {
		args = append(args, d.args...)
	}
	return append(args, hostileTables(dir)...)
}

// TestVMKernelIgnoresWhatItHasNoUseFor asks the kernel itself, through a PID 1 of
// the test's, what it made of the devices that nobody ordered.
func TestVMKernelIgnoresWhatItHasNoUseFor(t *testing.T) {
	from, dir := image(t), t.TempDir()
	probe, err := buildProbe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	err = variant(from, dir, map[string]func([]byte) ([]byte, error){
		"initrd":  func([]byte) ([]byte, error) { return probePayload(probe) },
		"cmdline": func(b []byte) ([]byte, error) { return append(bytes.TrimSpace(b), " -- devices"...), nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	v, err := launch(t, bootOptions{Artifacts: dir, Arrange: func(m *qemu.Machine) { m.Extra = surroundings(t, dir) }})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := v.WaitLine(vmContext(t), "probe: end"); err != nil {
		t.Fatal(err)
	}
	checkDrivers(t, v.Lines())
	checkLists(t, v.Lines())
}

// checkDrivers holds each device against the few that a driver may take.
func checkDrivers(t *testing.T, lines []string) {
	t.Helper()
	seen := map[string]bool{}
	for _, l := range lines {
		w := strings.Fields(l)
		if len(w) == 7 && w[2] == "platform" {
			seen[w[3]] = true
		}
		if len(w) != 7 || w[0]+w[1] != "probe:device" {
			continue
		}
		bus, ids, driver := w[2], w[4], w[6]
		seen[bus+" "+ids] = true
		switch {
		case driver == "-":
		case bus == "pci" && strings.HasPrefix(ids, "0x1af4:") && driver == "virtio-pci": // transport alone
		case bus == "virtio" && slices.Contains([]string{"virtio_blk", "virtio_net", "virtio_console"}, driver):
		case bus == "pci", bus == "virtio", bus == "usb", bus == "scsi", bus == "hid", bus == "nvmem":
			t.Errorf("a driver took a device: %s", l)
		}
	}
	// The hostile table's methods say that their devices are there, if they get
	// as far as that.
	for name, want := range map[string]bool{"OMEG0001:00": false, "OMEG0002:00": false, "OMEG0003:00": true} {
		if seen[name] != want {
			t.Errorf("ACPI device %s is there: %v, want %v", name, seen[name], want)
		}
	}
	for _, d := range hostileDevices {
		if !seen["pci "+d.pci] {
			t.Errorf("%s: the guest has none, so this test proves nothing of it", d.name)
		}
	}
}

// expectedLists are all that may stand where the kernel lists drivers, devices
// and what firmware told. A name that is new there is for a person to look at.
var expectedLists = map[string][]string{
	"/sys/bus/pci/drivers":    {"virtio-pci"},
	"/sys/bus/virtio/drivers": {"virtio_blk", "virtio_console", "virtio_net", "virtio_rproc_serial"},
	"/sys/firmware":           {"acpi"}, // neither fw_cfg nor SMBIOS
	"/sys/block":              {"vda", "vdb", "vdc"},
	"/sys/class/net":          {"eth0", "lo"},
	"/sys/class":              {"bdi", "block", "devlink", "mem", "misc", "net", "pci_bus", "thermal", "tty", "virtio-ports"},
	"/dev": {
		"console", "cpu_dma_latency", "full", "kmsg", "loop-control", "mapper", "null", "random", "tty", "ttyS0", "ttyS1", "urandom",
		"vda", "vdb", "vdc", "vport1p1", "vport1p2", "zero",
	},
}

// checkLists looks for what the kernel would have made of firmware's tables and
// of the disks' contents.
func checkLists(t *testing.T, lines []string) {
	t.Helper()
	lists := map[string][]string{}
	for _, l := range lines {
		if w := strings.Fields(l); len(w) > 2 && w[0] == "probe:" && (w[1] == "list" || w[1] == "file") {
			lists[w[2]] = w[3:]
		}
	}
	for where, want := range expectedLists {
		if len(lists[where]) == 0 {
			t.Errorf("the probe says nothing of %s", where)
		}
		for _, name := range lists[where] {
			if !slices.Contains(want, name) {
				t.Errorf("%s has %s", where, name)
			}
		}
	}
	if got := strings.Join(lists["/proc/partitions"], " "); !strings.Contains(got, "vda") || strings.Contains(got, "vda1") {
		t.Errorf("partitions: %s", got)
	}
	kinds := lists["/proc/filesystems"]
	for i, kind := range kinds {
		if kind != "nodev" && (i == 0 || kinds[i-1] != "nodev") && kind != "erofs" {
			t.Errorf("the kernel reads %s from a disk", kind)
		}
	}
}

// TestVMServesUnderAHostileHost boots the image as it is measured, in the midst
// of all that and with hostile neighbours on its network, and verifies it.
func TestVMServesUnderAHostileHost(t *testing.T) {
	from, dir := image(t), t.TempDir()
	// A log disk that begins as ours do and then lies about a length.
	logDisk := append([]byte(provenance.RecordMagic), 2, 0xff, 0xff, 0xff, 0xff)
	if err := os.WriteFile(filepath.Join(dir, "log"), append(logDisk, make([]byte, 4<<20)...), 0o600); err != nil {
		t.Fatal(err)
	}
	var peer *hostilePeer
	v, err := launch(t, bootOptions{
		Artifacts: from, Config: config(t, plainConfig), LogDisk: filepath.Join(dir, "log"),
		Arrange: func(m *qemu.Machine) {
			peer = newHostilePeer(t, filepath.Dir(m.PSPSocket), m.Port)
			m.Port, m.Extra = 0, append(surroundings(t, dir), peer.args...)
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := v.WaitLine(vmContext(t), "omega: ready "); err != nil {
		t.Fatal(err)
	}
	if offers, frames := peer.sent(); offers == 0 || frames < 100 {
		t.Errorf("the neighbour sent %d DHCP messages and %d frames: this proves nothing", offers, frames)
	}
	if !slices.ContainsFunc(v.Lines(), func(l string) bool { return strings.Contains(l, "AE_ACCESS, Returned by Handler for [SystemMemory]") }) {
		t.Error("the hostile ACPI table did not run")
	}
	code, out := verifyVM(t, v, from)
	if code != exitOK || out.Verdict != attest.VerdictEmulated {
		t.Errorf("exit %d, verdict %q: %v", code, out.Verdict, failed(out))
	}
}
