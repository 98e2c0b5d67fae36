package main

import (
	"context"
	"slices"

	"golang.org/x/sys/unix"

	"omega/init/internal/seccomp"
)

// spec is one child of PID 1: what it runs as and what it may do.
type spec struct {
	name   string
	run    func(ctx context.Context, c *child) error
	uid    int            // user and group id
	caps   []uintptr      // for uid 0 only
	allow  []seccomp.Rule // system calls it may make …
	refuse []seccomp.Rule // … or, where it runs foreign programs, may not
	memory int64          // cgroup memory.max in bytes; 0: bounded elsewhere
	pids   int            // cgroup pids.max
	once   bool           // may end before the machine does
}

// User ids of the children. Nothing else in the guest has them; agents run as
// uid 1000 inside their sandboxes.
const (
	uidConfig  = 101
	uidSigner  = 102
	uidLog     = 103
	uidFront   = 104
	uidGateway = 105
	uidFetcher = 106
)

const mib = 1 << 20

// children are the children of PID 1 (DESIGN section 5).
var children = []spec{
	{name: "config", run: runConfig, uid: uidConfig, memory: 64 * mib, pids: 32, once: true,
		allow: slices.Concat(seccomp.Runtime, seccomp.Datagrams)},
	{name: "signer", run: runSigner, uid: uidSigner, memory: 256 * mib, pids: 32,
		allow: slices.Concat(seccomp.Runtime, seccomp.Memory, seccomp.Calls("ioctl"))},
	{name: "log", run: runLog, uid: uidLog, memory: 512 * mib, pids: 64,
		allow: slices.Concat(seccomp.Runtime, seccomp.ReadFiles, seccomp.Disk, seccomp.Memory)},
	{name: "front", run: runFront, uid: uidFront, memory: 512 * mib, pids: 64,
		allow: slices.Concat(seccomp.Runtime, seccomp.ReadFiles, seccomp.Accept, seccomp.Memory, seccomp.Pair)},
	{name: "gateway", run: runGateway, uid: uidGateway, memory: 512 * mib, pids: 64,
		allow: slices.Concat(seccomp.Runtime, seccomp.ReadFiles, seccomp.Dial, seccomp.Memory, seccomp.Pair)},
	// The fetcher's images are bounded by the size of their tmpfs.
	{name: "fetcher", run: runFetcher, uid: uidFetcher, pids: 64,
		allow: slices.Concat(seccomp.Runtime, seccomp.WriteFiles, seccomp.Dial)},
	// runsc lives below sandboxd; each agent has a cgroup of its own.
	{name: "sandboxd", run: runSandboxd, uid: 0, pids: 4096, refuse: seccomp.Dangerous, caps: []uintptr{
		unix.CAP_CHOWN, unix.CAP_DAC_OVERRIDE, unix.CAP_FOWNER, unix.CAP_KILL, unix.CAP_SETGID, unix.CAP_SETUID,
		unix.CAP_SETPCAP, unix.CAP_NET_ADMIN, unix.CAP_SYS_CHROOT, unix.CAP_SYS_PTRACE, unix.CAP_SYS_ADMIN,
		unix.CAP_MKNOD, unix.CAP_SETFCAP, unix.CAP_SYS_RESOURCE,
	}},
}

// link is one channel: the client calls, the server answers.
type link struct{ client, server string }

// links are all channels. Each name is unique among one child's peers.
var links = []link{
	{"pid1", "config"}, {"pid1", "signer"}, {"pid1", "log"}, {"pid1", "front"},
	{"pid1", "gateway"}, {"pid1", "fetcher"}, {"pid1", "sandboxd"},
	{"log", "signer"}, {"front", "signer"}, {"sandboxd", "signer"}, {"gateway", "signer"}, {"fetcher", "signer"},
	{"gateway", "log"}, {"fetcher", "log"}, {"sandboxd", "log"}, {"front", "log"},
	{"fetcher", "sandboxd"}, {"sandboxd", "gateway"}, {"front", "fetcher"}, {"front", "sandboxd"}, {"front", "gateway"},
}

// find returns the child of that name, or nil.
func find(name string) *spec {
	for i := range children {
		if children[i].name == name {
			return &children[i]
		}
	}
	return nil
}

// filter is the child's seccomp program.
func (s *spec) filter() ([]unix.SockFilter, error) {
	if s.refuse != nil {
		return seccomp.Refuse(s.refuse)
	}
	return seccomp.Allow(s.allow)
}
