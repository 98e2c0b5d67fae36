// Package devices finds the few devices that the guest uses by what sysfs says
// of them. The host decides what is there, so a device is only ever chosen by
// the name we gave it, and two with one name are an error. Nothing is opened
// here.
package devices

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
)

// Names of our devices.
const (
	SerialConfig = "omega-config"  // raw disk with the launch config
	SerialLog    = "omega-log"     // raw disk for the provenance log
	SerialLayout = "omega-layout"  // raw disk with an OCI layout in a tar archive
	PortPSP      = "omega.psp.0"   // the emulated PSP's virtio port
	PortPower    = "omega.power.0" // one byte on it asks for a clean power-off
)

// ErrTwice reports two devices of one name: the host plays a game.
var ErrTwice = errors.New("two devices of one name")

// maxAttribute bounds a sysfs attribute that names a device.
const maxAttribute = 128

// Disk returns the name, below /dev, of the block device with a serial, or ""
// if there is none. sys is /sys.
func Disk(sys fs.FS, serial string) (string, error) {
	return match(sys, "block", "serial", serial)
}

// Port returns the name, below /dev, of a virtio-serial port, or "".
func Port(sys fs.FS, name string) (string, error) {
	return match(sys, "class/virtio-ports", "name", name)
}

// match finds the one entry of dir whose attribute has value.
func match(sys fs.FS, dir, attribute, value string) (string, error) {
	entries, err := fs.ReadDir(sys, dir)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("devices of %s: %w", dir, err)
	}
	found := ""
	for _, e := range entries {
		b, err := fs.ReadFile(sys, path.Join(dir, e.Name(), attribute))
		if err != nil || len(b) > maxAttribute || strings.TrimRight(string(b), "\n") != value {
			continue
		}
		if found != "" {
			return "", fmt.Errorf("%s %q: %w", dir, value, ErrTwice)
		}
		found = e.Name()
	}
	return found, nil
}

// ErrUnexpected reports a device that no image of this platform can use.
var ErrUnexpected = errors.New("unexpected device")

// GPU reports an NVIDIA 3D controller (class 0x0302, PCI Code and ID Assignment
// Specification). Any other display controller is an error: nothing here ever
// drives one, and it would come with memory that the host and a driver share.
func GPU(sys fs.FS) (bool, error) {
	const dir, display, controller3D, nvidia = "bus/pci/devices", "0x03", "0x0302", "0x10de"
	entries, err := fs.ReadDir(sys, dir)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("PCI devices: %w", err)
	}
	found := false
	for _, e := range entries {
		class, err := fs.ReadFile(sys, path.Join(dir, e.Name(), "class"))
		if err != nil {
			return false, fmt.Errorf("PCI device %s: %w", e.Name(), err)
		}
		if !strings.HasPrefix(string(class), display) {
			continue
		}
		vendor, err := fs.ReadFile(sys, path.Join(dir, e.Name(), "vendor"))
		if err != nil {
			return false, fmt.Errorf("PCI device %s: %w", e.Name(), err)
		}
		if !strings.HasPrefix(string(class), controller3D) || strings.TrimSpace(string(vendor)) != nvidia {
			return false, fmt.Errorf("PCI device %s, a display controller: %w", e.Name(), ErrUnexpected)
		}
		found = true
	}
	return found, nil
}

// Network returns the name of the only virtio network interface, "" if there is
// none. Other interfaces than the loopback are an error.
func Network(sys fs.FS) (string, error) {
	entries, err := fs.ReadDir(sys, "class/net")
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("network interfaces: %w", err)
	}
	found := ""
	for _, e := range entries {
		if e.Name() == "lo" {
			continue
		}
		if _, err := fs.Stat(sys, path.Join("class/net", e.Name(), "device")); err != nil {
			continue // no hardware behind it: a tunnel device of the kernel's
		}
		if found != "" {
			return "", fmt.Errorf("network interfaces %s and %s: %w", found, e.Name(), ErrTwice)
		}
		found = e.Name()
	}
	return found, nil
}

// SNP reports whether SEV-SNP is active in this guest: then only the hardware's
// reports count, and the emulated PSP's port is never opened.
func SNP(root fs.FS) bool {
	for _, p := range []string{"sys/devices/system/cpu/sev/vmpl", "dev/sev-guest"} {
		if _, err := fs.Stat(root, p); !errors.Is(err, fs.ErrNotExist) {
			return true // also where it cannot be told: fail closed
		}
	}
	return false
}
