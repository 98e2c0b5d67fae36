// Package cgroup places each of PID 1's children in a cgroup of its own, with
// limits on memory and processes. The agents' cgroups are sandboxd's.
package cgroup

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
)

// Tree is a cgroup2 mount.
type Tree struct{ Dir string }

// controllers are handed down to every child cgroup.
const controllers = "+memory +pids +cpu +io"

// groups below the root: the platform's own children and the agents.
const (
	own    = "omega"
	Agents = "agents"
)

// Prepare makes the groups for the platform and for the agents.
func (t Tree) Prepare() error {
	if err := t.write("cgroup.subtree_control", controllers); err != nil {
		return err
	}
	for _, g := range []string{own, Agents} {
		if err := os.Mkdir(filepath.Join(t.Dir, g), 0o755); err != nil {
			return fmt.Errorf("cgroup: %w", err)
		}
		if err := t.write(filepath.Join(g, "cgroup.subtree_control"), controllers); err != nil {
			return err
		}
	}
	return nil
}

// Make makes the cgroup of one child and opens it, for CLONE_INTO_CGROUP. No
// memory limit is set if memory is zero.
func (t Tree) Make(name string, memory int64, pids int) (*os.File, error) {
	group := filepath.Join(own, name)
	if err := os.Mkdir(filepath.Join(t.Dir, group), 0o755); err != nil {
		return nil, fmt.Errorf("cgroup: %w", err)
	}
	if memory > 0 {
		if err := t.write(filepath.Join(group, "memory.max"), strconv.FormatInt(memory, 10)); err != nil {
			return nil, err
		}
	}
	if err := t.write(filepath.Join(group, "pids.max"), strconv.Itoa(pids)); err != nil {
		return nil, err
	}
	return os.Open(filepath.Join(t.Dir, group))
}

func (t Tree) write(file, value string) error {
	if err := os.WriteFile(filepath.Join(t.Dir, file), []byte(value), 0); err != nil {
		return fmt.Errorf("cgroup: %w", err)
	}
	return nil
}
