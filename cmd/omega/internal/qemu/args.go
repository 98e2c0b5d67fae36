// Package qemu starts one Omega guest in QEMU and ends it again: the command
// line as a pure function, the console as lines, a clean power-off, and the
// questions whether KVM works here and whether the host can launch SNP guests.
// It knows nothing of what the guest proves; the emulated PSP behind its port
// is the caller's.
package qemu

import (
	"encoding/base64"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// Accelerators.
const (
	TCG = "tcg" // QEMU's own translation: works everywhere
	KVM = "kvm"
)

// Names of the guest's ports and disks. The guest looks for them.
const (
	portPSP      = "omega.psp.0"
	portPower    = "omega.power.0"
	serialConfig = "omega-config"
	serialLog    = "omega-log"
	serialLayout = "omega-layout"
)

// GuestPort is where the guest listens.
const GuestPort = 8443

// Machine is everything that QEMU's command line depends on. Empty paths leave
// the device out.
type Machine struct {
	Firmware []string // arguments that tell QEMU where its own firmware lies
	Accel    string
	Memory   int // MiB
	CPUs     int

	Kernel, Initrd string // paths of private copies
	Cmdline        string

	ConfigDisk, LogDisk string   // raw images
	LayoutDisk          string   // raw image with an OCI layout
	Disks               []string // raw images with agents' files
	Port                int      // on 127.0.0.1, forwarded to GuestPort; 0 for none

	PSPSocket, PowerSocket string // unix sockets that we listen on
	SNP                    *SNP   // nil: plain

	Input io.Reader // what is typed on the console; nil: nothing

	Extra []string // further arguments, of a test that plays a hostile host or of a benchmark
}

// SNP is what an SEV-SNP launch needs beyond that.
type SNP struct {
	OVMF     string // the firmware that supports kernel hashes
	CPU      string // CPU model, which the launch digest covers
	Policy   uint64 // guest POLICY
	HostData [32]byte

	IDBlock, IDAuth []byte // what the operator signed of the launch; nil: nothing
	AuthorKey       bool   // IDAuth has an author's key, too
}

// SNP parameters of all EPYC generations that have it (CPUID Fn8000_001F EBX:
// the C-bit's position, and the address bits that memory encryption takes).
const (
	cBitPos         = 51
	reducedPhysBits = 1
)

// Args is QEMU's command line, without the program. Nothing is on by default,
// and there is no display device: the guest would take one for a GPU.
func (m *Machine) Args() []string {
	args := append([]string(nil), m.Firmware...)
	args = append(args, "-nodefaults", "-no-user-config", "-no-reboot", "-display", "none", "-vga", "none")
	args = append(args, m.machine()...)
	args = append(args,
		"-m", strconv.Itoa(m.Memory), "-smp", strconv.Itoa(m.CPUs),
		"-kernel", m.Kernel, "-initrd", m.Initrd, "-append", m.Cmdline,
		"-chardev", "stdio,id=console,signal=off", "-serial", "chardev:console",
	)
	args = append(args, m.network()...)
	args = append(args, m.disk("config", serialConfig, m.ConfigDisk, true)...)
	args = append(args, m.disk("log", serialLog, m.LogDisk, false)...)
	args = append(args, m.disk("layout", serialLayout, m.LayoutDisk, true)...)
	for i, path := range m.Disks {
		id := "file" + strconv.Itoa(i)
		args = append(args, m.disk(id, "omega-"+id, path, true)...)
	}
	args = append(args, m.ports()...)
	return append(args, m.Extra...)
}

func (m *Machine) machine() []string {
	if m.SNP == nil {
		cpu := "max,la57=off" // five-level paging costs TCG time and is of no use here
		if m.Accel == KVM {
			cpu = "host"
		}
		return []string{"-machine", "q35,accel=" + m.Accel, "-cpu", cpu}
	}
	s := m.SNP
	guest := fmt.Sprintf("sev-snp-guest,id=sev0,cbitpos=%d,reduced-phys-bits=%d,policy=0x%x,kernel-hashes=on,host-data=%s",
		cBitPos, reducedPhysBits, s.Policy, base64.StdEncoding.EncodeToString(s.HostData[:]))
	if s.IDBlock != nil {
		guest += fmt.Sprintf(",id-block=%s,id-auth=%s", base64.StdEncoding.EncodeToString(s.IDBlock), base64.StdEncoding.EncodeToString(s.IDAuth))
	}
	if s.AuthorKey {
		guest += ",author-key-enabled=on"
	}
	return []string{
		"-machine", "q35,accel=kvm,confidential-guest-support=sev0,memory-backend=ram0,vmport=off,kernel-irqchip=split",
		"-cpu", s.CPU, "-bios", s.OVMF,
		"-object", fmt.Sprintf("memory-backend-memfd,id=ram0,size=%dM,share=true", m.Memory),
		"-object", guest,
	}
}

func (m *Machine) network() []string {
	if m.Port == 0 {
		return nil
	}
	return []string{
		"-netdev", fmt.Sprintf("user,id=net0,ipv6=off,hostfwd=tcp:127.0.0.1:%d-:%d", m.Port, GuestPort),
		"-device", m.device("virtio-net-pci,netdev=net0,romfile="),
	}
}

// disk is a raw virtio disk with a serial by which the guest knows it.
func (m *Machine) disk(id, serial, path string, readOnly bool) []string {
	if path == "" {
		return nil
	}
	drive := fmt.Sprintf("file=%s,if=none,id=%s,format=raw", escape(path), id)
	if readOnly {
		drive += ",readonly=on"
	}
	return []string{"-drive", drive, "-device", m.device(fmt.Sprintf("virtio-blk-pci,drive=%s,serial=%s", id, serial))}
}

func (m *Machine) ports() []string {
	args := []string{"-device", m.device("virtio-serial-pci,max_ports=4")}
	for _, p := range []struct{ id, name, socket string }{
		{"psp", portPSP, m.PSPSocket},
		{"power", portPower, m.PowerSocket},
	} {
		if p.socket == "" {
			continue
		}
		args = append(args, "-chardev", fmt.Sprintf("socket,id=%s,path=%s", p.id, escape(p.socket)),
			"-device", fmt.Sprintf("virtserialport,chardev=%s,name=%s", p.id, p.name))
	}
	return args
}

// device adds what a device in an SNP guest needs to see encrypted memory only
// where the guest shares it.
func (m *Machine) device(d string) string {
	if m.SNP != nil {
		d += ",disable-legacy=on,iommu_platform=on"
	}
	return d
}

// escape doubles the commas of a path, as QEMU's option parser wants them.
func escape(path string) string { return strings.ReplaceAll(path, ",", ",,") }
