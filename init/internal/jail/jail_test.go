package jail

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"omega/init/internal/puretest"
	"omega/init/internal/seccomp"
)

// helperEnv makes the test binary the jailed child; its value is a user id.
const helperEnv = "OMEGA_JAIL_HELPER"

func TestMain(m *testing.M) {
	uid := os.Getenv(helperEnv)
	if uid == "" {
		os.Exit(m.Run())
	}
	if err := helper(uid); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	os.Exit(0)
}

// helper enters a jail and shows what the kernel says of this process, seen
// from a thread that started before.
func helper(uid string) error {
	id, err := strconv.Atoi(uid)
	if err != nil {
		return err
	}
	status, err := os.Open("/proc/thread-self/status")
	if err != nil {
		return err
	}
	status.Close()
	filter, err := seccomp.Refuse(seccomp.Dangerous)
	if err != nil {
		return err
	}
	before := make(chan func(), 1)
	go func() { // a thread of its own from before the jail
		runtime.LockOSThread()
		for f := range before {
			f()
		}
	}()
	j := Jail{UID: id, Caps: []uintptr{unix.CAP_CHOWN, unix.CAP_SYS_ADMIN}, Filter: filter}
	if err := j.Enter(); err != nil {
		return err
	}
	done := make(chan error)
	before <- func() { done <- show() }
	return <-done
}

// show prints this thread's status lines that the jail decides.
func show() error {
	var header = unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return err
	}
	nnp, err := unix.PrctlRetInt(unix.PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0)
	if err != nil {
		return err
	}
	dump, err := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0)
	if err != nil {
		return err
	}
	mode, err := unix.PrctlRetInt(unix.PR_GET_SECCOMP, 0, 0, 0, 0)
	if err != nil {
		return err
	}
	bounding := 0
	for c := range uintptr(lastCap) {
		if in, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, c, 0, 0, 0); err == nil && in == 1 {
			bounding++
		}
	}
	groups, err := unix.Getgroups()
	if err != nil {
		return err
	}
	var core unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_CORE, &core); err != nil {
		return err
	}
	fmt.Printf("uid %d gid %d groups %d caps %x/%x bounding %d nnp %d dumpable %d seccomp %d core %d\n",
		unix.Getuid(), unix.Getegid(), len(groups), data[0].Effective, data[1].Permitted, bounding, nnp, dump, mode, core.Max)
	return nil
}

func TestEnterLeavesOnlyWhatIsGranted(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("not root: an ordinary user has nothing to give up")
	}
	self := puretest.Binary(t)
	chownAndAdmin := fmt.Sprintf("%x", 1<<unix.CAP_CHOWN|1<<unix.CAP_SYS_ADMIN)
	tests := []struct{ name, uid, want string }{
		{"an ordinary child", "4242",
			"uid 4242 gid 4242 groups 0 caps 0/0 bounding 2 nnp 1 dumpable 0 seccomp 2 core 0"},
		{"a child that stays root", "0",
			"uid 0 gid 0 groups 0 caps " + chownAndAdmin + "/0 bounding 2 nnp 1 dumpable 0 seccomp 2 core 0"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cmd := exec.Command(self)
			cmd.Env = append(os.Environ(), helperEnv+"="+tt.uid)
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			if got := strings.TrimSpace(string(out)); got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
		})
	}
}
