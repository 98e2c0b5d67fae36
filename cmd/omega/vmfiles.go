package main

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"net"
	"os"
	"path/filepath"

	"omega/images"
)

// maxConfigText is the guest's own bound on a launch config.
const maxConfigText = 64 << 10

// configDisk frames the launch config as the guest expects it and binds it in
// HOST_DATA. The guest judges the text.
func (p *preparedVM) configDisk(o bootOptions) error {
	if o.HostData != nil {
		p.launch.HostData = *o.HostData
	}
	if o.Config == "" {
		return nil
	}
	text, err := os.ReadFile(o.Config)
	if err != nil {
		return fmt.Errorf("launch config: %w", err)
	}
	if len(text) > maxConfigText {
		return fmt.Errorf("launch config: %d bytes are more than %d", len(text), maxConfigText)
	}
	if o.HostData == nil {
		p.launch.HostData = sha256.Sum256(text)
	}
	disk := binary.BigEndian.AppendUint32([]byte("OMEGACFG"), uint32(len(text)))
	disk = append(disk, text...)
	disk = append(disk, make([]byte, 512-len(disk)%512)...) // whole sectors
	p.machine.ConfigDisk = filepath.Join(p.dir, "config")
	if err := os.WriteFile(p.machine.ConfigDisk, disk, 0o600); err != nil {
		return fmt.Errorf("launch config: %w", err)
	}
	return nil
}

// freePort checks that port can be listened on, or finds one for 0.
func freePort(port int) (int, error) {
	l, err := net.Listen("tcp4", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		return 0, fmt.Errorf("port %d cannot be used: %w (--port N takes another)", port, err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

// checkLogDisk names the reason before QEMU does in its own words.
func checkLogDisk(path string) error {
	if path == "" {
		return nil
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("log disk: %w", err)
	}
	return f.Close()
}

// checkDisk does the same for a disk that is only read.
func checkDisk(path string) error {
	if path == "" {
		return nil
	}
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("disk: %w", err)
	}
	return f.Close()
}

// built reports whether dir holds artifacts.
func built(dir string) bool {
	a := images.At(dir)
	for _, f := range []string{a.Kernel, a.Initrd, a.Cmdline, a.OVMF} {
		if _, err := os.Stat(f); err != nil {
			return false
		}
	}
	return true
}
