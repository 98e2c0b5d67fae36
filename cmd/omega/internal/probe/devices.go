package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// devices prints what the kernel found, and which of it a driver took.
func devices() error {
	if err := mount(); err != nil {
		return err
	}
	for _, bus := range list("/sys/bus") {
		for _, name := range list("/sys/bus/" + bus + "/devices") {
			at := filepath.Join("/sys/bus", bus, "devices", name)
			fmt.Printf("probe: device %s %s %s:%s %s %s\n", bus, name, word(at, "vendor"), word(at, "device"), word(at, "class"), driver(at))
		}
	}
	for _, dir := range []string{"/dev", "/sys/block", "/sys/class/net", "/sys/class", "/sys/firmware", "/sys/bus/pci/drivers", "/sys/bus/virtio/drivers"} {
		fmt.Printf("probe: list %s %s\n", dir, strings.Join(list(dir), " "))
	}
	for _, file := range []string{"/proc/partitions", "/proc/filesystems"} {
		b, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		fmt.Printf("probe: file %s %s\n", file, strings.Join(strings.Fields(string(b)), " "))
	}
	return nil
}

// list returns the names in a folder, none if it is not there.
func list(dir string) (names []string) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// word is a short attribute, "-" where there is none.
func word(dir, attribute string) string {
	b, err := os.ReadFile(filepath.Join(dir, attribute))
	if text := strings.TrimSpace(string(b)); err == nil && text != "" && !strings.Contains(text, " ") {
		return text
	}
	return "-"
}

// driver is the name of the driver that took a device, "-" for none.
func driver(dir string) string {
	to, err := os.Readlink(filepath.Join(dir, "driver"))
	if err != nil {
		return "-"
	}
	return filepath.Base(to)
}
