package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"omega/cmd/omega/internal/qemu"
	"omega/images"
	"omega/internal/cache"
	"omega/internal/labelhash"
)

// stockPackages make a Debian that does no more than start containerd, with the
// kernel that Debian's own cloud images have.
const (
	stockSuite    = "trixie"
	stockPackages = "linux-image-cloud-amd64,initramfs-tools,zstd,systemd-sysv,udev,dbus,containerd"
	stockCmdline  = "root=/dev/vda rw console=ttyS0 quiet"
	stockSize     = "1500M"
	stockMark     = "reference: containerd"
)

// stockTools build it, without a change to this machine.
var stockTools = []string{"e2fsprogs", "mmdebstrap"}

// stockUnit says on the console that containerd is up: systemd starts it once
// containerd itself has said so.
const stockUnit = `[Unit]
Requires=containerd.service
After=containerd.service
[Service]
Type=oneshot
ExecStart=/bin/sh -c '{ echo; echo "` + stockMark + ` is up"; } > /dev/ttyS0'
[Install]
WantedBy=multi-user.target
`

// stockHooks run in the finished tree; $1 is the tree, $OUT the result's folder.
var stockHooks = []string{
	`cp "$OUT/unit" "$1/etc/systemd/system/omega-mark.service"`,
	`chroot "$1" systemctl enable omega-mark.service`,
	// What systemd does at a first boot only is done: every boot here is a later one.
	`chroot "$1" systemd-machine-id-setup`,
	`chroot "$1" journalctl --update-catalog`,
	`chroot "$1" /usr/lib/systemd/systemd-update-done`,
	`cp -L "$1/vmlinuz" "$OUT/kernel"`,
	`cp -L "$1/initrd.img" "$OUT/initrd"`,
	`{ cat "$1/etc/debian_version"; basename "$(readlink "$1/vmlinuz")"; chroot "$1" dpkg-query -W -f '${Package} ${Version}\n' systemd containerd; } > "$OUT/versions"`,
	// The tree alone, without what is mounted in it.
	`mkdir "$OUT/tree" && unshare -m sh -c 'mount --bind "$1" "$OUT/tree" && mke2fs -q -t ext4 -d "$OUT/tree" "$OUT/disk" "$2"' - "$1" ` + stockSize,
}

// A stockSystem is what a user would otherwise boot.
type stockSystem struct {
	dir   string // kernel, initrd, disk
	words string // what it is
}

// stockDebian returns the reference from the cache, or builds it there from the
// archive that this machine's own packages come from.
func stockDebian(ctx context.Context, e *env) (*stockSystem, error) {
	c, err := cache.Open("")
	if err != nil {
		return nil, err
	}
	key := cache.Key(labelhash.Sum256("omega/stock-debian/v2", []byte(stockSuite), []byte(stockPackages), []byte(stockUnit), []byte(strings.Join(stockHooks, "\n"))))
	dir, err := c.Dir(ctx, "stock", key, func(dir string) error {
		if err := ensureTools(ctx, e, stockTools, os.Getenv("YES") == "1"); err != nil {
			return err
		}
		step := e.progress("building a stock Debian to compare with")
		defer step.Done()
		step.Set(0, 0)
		return buildStock(ctx, dir)
	})
	if err != nil {
		return nil, err
	}
	versions, err := os.ReadFile(filepath.Join(dir, "versions"))
	if err != nil {
		return nil, err
	}
	return &stockSystem{dir: dir, words: "Debian " + strings.Join(strings.Fields(string(versions)), " ")}, nil
}

// buildStock runs mmdebstrap: as root, or in a user namespace of its own, which
// needs a folder that every user may write to.
func buildStock(ctx context.Context, dir string) error {
	archive, err := images.DebianArchive()
	if err != nil {
		return err
	}
	stage, err := os.MkdirTemp("", "omega-stock-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(stage)
	if err := errors.Join(os.Chmod(stage, 0o777), os.WriteFile(filepath.Join(stage, "unit"), []byte(stockUnit), 0o644)); err != nil {
		return err
	}
	args := []string{"--variant=minbase", "--format=null", "--include=" + stockPackages}
	for _, hook := range stockHooks {
		args = append(args, "--customize-hook="+hook)
	}
	source := "deb " + archive.URI + " " + stockSuite + " main"
	if archive.SignedBy != "" {
		source = "deb [signed-by=" + archive.SignedBy + "] " + archive.URI + " " + stockSuite + " main"
	}
	cmd := exec.CommandContext(ctx, "mmdebstrap", append(args, stockSuite, "/dev/null", source)...)
	cmd.Env = append(os.Environ(), "OUT="+stage, "PATH="+os.Getenv("PATH")+":/usr/sbin:/sbin", "LC_ALL=C")
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("mmdebstrap: %w: %s", err, out[max(0, len(out)-2000):])
	}
	for _, name := range []string{"kernel", "initrd", "versions", "disk"} {
		cp := exec.CommandContext(ctx, "cp", "--sparse=always", filepath.Join(stage, name), filepath.Join(dir, name))
		if out, err := cp.CombinedOutput(); err != nil {
			return fmt.Errorf("stock Debian: %w: %s", err, out)
		}
	}
	return nil
}

// boot boots it on the machine that the platform has, and returns after how many
// milliseconds containerd was up. The disk stays as it is.
func (s *stockSystem) boot(ctx context.Context, accel string) (ms float64, err error) {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	c, err := cache.Open("")
	if err != nil {
		return 0, err
	}
	binary, firmware, err := images.QEMU(ctx, c, nil)
	if err != nil {
		return 0, err
	}
	dir, err := qemu.Private()
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	port, err := freePort(0)
	if err != nil {
		return 0, err
	}
	m := qemu.Machine{
		Firmware: firmware, Accel: accel, Memory: defaultMemory, CPUs: defaultVCPUs, Port: port,
		Kernel: filepath.Join(s.dir, "kernel"), Initrd: filepath.Join(s.dir, "initrd"), Cmdline: stockCmdline,
		Extra: []string{
			"-drive", "file=" + filepath.Join(s.dir, "disk") + ",if=none,id=root,format=raw,snapshot=on", "-device", "virtio-blk-pci,drive=root",
		},
	}
	var seen stamps
	p, err := qemu.Start(context.WithoutCancel(ctx), binary, m, dir, seen.add)
	if err != nil {
		return 0, err
	}
	defer func() { _ = p.Stop(context.Background(), 0) }() // it holds nothing that a clean end would save
	if _, err := p.WaitLine(ctx, stockMark); err != nil {
		return 0, fmt.Errorf("stock Debian: %w", err)
	}
	return seen.since(p.Began, stockMark), nil
}
