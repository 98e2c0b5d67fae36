package seccomp

import (
	"math"
	"slices"

	"golang.org/x/sys/unix"
)

// newNamespaces are the flags of clone(2) that make namespaces.
const newNamespaces = unix.CLONE_NEWNS | unix.CLONE_NEWUSER | unix.CLONE_NEWPID | unix.CLONE_NEWNET | unix.CLONE_NEWIPC |
	unix.CLONE_NEWUTS | unix.CLONE_NEWCGROUP

// Requests of ioctl(2) about a descriptor itself (asm-generic/ioctls.h).
const (
	fionread = 0x541b
	fionbio  = 0x5421
	fioclex  = 0x5451
)

// Native is what the program of a native sandbox may do: run threads and processes
// of its own, read, write its scratch, and speak TCP on its loopback. It has no calls
// that mount, trace, load, make namespaces, reach keys or io_uring, or change who it is.
var Native = slices.Concat([]Rule{
	{Call: "clone", Arg: 0, Mask: newNamespaces, Value: 0},
	{Call: "ioctl", Arg: 1, Mask: math.MaxUint32, Value: unix.TCGETS}, // isatty
	{Call: "ioctl", Arg: 1, Mask: math.MaxUint32, Value: fionread},
	{Call: "ioctl", Arg: 1, Mask: math.MaxUint32, Value: fionbio},
	{Call: "ioctl", Arg: 1, Mask: math.MaxUint32, Value: fioclex},
}, overIP(0), overIP(unix.IPPROTO_TCP), overIP(unix.IPPROTO_UDP), Pair, Calls(
	"accept", "accept4", "access", "arch_prctl", "bind", "brk", "chdir", "clock_getres", "clock_gettime",
	"clock_nanosleep", "close", "close_range", "connect", "copy_file_range", "dup", "dup2", "dup3", "epoll_create1",
	"epoll_ctl", "epoll_pwait", "epoll_pwait2", "epoll_wait", "eventfd", "eventfd2", "execve", "exit", "exit_group",
	"faccessat2", "fadvise64", "fallocate", "fchdir", "fchmod", "fchmodat", "fcntl", "fdatasync", "flock", "fstat",
	"fstatfs", "fsync", "ftruncate", "futex", "get_mempolicy", "getcpu", "getcwd", "getdents64", "getegid", "geteuid",
	"getgid", "getgroups", "getpeername", "getpgrp", "getpid", "getppid", "getpriority", "getrandom", "getresgid",
	"getresuid", "getrlimit", "getrusage", "getsid", "getsockname", "getsockopt", "gettid", "gettimeofday", "getuid",
	"kill", "listen", "lseek", "lstat", "madvise", "mbind", "membarrier", "memfd_create", "mincore", "mkdir", "mkdirat",
	"mlock", "mlock2", "mmap", "mprotect", "mremap", "msync", "munlock", "munmap", "nanosleep", "newfstatat", "open",
	"openat", "pause", "pidfd_open", "pidfd_send_signal", "pipe", "pipe2", "poll", "ppoll", "prctl", "pread64",
	"preadv", "prlimit64", "pselect6", "pwrite64", "pwritev", "read", "readahead", "readlink", "readlinkat", "readv",
	"recvfrom", "recvmsg", "rename", "renameat", "renameat2", "restart_syscall", "rmdir", "rseq", "rt_sigaction",
	"rt_sigpending", "rt_sigprocmask", "rt_sigreturn", "rt_sigsuspend", "rt_sigtimedwait", "sched_get_priority_max",
	"sched_get_priority_min", "sched_getaffinity", "sched_getparam", "sched_getscheduler", "sched_setaffinity",
	"sched_yield", "select", "sendfile", "sendmsg", "sendto", "set_robust_list", "set_tid_address", "setitimer",
	"setpgid", "setpriority", "setsid", "setsockopt", "shutdown", "sigaltstack", "splice", "stat", "statfs", "statx",
	"sysinfo", "tgkill", "time", "timerfd_create", "timerfd_gettime", "timerfd_settime", "times", "truncate", "umask",
	"uname", "unlink", "unlinkat", "utimensat", "wait4", "waitid", "write", "writev",
))

// overIP permits sockets of one protocol over IP. Others speak TCP under another
// name (MPTCP, SMC), and Landlock does not look at their ports.
func overIP(protocol uint32) []Rule {
	and := &Also{Arg: 2, Mask: math.MaxUint32, Value: protocol}
	return []Rule{
		{Call: "socket", Arg: 0, Mask: math.MaxUint32, Value: unix.AF_INET, And: and},
		{Call: "socket", Arg: 0, Mask: math.MaxUint32, Value: unix.AF_INET6, And: and},
	}
}

// NativeDevice is Native for a sandbox with devices, whose drivers are asked by ioctl.
// Landlock says on which files.
var NativeDevice = slices.Concat(Native, Calls("ioctl"))

// NativeAbsent are calls that the C library has an older one for: the flags of clone3
// lie in memory, where no filter sees them.
var NativeAbsent = []string{"clone3"}

// nativeNumbers are the system calls that only the lists above name.
var nativeNumbers = map[string]uint32{
	"accept": unix.SYS_ACCEPT, "access": unix.SYS_ACCESS, "arch_prctl": unix.SYS_ARCH_PRCTL, "chdir": unix.SYS_CHDIR,
	"clock_getres": unix.SYS_CLOCK_GETRES, "clone3": unix.SYS_CLONE3, "close_range": unix.SYS_CLOSE_RANGE,
	"dup": unix.SYS_DUP, "dup2": unix.SYS_DUP2, "dup3": unix.SYS_DUP3, "epoll_pwait2": unix.SYS_EPOLL_PWAIT2,
	"eventfd": unix.SYS_EVENTFD, "execve": unix.SYS_EXECVE, "fadvise64": unix.SYS_FADVISE64, "fchdir": unix.SYS_FCHDIR,
	"flock": unix.SYS_FLOCK, "get_mempolicy": unix.SYS_GET_MEMPOLICY, "getcpu": unix.SYS_GETCPU,
	"getcwd": unix.SYS_GETCWD, "getegid": unix.SYS_GETEGID, "geteuid": unix.SYS_GETEUID, "getgid": unix.SYS_GETGID,
	"getgroups": unix.SYS_GETGROUPS, "getpgrp": unix.SYS_GETPGRP, "getppid": unix.SYS_GETPPID,
	"getpriority": unix.SYS_GETPRIORITY, "getresgid": unix.SYS_GETRESGID, "getresuid": unix.SYS_GETRESUID,
	"getrlimit": unix.SYS_GETRLIMIT, "getrusage": unix.SYS_GETRUSAGE, "getsid": unix.SYS_GETSID,
	"getuid": unix.SYS_GETUID, "kill": unix.SYS_KILL, "listen": unix.SYS_LISTEN, "lstat": unix.SYS_LSTAT,
	"mbind": unix.SYS_MBIND, "membarrier": unix.SYS_MEMBARRIER, "mkdir": unix.SYS_MKDIR, "mlock": unix.SYS_MLOCK,
	"mlock2": unix.SYS_MLOCK2, "mremap": unix.SYS_MREMAP, "msync": unix.SYS_MSYNC, "munlock": unix.SYS_MUNLOCK,
	"open": unix.SYS_OPEN, "pause": unix.SYS_PAUSE, "pidfd_open": unix.SYS_PIDFD_OPEN,
	"pidfd_send_signal": unix.SYS_PIDFD_SEND_SIGNAL, "pipe": unix.SYS_PIPE, "prctl": unix.SYS_PRCTL,
	"preadv": unix.SYS_PREADV, "prlimit64": unix.SYS_PRLIMIT64, "pselect6": unix.SYS_PSELECT6,
	"pwritev": unix.SYS_PWRITEV, "readahead": unix.SYS_READAHEAD, "readlink": unix.SYS_READLINK,
	"rename": unix.SYS_RENAME, "rmdir": unix.SYS_RMDIR, "rseq": unix.SYS_RSEQ, "rt_sigpending": unix.SYS_RT_SIGPENDING,
	"rt_sigsuspend": unix.SYS_RT_SIGSUSPEND, "rt_sigtimedwait": unix.SYS_RT_SIGTIMEDWAIT,
	"sched_get_priority_max": unix.SYS_SCHED_GET_PRIORITY_MAX,
	"sched_get_priority_min": unix.SYS_SCHED_GET_PRIORITY_MIN, "sched_getparam": unix.SYS_SCHED_GETPARAM,
	"sched_getscheduler": unix.SYS_SCHED_GETSCHEDULER, "sched_setaffinity": unix.SYS_SCHED_SETAFFINITY,
	"select": unix.SYS_SELECT, "set_robust_list": unix.SYS_SET_ROBUST_LIST, "set_tid_address": unix.SYS_SET_TID_ADDRESS,
	"setitimer": unix.SYS_SETITIMER, "setpgid": unix.SYS_SETPGID, "setpriority": unix.SYS_SETPRIORITY,
	"setsid": unix.SYS_SETSID, "stat": unix.SYS_STAT, "sysinfo": unix.SYS_SYSINFO, "time": unix.SYS_TIME,
	"timerfd_create": unix.SYS_TIMERFD_CREATE, "timerfd_gettime": unix.SYS_TIMERFD_GETTIME,
	"timerfd_settime": unix.SYS_TIMERFD_SETTIME, "times": unix.SYS_TIMES, "truncate": unix.SYS_TRUNCATE,
	"umask": unix.SYS_UMASK, "uname": unix.SYS_UNAME, "unlink": unix.SYS_UNLINK, "wait4": unix.SYS_WAIT4,
	"waitid": unix.SYS_WAITID,
}
