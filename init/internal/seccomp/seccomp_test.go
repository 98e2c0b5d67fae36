package seccomp

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"omega/init/internal/puretest"
)

// helperEnv makes the test binary the filtered child.
const helperEnv = "OMEGA_SECCOMP_HELPER"

// probes are tried inside the filter; each says what it got.
var probes = []struct {
	name string
	run  func() error
}{
	{"getpid", func() error { _, _, e := syscall.RawSyscall(unix.SYS_GETPID, 0, 0, 0); return errnoErr(e) }},
	{"open", func() error { _, err := os.Open("/dev/null"); return err }},
	{"create", func() error { _, err := os.Create(os.TempDir() + "/omega-seccomp-test"); return err }},
	{"socket", func() error { _, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0); return err }},
	{"socket6", func() error { _, err := unix.Socket(unix.AF_INET6, unix.SOCK_STREAM, 0); return known(err) }},
	{"netlink", func() error { _, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW, 0); return err }},
	{"exec", func() error { return unix.Exec("/bin/true", []string{"true"}, nil) }},
	{"fork", func() error {
		pid, _, e := syscall.RawSyscall(unix.SYS_CLONE, uintptr(unix.SIGCHLD), 0, 0)
		if pid == 0 && e == 0 {
			syscall.RawSyscall(unix.SYS_EXIT_GROUP, 0, 0, 0)
		}
		return errnoErr(e)
	}},
	{"reboot", func() error { return unix.Reboot(unix.LINUX_REBOOT_CMD_CAD_OFF) }},
	{"bpf", func() error { _, _, e := unix.Syscall(unix.SYS_BPF, 0xffff, 0, 0); return errnoErr(e) }},
	{"threads", startThreads},
	{"elsewhere", func() error { // another thread than the one that installed the filter
		errs := make(chan error)
		go func() {
			runtime.LockOSThread()
			_, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
			errs <- err
		}()
		return <-errs
	}},
}

// known passes over a family that this machine does not have.
func known(err error) error {
	if err == unix.EAFNOSUPPORT {
		return nil
	}
	return err
}

func errnoErr(e syscall.Errno) error {
	if e == 0 {
		return nil
	}
	return e
}

// startThreads needs several threads at once.
func startThreads() error {
	var wg sync.WaitGroup
	hold := make(chan struct{})
	for range 8 {
		wg.Add(1)
		go func() {
			runtime.LockOSThread()
			defer wg.Done()
			<-hold
		}()
	}
	close(hold)
	wg.Wait()
	return nil
}

func TestMain(m *testing.M) {
	var filter []unix.SockFilter
	var err error
	switch os.Getenv(helperEnv) {
	case "":
		os.Exit(m.Run())
	case "runtime":
		filter, err = Allow(Runtime)
	case "files":
		filter, err = Allow(slices.Concat(Runtime, ReadFiles))
	case "dial":
		filter, err = Allow(slices.Concat(Runtime, Dial))
	case "dangerous":
		filter, err = Refuse(Dangerous)
	}
	if err == nil {
		err = Install(filter)
	}
	if err != nil {
		fmt.Println("setup", err)
		os.Exit(1)
	}
	for _, p := range probes {
		if p.name == "exec" && os.Getenv(helperEnv) == "dangerous" {
			continue // it would succeed and end the probe
		}
		err := p.run()
		word := "ok"
		if err != nil {
			word = "error"
		}
		if e, ok := err.(*os.PathError); ok {
			err = e.Err
		}
		if err == unix.EPERM {
			word = "EPERM"
		}
		fmt.Println(p.name, word)
	}
	os.Exit(0)
}

func TestAFilteredProcessCanDoOnlyWhatIsListed(t *testing.T) {
	self := puretest.Binary(t)
	tests := []struct{ mode, want string }{
		{"runtime", "getpid ok, open EPERM, create EPERM, socket EPERM, socket6 EPERM, netlink EPERM, exec EPERM, fork EPERM, reboot EPERM, bpf EPERM, threads ok, elsewhere EPERM"},
		{"files", "getpid ok, open ok, create EPERM, socket EPERM, socket6 EPERM, netlink EPERM, exec EPERM, fork EPERM, reboot EPERM, bpf EPERM, threads ok, elsewhere EPERM"},
		{"dial", "getpid ok, open EPERM, create EPERM, socket ok, socket6 ok, netlink EPERM, exec EPERM, fork EPERM, reboot EPERM, bpf EPERM, threads ok, elsewhere ok"},
		{"dangerous", "getpid ok, open ok, create ok, socket ok, socket6 ok, netlink ok, fork ok, reboot EPERM, bpf EPERM, threads ok, elsewhere ok"},
	}
	for _, tt := range tests {
		t.Run(tt.mode, func(t *testing.T) {
			cmd := exec.Command(self)
			cmd.Env = append(os.Environ(), helperEnv+"="+tt.mode, "TMPDIR="+t.TempDir())
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			got := strings.Join(strings.Split(strings.TrimSpace(string(out)), "\n"), ", ")
			if got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
		})
	}
}

func TestEveryListUsesOnlyKnownCalls(t *testing.T) {
	lists := map[string][]Rule{
		"Runtime": Runtime, "Datagrams": Datagrams, "ReadFiles": ReadFiles, "Disk": Disk, "Memory": Memory,
		"Accept": Accept, "Dial": Dial, "WriteFiles": WriteFiles, "Pair": Pair, "Dangerous": Dangerous,
	}
	for name, rules := range lists {
		if _, err := Allow(rules); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		for _, r := range rules {
			if name != "Dangerous" && slices.Contains(Dangerous, r) {
				t.Errorf("%s allows the dangerous %s", name, r.Call)
			}
		}
	}
}

func TestAFilterThatSaysNothingIsRefused(t *testing.T) {
	if _, err := Allow(nil); err == nil {
		t.Error("a filter without rules was made")
	}
	if _, err := Refuse(nil); err == nil {
		t.Error("a filter without rules was made")
	}
	if _, err := Allow(Calls("no_such_call")); err == nil {
		t.Error("an unknown call was taken")
	}
	if err := Install(nil); err == nil {
		t.Error("an empty program was installed")
	}
}
