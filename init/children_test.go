package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"omega/init/internal/puretest"
	"omega/init/internal/seccomp"
	"omega/internal/wire"
)

// TestMain lets the test binary be a child of the table, as /proc/self/exe is
// in the guest.
func TestMain(m *testing.M) {
	if len(os.Args) == 2 && find(os.Args[1]) != nil {
		os.Exit(runChild(find(os.Args[1])))
	}
	if os.Getenv(pid1Env) != "" {
		os.Exit(actAsPID1())
	}
	os.Exit(m.Run())
}

func TestOnlySandboxdStaysRootAndEveryChildIsFiltered(t *testing.T) {
	uids := map[int]string{}
	for i := range children {
		s := &children[i]
		if _, err := s.filter(); err != nil {
			t.Errorf("%s: %v", s.name, err)
		}
		if (s.uid == 0) != (s.name == "sandboxd") {
			t.Errorf("%s has uid %d", s.name, s.uid)
		}
		if other := uids[s.uid]; other != "" {
			t.Errorf("%s and %s share uid %d", s.name, other, s.uid)
		}
		uids[s.uid] = s.name
		if s.uid != 0 && (s.caps != nil || s.refuse != nil) {
			t.Errorf("%s has capabilities or a filter that refuses instead of allowing", s.name)
		}
		if s.pids == 0 || s.memory == 0 && s.name != "fetcher" && s.name != "sandboxd" {
			t.Errorf("%s has no limits", s.name)
		}
		if s.once != (s.name == "config") {
			t.Errorf("%s: once is %v", s.name, s.once)
		}
	}
}

func TestGoCollectsGarbageBeforeTheKernelKillsAChild(t *testing.T) {
	n := &nursery{}
	for i := range children {
		s := &children[i]
		limit := int64(0)
		for _, e := range n.env(s, nil) {
			if v, ok := strings.CutPrefix(e, "GOMEMLIMIT="); ok {
				limit, _ = strconv.ParseInt(v, 10, 64)
			}
		}
		if s.memory > 0 && (limit <= s.memory/2 || limit >= s.memory) {
			t.Errorf("%s: Go's limit is %d, the kernel's %d", s.name, limit, s.memory)
		}
	}
}

func TestOnlyNetworkChildrenMayMakeSockets(t *testing.T) {
	for i := range children {
		s := &children[i]
		may := slices.ContainsFunc(s.allow, func(r seccomp.Rule) bool { return r.Call == "socket" })
		if want := s.name == "gateway" || s.name == "fetcher"; may != want && s.refuse == nil {
			t.Errorf("%s: socket is %v, want %v", s.name, may, want)
		}
		if slices.ContainsFunc(s.allow, func(r seccomp.Rule) bool { return r.Call == "listen" || r.Call == "execve" }) {
			t.Errorf("%s may listen or start programs", s.name)
		}
	}
}

func TestChannelsJoinOnlyWhoMustTalk(t *testing.T) {
	seen := map[link]bool{}
	for _, l := range links {
		if l.client != "pid1" && find(l.client) == nil || find(l.server) == nil {
			t.Errorf("channel %v leads nowhere", l)
		}
		if seen[l] || seen[link{l.server, l.client}] {
			t.Errorf("channel %v twice", l)
		}
		seen[l] = true
	}
	for i := range children {
		if !seen[link{"pid1", children[i].name}] {
			t.Errorf("%s cannot be started", children[i].name)
		}
	}
	// The keys' holder is reached by those that need it and by nobody else. The
	// gateway may ask it for invocation statements, which name what the log has; it
	// and the fetcher for what key brokers want to see, and what they release.
	for _, from := range []string{"config"} {
		if seen[link{from, "signer"}] {
			t.Errorf("%s reaches the signer", from)
		}
	}
}

// pid1Env makes the test binary start the config child as PID 1 does.
const pid1Env = "OMEGA_TEST_PID1"

// actAsPID1 starts the real config child and prints what it answers.
func actAsPID1() int {
	ch, err := newChannels()
	if err != nil {
		fmt.Println(err)
		return 1
	}
	n := &nursery{channels: ch, pids: map[int]string{}}
	cl, err := n.start(find("config"))
	if err != nil {
		fmt.Println(err)
		return 1
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	for _, text := range strings.Split(os.Getenv(pid1Env), "\n") {
		var got launchConfig
		if _, err := cl.Call(ctx, opParse, parseRequest{Config: []byte(text)}, &got); err != nil {
			fmt.Println("refused")
			continue
		}
		b, _ := json.Marshal(got)
		fmt.Println(string(b))
	}
	pid := 0
	for p := range n.pids {
		pid = p
	}
	st, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		fmt.Println(err)
		return 1
	}
	for line := range strings.Lines(string(st)) {
		if strings.HasPrefix(line, "Seccomp:") || strings.HasPrefix(line, "Uid:") || strings.HasPrefix(line, "CapEff:") {
			fmt.Print(line)
		}
	}
	cl.Close()
	return reapOne(n)
}

// reapOne waits for the child, which ends with its channel.
func reapOne(n *nursery) int {
	for range 1000 {
		name, status, err := n.reap()
		if err == nil {
			fmt.Println("reaped", name, status.ExitStatus())
			return 0
		}
		time.Sleep(10 * time.Millisecond)
	}
	return 1
}

func TestAChildRunsJailedAndEndsWithItsChannel(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("not root: the child keeps its user")
	}
	cmd := exec.Command(puretest.Binary(t))
	cmd.Env = append(os.Environ(), pid1Env+"="+`{"version":"omega/launch/v1","network":{"dhcp":true}}`+"\n"+`{"version":`)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, want := range []string{
		`{"dhcp":true,"mirror":"","dial":null,"deployments":null,"releases":null}` + "\nrefused\n",
		fmt.Sprintf("Uid:\t%d\t", uidConfig), "CapEff:\t0000000000000000", "Seccomp:\t2", "reaped config 0",
	} {
		if !strings.Contains(string(out), want) {
			t.Errorf("no %q in:\n%s", want, out)
		}
	}
}

func TestAnUnknownChildNameStartsNothing(t *testing.T) {
	if find("shell") != nil || find("") != nil {
		t.Error("a child that is not in the table was found")
	}
}

func TestChannelsFromTheEnvironmentAreTakenExactly(t *testing.T) {
	for _, env := range []string{"", "pid1", "pid1=", "pid1=x", "=3", "pid1=-1", "pid1=99999999"} {
		if _, err := openChannels(env); err == nil {
			t.Errorf("%q was taken", env)
		}
	}
	a, b, err := wire.Pair()
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	fd, err := unix.FcntlInt(a.Fd(), unix.F_DUPFD, 100)
	if err != nil {
		t.Fatal(err)
	}
	a.Close()
	conns, err := openChannels(fmt.Sprintf("pid1=%d", fd))
	if err != nil || conns["pid1"] == nil {
		t.Fatalf("channels %v, %v", conns, err)
	}
	conns["pid1"].Close()
	var st syscall.Stat_t
	if err := syscall.Fstat(fd, &st); err != syscall.EBADF {
		t.Errorf("the given descriptor is still open: %v", err)
	}
}
