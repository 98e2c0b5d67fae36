package cell

import (
	"archive/tar"
	"bytes"
	"context"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"omega/agentloader/flatten"
	"omega/agentloader/sandbox"
	"omega/init/internal/puretest"
	"omega/internal/skip"
)

// stageWord makes the test binary the stage; as the shim of an image it is the probe.
const stageWord = "stage"

func TestMain(m *testing.M) {
	switch {
	case os.Args[0] == "/.omega/shim":
		probe()
		os.Exit(7)
	case len(os.Args) == 2 && os.Args[1] == stageWord:
		_, _ = io.WriteString(os.Stderr, Enter(os.Stdin).Error())
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// imageOf is an image with the folders that every image has.
func imageOf(t *testing.T, shim []byte) string {
	t.Helper()
	var layer bytes.Buffer
	w := tar.NewWriter(&layer)
	for _, dir := range []string{"models/", "adapters/", "data/", "tmp/", "proc/", "dev/", "work/"} {
		if err := w.WriteHeader(&tar.Header{Name: dir, Typeflag: tar.TypeDir, Mode: 0o755}); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	f, err := flatten.New(t.TempDir(), flatten.Limits{Bytes: 1 << 30, Entries: 100})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.AddLayer(&layer); err != nil {
		t.Fatal(err)
	}
	out, err := os.Create(filepath.Join(t.TempDir(), "image"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	if err := f.Finish(out, flatten.File{Path: ".omega/shim", Data: shim, Mode: 0o755}); err != nil {
		t.Fatal(err)
	}
	return out.Name()
}

// socketPair is one link; the near end closes with the test.
func socketPair(t *testing.T) (far *os.File) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	near, far := os.NewFile(uintptr(fds[0]), "near"), os.NewFile(uintptr(fds[1]), "far")
	t.Cleanup(func() { _ = near.Close(); _ = far.Close() })
	return far
}

func TestAProgramInANativeSandboxReachesNothingBeside(t *testing.T) {
	if os.Geteuid() != 0 {
		skip.Missing(t, "root is needed for namespaces")
	}
	if _, err := os.Stat("/dev/loop-control"); err != nil {
		skip.Missing(t, "no loop devices: %v", err)
	}
	binary := puretest.Binary(t)
	shim, err := os.ReadFile(binary)
	if err != nil {
		t.Fatal(err)
	}
	model := filepath.Join(t.TempDir(), "model")
	if err := os.WriteFile(model, []byte("weights"), 0o444); err != nil {
		t.Fatal(err)
	}
	runner, err := sandbox.New(sandbox.Config{Dir: t.TempDir(), Stage: []string{binary, stageWord}, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	box, err := runner.Start(ctx, sandbox.Spec{
		Instance: "engine", Image: imageOf(t, shim), Command: []string{"anything"}, Env: []string{"OWN=1"}, Dir: "/work",
		Link: socketPair(t), Inbound: socketPair(t), Port: ownPort,
		Files: []sandbox.File{{Path: "/models/small", Source: model}}, Native: &sandbox.Native{UID: 123_456},
	})
	if err != nil {
		t.Fatal(err)
	}
	exit, err := box.Wait(ctx)
	if err != nil || exit.Code != 7 {
		t.Fatalf("exit code %d, %v:\n%s", exit.Code, err, strings.Join(exit.LastLines, "\n"))
	}
	want := strings.Split(strings.TrimSpace(`
its own: weights, engine, in /work, environment "OWN=1"
user: Uid 123456 123456 123456 123456, Gid 123456 123456 123456 123456, Groups , CapEff 0000000000000000, CapBnd 0000000000000000, NoNewPrivs 1, Seccomp 2
processes: [1], I am 1
descriptors: [0 /dev/null 1 pipe 2 pipe 3 socket 4 pipe 6 socket]
devices: [full null random urandom zero]
interfaces: [lo]
write the root: EROFS
write the model: EROFS
write beside the model: EACCES
write a device's folder: EACCES
write scratch: done
run from scratch: EACCES
serve on its port: done
serve on another: EACCES
dial the shim: ECONNREFUSED
dial another port: EACCES
dial the world: EACCES
Unix sockets: EPERM
netlink: EPERM
TCP by another name: EPERM
packets: EPERM
vsock: EPERM
mount: EPERM
unshare: EPERM
clone a user namespace: EPERM
clone3: ENOSYS
setns: EPERM
ptrace: EPERM
read another's memory: EPERM
bpf: EPERM
io_uring: EPERM
keys: EPERM
a device of its own: EPERM
userfaultfd: EPERM
performance counters: EPERM
another root: EPERM
another user: EPERM
type into a terminal: EPERM`), "\n")
	if diff := cmp.Diff(want, exit.LastLines); diff != "" {
		t.Errorf("what it found (-want +got):\n%s", diff)
	}
}
