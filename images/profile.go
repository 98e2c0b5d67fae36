package images

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// A profile is everything in which one flavour of the image differs from
// another. The tables below are the image: what is not in them is not in it.
type profile struct {
	name    string
	kernel  string // variant of the kernel
	cmdline string
	svn     uint32 // raised when older images must no longer be trusted
	built   string // RFC 3339; the guest's clock never goes below it
	expires string // RFC 3339; a manifest is not believed beyond it
	payload []file
}

// A file is one entry of the initramfs.
type file struct {
	path string
	mode uint64 // permission bits
	from source
}

// A source says where the content of a file comes from.
type source struct {
	kind  string // directory, device, program, runsc, uroot, identity, policy, roots
	name  string // package path of a program, or part of the policy
	major uint64 // of a device
	minor uint64
}

// directory is an empty folder.
func directory() source { return source{kind: "directory"} }

// device is a character device (Documentation/admin-guide/devices.txt).
func device(major, minor uint64) source { return source{kind: "device", major: major, minor: minor} }

// program is a static Go program of the main module.
func program(pkg string) source { return source{kind: "program", name: pkg} }

// uroot is a command of u-root, from the module in images/debug.
func uroot(name string) source { return source{kind: "uroot", name: name} }

// The other sources: gVisor from its own module, what the image says of itself,
// the compiled policy, the trust roots.
func runsc() source             { return source{kind: "runsc"} }
func identity() source          { return source{kind: "identity"} }
func policy(part string) source { return source{kind: "policy", name: part} }
func roots() source             { return source{kind: "roots"} }

// cmdline is what the kernel is told. The seed that a boot loader hands over is
// the host's: not trusted. Debian's Yama is off until it is told otherwise.
const cmdline = "console=ttyS0 panic=-1 quiet random.trust_bootloader=off sysctl.kernel.yama.ptrace_scope=1"

// The releases that the profiles are part of: see the fields of profile.
const (
	svn     = 1
	built   = "2026-11-23T00:00:00Z"
	expires = "2027-11-30T00:00:00Z"
)

// payload is the initramfs that every profile has.
var payload = []file{
	{"bin", 0o755, directory()},
	{"bin/runsc", 0o755, runsc()},
	{"bin/shim", 0o755, program("./agentloader/shim")},
	{"dev", 0o755, directory()},
	{"dev/console", 0o600, device(5, 1)},
	{"dev/null", 0o666, device(1, 3)},
	{"etc", 0o755, directory()},
	{"etc/omega", 0o755, directory()},
	{"etc/omega/image.json", 0o444, identity()},
	{"etc/omega/policy.json", 0o444, policy("json")},
	{"etc/omega/policy.wasm", 0o444, policy("wasm")},
	{"etc/omega/roots.pem", 0o444, roots()},
	{"init", 0o755, program("./init")},
	{"proc", 0o555, directory()},
	{"run", 0o755, directory()},
	{"sys", 0o555, directory()},
	{"tmp", 0o755, directory()},
}

// debugTools are what somebody needs who looks into a running guest. bin/sh is
// what /init starts on the console, in this profile only.
var debugTools = []file{
	{"bin/sh", 0o755, uroot("gosh")},
	{"bin/cat", 0o755, uroot("cat")},
	{"bin/df", 0o755, uroot("df")},
	{"bin/dmesg", 0o755, uroot("dmesg")},
	{"bin/free", 0o755, uroot("free")},
	{"bin/grep", 0o755, uroot("grep")},
	{"bin/hexdump", 0o755, uroot("hexdump")},
	{"bin/ip", 0o755, uroot("ip")},
	{"bin/kill", 0o755, uroot("kill")},
	{"bin/ls", 0o755, uroot("ls")},
	{"bin/mount", 0o755, uroot("mount")},
	{"bin/ps", 0o755, uroot("ps")},
	{"bin/uname", 0o755, uroot("uname")},
}

// profiles are all the images that can be built.
var profiles = []profile{
	{name: "cpu", kernel: "cpu", cmdline: cmdline, svn: svn, built: built, expires: expires, payload: payload},
	// The drivers of the clouds, and a TPM's.
	{name: "cloud", kernel: "cloud", cmdline: cmdline, svn: svn, built: built, expires: expires, payload: payload},
	// One file: the initramfs and the command line are inside of the kernel.
	{name: "single", kernel: singleVariant, cmdline: cmdline, svn: svn, built: built, expires: expires, payload: payload},
	// A shell inside: never for anything that matters, and verifiers refuse it.
	{
		name: "debug", kernel: "cpu", cmdline: cmdline, svn: svn, built: built, expires: expires,
		payload: slices.Concat(payload, debugTools),
	},
}

// Profiles returns the names of all profiles.
func Profiles() []string {
	var names []string
	for _, p := range profiles {
		names = append(names, p.name)
	}
	return names
}

func profileNamed(name string) (profile, error) {
	for _, p := range profiles {
		if p.name == name {
			return p, nil
		}
	}
	if name == "gpu" {
		return profile{}, errors.New("profile gpu: there is no image with a GPU's driver in this version; docs/gpu.md says how far it has come")
	}
	return profile{}, fmt.Errorf("profile %q is not one of: %s", name, strings.Join(Profiles(), ", "))
}
