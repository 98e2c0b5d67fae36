// Package seccomp turns a list of system call names into a BPF filter and
// installs it on every thread of the process. Two forms exist: a filter that
// allows what it lists (for children that run only our own code) and one that
// refuses what it lists (for sandboxd, whose filter runsc inherits).
//
// It filters by number and by one masked argument. It does not follow pointers,
// so it cannot see paths or addresses.
package seccomp

import (
	"fmt"
	"math"

	"golang.org/x/sys/unix"
)

// Rule names one system call, by its Linux name. With a mask, the rule holds
// only while argument Arg, masked, equals Value (its low 32 bits).
type Rule struct {
	Call        string
	Arg         int
	Mask, Value uint32
	And         *Also // and only while this holds too
}

// Also is a second condition of a rule with a mask.
type Also struct {
	Arg         int
	Mask, Value uint32
}

// Calls makes plain rules of names.
func Calls(names ...string) []Rule {
	rules := make([]Rule, len(names))
	for i, n := range names {
		rules[i] = Rule{Call: n}
	}
	return rules
}

// Offsets in struct seccomp_data (linux/seccomp.h).
const (
	offNumber = 0
	offArch   = 4
	offArgs   = 16
)

// x32Bit marks the x32 calling convention (asm/unistd.h): other numbers for the
// same calls, so a filter must refuse it.
const x32Bit = 0x40000000

// maxProgram is BPF_MAXINSNS of linux/bpf_common.h.
const maxProgram = 4096

// Allow returns the filter that permits what rules list; any other call gives
// EPERM.
func Allow(rules []Rule) ([]unix.SockFilter, error) {
	return assemble(rules, unix.SECCOMP_RET_ALLOW, unix.SECCOMP_RET_ERRNO|uint32(unix.EPERM))
}

// Refuse returns the filter that gives EPERM for what rules list and permits
// any other call.
func Refuse(rules []Rule) ([]unix.SockFilter, error) {
	return assemble(rules, unix.SECCOMP_RET_ERRNO|uint32(unix.EPERM), unix.SECCOMP_RET_ALLOW)
}

// AllowOld is Allow for programs that try newer calls first: those give ENOSYS, as
// on a kernel that has not got them.
func AllowOld(rules []Rule, absent []string) ([]unix.SockFilter, error) {
	prog, err := Allow(rules)
	if err != nil {
		return nil, err
	}
	last := prog[len(prog)-1]
	prog = prog[:len(prog)-1]
	for _, name := range absent {
		nr, ok := number(name)
		if !ok {
			return nil, fmt.Errorf("system call %q is not in the table", name)
		}
		prog = append(prog, one(nr, Rule{}, unix.SECCOMP_RET_ERRNO|uint32(unix.ENOSYS))...)
	}
	return append(prog, last), nil
}

func assemble(rules []Rule, match, other uint32) ([]unix.SockFilter, error) {
	if len(rules) == 0 {
		return nil, fmt.Errorf("seccomp filter without rules")
	}
	prog := []unix.SockFilter{
		load(offArch),
		jump(unix.BPF_JEQ, unix.AUDIT_ARCH_X86_64, 1, 0),
		ret(unix.SECCOMP_RET_KILL_PROCESS),
		load(offNumber),
		jump(unix.BPF_JGE, x32Bit, 0, 1),
		ret(unix.SECCOMP_RET_KILL_PROCESS),
	}
	for _, r := range rules {
		nr, ok := number(r.Call)
		if !ok {
			return nil, fmt.Errorf("system call %q is not in the table", r.Call)
		}
		if r.Arg < 0 || r.Arg > 5 || r.And != nil && (r.Mask == 0 || r.And.Arg < 0 || r.And.Arg > 5) {
			return nil, fmt.Errorf("system call %s: argument %d", r.Call, r.Arg)
		}
		prog = append(prog, one(nr, r, match)...)
	}
	prog = append(prog, ret(other))
	if len(prog) > maxProgram {
		return nil, fmt.Errorf("seccomp filter of %d instructions", len(prog))
	}
	return prog, nil
}

// number is that of a system call by its name.
func number(call string) (uint32, bool) {
	if nr, ok := numbers[call]; ok {
		return nr, true
	}
	nr, ok := nativeNumbers[call]
	return nr, ok
}

// one is the code for a rule. The accumulator holds the call's number before
// and after it.
func one(nr uint32, r Rule, match uint32) []unix.SockFilter {
	if r.Mask == 0 {
		return []unix.SockFilter{jump(unix.BPF_JEQ, nr, 0, 1), ret(match)}
	}
	conditions := []Also{{r.Arg, r.Mask, r.Value}}
	if r.And != nil {
		conditions = append(conditions, *r.And)
	}
	prog := []unix.SockFilter{jump(unix.BPF_JEQ, nr, 0, uint8(3*len(conditions)+2))}
	for i, c := range conditions {
		prog = append(prog,
			load(uint32(offArgs+8*c.Arg)), // low half: little endian
			unix.SockFilter{Code: unix.BPF_ALU | unix.BPF_AND | unix.BPF_K, K: c.Mask},
			jump(unix.BPF_JEQ, c.Value, 0, uint8(3*(len(conditions)-1-i)+1)))
	}
	return append(prog, ret(match), load(offNumber))
}

func load(offset uint32) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: offset}
}

func jump(op uint16, k uint32, yes, no uint8) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_JMP | op | unix.BPF_K, Jt: yes, Jf: no, K: k}
}

func ret(action uint32) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: action}
}

// fits says whether a program can be handed to the kernel.
func fits(prog []unix.SockFilter) bool { return len(prog) > 0 && len(prog) <= math.MaxUint16 }
