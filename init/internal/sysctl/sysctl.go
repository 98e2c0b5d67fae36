// Package sysctl sets the kernel's switches that have no place in its
// configuration. It only tightens: what a kernel lacks needs no switch.
package sysctl

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Setting is one file below /proc/sys and its value.
type Setting struct{ Path, Value string }

// Table is everything that is set.
var Table = []Setting{
	{"kernel/kptr_restrict", "2"}, // no kernel addresses, for root neither
	{"kernel/dmesg_restrict", "1"},
	{"kernel/yama/ptrace_scope", "1"}, // runsc traces its own children
	{"kernel/perf_event_paranoid", "3"},
	{"fs/suid_dumpable", "0"},
	{"fs/protected_hardlinks", "1"},
	{"fs/protected_symlinks", "1"},
	{"fs/protected_fifos", "2"},
	{"fs/protected_regular", "2"},
	{"user/max_user_namespaces", "4096"}, // two for each sandbox
	{"net/ipv4/ip_forward", "0"},
	{"net/ipv4/conf/all/accept_redirects", "0"},
	{"net/ipv4/conf/all/send_redirects", "0"},
	{"net/ipv4/conf/all/accept_source_route", "0"},
	{"net/ipv4/tcp_syncookies", "1"},
}

// Set writes settings below root.
func Set(root string, settings []Setting) error {
	for _, s := range settings {
		f, err := os.OpenFile(filepath.Join(root, s.Path), os.O_WRONLY, 0)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return fmt.Errorf("kernel setting: %w", err)
		}
		_, err = f.WriteString(s.Value)
		if err = errors.Join(err, f.Close()); err != nil {
			return fmt.Errorf("kernel setting %s: %w", s.Path, err)
		}
	}
	return nil
}
