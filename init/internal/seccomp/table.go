package seccomp

import (
	"math"
	"slices"

	"golang.org/x/sys/unix"
)

// Runtime is what the Go runtime, an open descriptor and a wire channel need.
// clone is allowed for threads only. clone3 and the rest give EPERM.
var Runtime = slices.Concat([]Rule{
	{Call: "clone", Arg: 0, Mask: unix.CLONE_THREAD, Value: unix.CLONE_THREAD},
}, Calls(
	"brk", "mmap", "munmap", "mprotect", "madvise", "mincore",
	"rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "sigaltstack", "tgkill", "getpid", "gettid",
	"futex", "sched_yield", "sched_getaffinity", "nanosleep", "clock_nanosleep", "clock_gettime", "gettimeofday",
	"epoll_create1", "epoll_ctl", "epoll_wait", "epoll_pwait", "eventfd2", "pipe2", "poll", "ppoll",
	"read", "write", "readv", "writev", "close", "fstat", "fcntl", "lseek",
	"sendmsg", "recvmsg", "getsockopt", "getrandom", "exit", "exit_group", "restart_syscall",
))

// Datagrams adds talking over a UDP socket that is handed in.
var Datagrams = Calls("sendto", "recvfrom", "setsockopt", "getsockname")

// ReadFiles adds opening and looking at files, for reading only.
var ReadFiles = slices.Concat([]Rule{
	// O_WRONLY, O_RDWR, O_CREAT and O_TRUNC must be off.
	{Call: "openat", Arg: 2, Mask: unix.O_ACCMODE | unix.O_CREAT | unix.O_TRUNC, Value: unix.O_RDONLY},
}, Calls("newfstatat", "statx", "getdents64", "pread64", "readlinkat", "faccessat2"))

// Disk adds reading and writing an open file or device at an offset.
var Disk = Calls("pread64", "pwrite64", "fdatasync", "fsync", "ioctl")

// Memory adds sealed memory files, to hand bytes to another child.
var Memory = Calls("memfd_create", "ftruncate", "pwrite64")

// Accept adds serving connections of a listener that is handed in.
var Accept = Calls("accept4", "setsockopt", "getsockname", "getpeername", "shutdown", "sendto", "recvfrom", "splice",
	"sendfile")

// Dial adds making connections over IP. Other families (netlink, packets, Unix)
// reach kernel code that no child needs.
var Dial = slices.Concat([]Rule{
	{Call: "socket", Arg: 0, Mask: math.MaxUint32, Value: unix.AF_INET},
	{Call: "socket", Arg: 0, Mask: math.MaxUint32, Value: unix.AF_INET6},
}, Calls("connect", "bind", "setsockopt", "getsockname", "getpeername", "shutdown",
	"sendto", "recvfrom", "splice", "sendfile"))

// Pair adds making connected pairs of sockets, to hand one end to another child.
var Pair = []Rule{{Call: "socketpair", Arg: 0, Mask: math.MaxUint32, Value: unix.AF_UNIX}}

// WriteFiles adds making and removing files.
var WriteFiles = Calls("openat", "newfstatat", "statx", "getdents64", "readlinkat", "pread64", "pwrite64",
	"mkdirat", "unlinkat", "renameat", "renameat2", "fchmod", "fchmodat", "ftruncate", "fsync", "fdatasync",
	"fallocate", "copy_file_range", "utimensat", "statfs", "fstatfs")

// Dangerous is what neither sandboxd nor runsc below it ever has to do: change
// the kernel, its keys, its clock or its programs.
var Dangerous = Calls(
	"kexec_load", "kexec_file_load", "reboot", "init_module", "finit_module", "delete_module",
	"bpf", "perf_event_open", "userfaultfd", "io_uring_setup", "io_uring_enter", "io_uring_register",
	"add_key", "request_key", "keyctl", "open_by_handle_at", "iopl", "ioperm", "acct", "quotactl", "quotactl_fd",
	"swapon", "swapoff", "settimeofday", "clock_settime", "clock_adjtime", "adjtimex", "syslog", "lookup_dcookie",
	"vhangup", "nfsservctl", "uselib", "ustat", "sysfs", "modify_ldt",
)

// numbers are the system calls of x86-64 that the lists above name.
var numbers = map[string]uint32{
	"accept4": unix.SYS_ACCEPT4, "acct": unix.SYS_ACCT, "add_key": unix.SYS_ADD_KEY, "adjtimex": unix.SYS_ADJTIMEX,
	"bind": unix.SYS_BIND, "bpf": unix.SYS_BPF, "brk": unix.SYS_BRK,
	"clock_adjtime": unix.SYS_CLOCK_ADJTIME, "clock_gettime": unix.SYS_CLOCK_GETTIME,
	"clock_nanosleep": unix.SYS_CLOCK_NANOSLEEP, "clock_settime": unix.SYS_CLOCK_SETTIME, "clone": unix.SYS_CLONE,
	"close": unix.SYS_CLOSE, "connect": unix.SYS_CONNECT, "copy_file_range": unix.SYS_COPY_FILE_RANGE,
	"delete_module": unix.SYS_DELETE_MODULE, "epoll_create1": unix.SYS_EPOLL_CREATE1, "epoll_ctl": unix.SYS_EPOLL_CTL,
	"epoll_pwait": unix.SYS_EPOLL_PWAIT, "epoll_wait": unix.SYS_EPOLL_WAIT, "eventfd2": unix.SYS_EVENTFD2,
	"exit": unix.SYS_EXIT, "exit_group": unix.SYS_EXIT_GROUP, "faccessat2": unix.SYS_FACCESSAT2,
	"fallocate": unix.SYS_FALLOCATE, "fchmod": unix.SYS_FCHMOD, "fchmodat": unix.SYS_FCHMODAT, "fcntl": unix.SYS_FCNTL,
	"fdatasync": unix.SYS_FDATASYNC, "finit_module": unix.SYS_FINIT_MODULE, "fstat": unix.SYS_FSTAT,
	"fstatfs": unix.SYS_FSTATFS, "fsync": unix.SYS_FSYNC, "ftruncate": unix.SYS_FTRUNCATE, "futex": unix.SYS_FUTEX,
	"getdents64": unix.SYS_GETDENTS64, "getpeername": unix.SYS_GETPEERNAME, "getpid": unix.SYS_GETPID,
	"getrandom": unix.SYS_GETRANDOM, "getsockname": unix.SYS_GETSOCKNAME, "getsockopt": unix.SYS_GETSOCKOPT,
	"gettid": unix.SYS_GETTID, "gettimeofday": unix.SYS_GETTIMEOFDAY, "init_module": unix.SYS_INIT_MODULE,
	"io_uring_enter": unix.SYS_IO_URING_ENTER, "io_uring_register": unix.SYS_IO_URING_REGISTER,
	"io_uring_setup": unix.SYS_IO_URING_SETUP, "ioctl": unix.SYS_IOCTL, "ioperm": unix.SYS_IOPERM, "iopl": unix.SYS_IOPL,
	"kexec_file_load": unix.SYS_KEXEC_FILE_LOAD, "kexec_load": unix.SYS_KEXEC_LOAD, "keyctl": unix.SYS_KEYCTL,
	"lookup_dcookie": unix.SYS_LOOKUP_DCOOKIE, "lseek": unix.SYS_LSEEK, "madvise": unix.SYS_MADVISE,
	"memfd_create": unix.SYS_MEMFD_CREATE, "mincore": unix.SYS_MINCORE, "mkdirat": unix.SYS_MKDIRAT, "mmap": unix.SYS_MMAP,
	"modify_ldt": unix.SYS_MODIFY_LDT, "mprotect": unix.SYS_MPROTECT, "munmap": unix.SYS_MUNMAP,
	"nanosleep": unix.SYS_NANOSLEEP, "newfstatat": unix.SYS_NEWFSTATAT, "nfsservctl": unix.SYS_NFSSERVCTL,
	"open_by_handle_at": unix.SYS_OPEN_BY_HANDLE_AT, "openat": unix.SYS_OPENAT,
	"perf_event_open": unix.SYS_PERF_EVENT_OPEN, "pipe2": unix.SYS_PIPE2, "poll": unix.SYS_POLL, "ppoll": unix.SYS_PPOLL,
	"pread64": unix.SYS_PREAD64, "pwrite64": unix.SYS_PWRITE64, "quotactl": unix.SYS_QUOTACTL,
	"quotactl_fd": unix.SYS_QUOTACTL_FD, "read": unix.SYS_READ, "readlinkat": unix.SYS_READLINKAT, "readv": unix.SYS_READV,
	"reboot": unix.SYS_REBOOT, "recvfrom": unix.SYS_RECVFROM, "recvmsg": unix.SYS_RECVMSG, "renameat": unix.SYS_RENAMEAT,
	"renameat2": unix.SYS_RENAMEAT2, "request_key": unix.SYS_REQUEST_KEY, "restart_syscall": unix.SYS_RESTART_SYSCALL,
	"rt_sigaction": unix.SYS_RT_SIGACTION, "rt_sigprocmask": unix.SYS_RT_SIGPROCMASK, "rt_sigreturn": unix.SYS_RT_SIGRETURN,
	"sched_getaffinity": unix.SYS_SCHED_GETAFFINITY, "sched_yield": unix.SYS_SCHED_YIELD, "sendmsg": unix.SYS_SENDMSG,
	"sendfile": unix.SYS_SENDFILE, "sendto": unix.SYS_SENDTO, "splice": unix.SYS_SPLICE, "setsockopt": unix.SYS_SETSOCKOPT, "settimeofday": unix.SYS_SETTIMEOFDAY,
	"shutdown": unix.SYS_SHUTDOWN, "sigaltstack": unix.SYS_SIGALTSTACK, "socket": unix.SYS_SOCKET, "socketpair": unix.SYS_SOCKETPAIR, "statfs": unix.SYS_STATFS,
	"statx": unix.SYS_STATX, "swapoff": unix.SYS_SWAPOFF, "swapon": unix.SYS_SWAPON, "sysfs": unix.SYS_SYSFS,
	"syslog": unix.SYS_SYSLOG, "tgkill": unix.SYS_TGKILL, "unlinkat": unix.SYS_UNLINKAT, "uselib": unix.SYS_USELIB,
	"userfaultfd": unix.SYS_USERFAULTFD, "ustat": unix.SYS_USTAT, "utimensat": unix.SYS_UTIMENSAT,
	"vhangup": unix.SYS_VHANGUP, "write": unix.SYS_WRITE, "writev": unix.SYS_WRITEV,
}
