package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"

	"golang.org/x/term"

	"omega/images"
	"omega/internal/cache"
)

// hostPackages are the Debian packages that building, booting and testing
// need, beside git, make and Go.
var hostPackages = []string{
	// the kernel
	"bc", "binutils", "bison", "flex", "gcc", "kmod", "libc6-dev", "libelf-dev", "libssl-dev", "make", "patch", "perl",
	"python3", "rsync", "xz-utils", "zstd",
	// archives and downloads
	"ca-certificates", "cpio", "tar",
	// the virtual machine
	"qemu-system-x86",
	// what two builds are varied with
	"faketime", "locales", "util-linux",
}

// testPackages are what the tests hold omega's own writers against.
var testPackages = []string{"cryptsetup-bin", "dosfstools", "erofs-utils", "gdisk", "mtools", "ovmf", "qemu-utils", "skopeo", "swtpm"}

// errNoDebian reports a machine whose packages omega does not know to install.
var errNoDebian = errors.New("not a Debian system")

func runTools(ctx context.Context, e *env, args []string) error {
	fs := e.flags("tools")
	yes := fs.Bool("yes", os.Getenv("YES") == "1", "install without asking; so does YES=1")
	tests := fs.Bool("tests", false, "also what the tests compare with")
	if err := fs.Parse(args); err != nil {
		return err
	}
	wanted := hostPackages
	if *tests {
		wanted = slices.Concat(hostPackages, testPackages)
		if _, err := exec.LookPath("npm"); err != nil { // it brings the gateway's foreign suites; Node's own packages have it too
			wanted = append(wanted, "npm")
		}
	}
	if err := ensureTools(ctx, e, wanted, *yes); err != nil || !*tests {
		return err
	}
	c, err := cache.Open("")
	if err != nil {
		return err
	}
	return images.FetchForeign(ctx, c, e.imageSteps)
}

// ensureTools installs the packages that are missing. It asks first where
// there is somebody to ask and yes was not given.
func ensureTools(ctx context.Context, e *env, wanted []string, yes bool) error {
	missing, err := missingPackages(ctx, wanted)
	if errors.Is(err, errNoDebian) {
		e.sayf("not a Debian system: please see to it that the counterparts of these packages are there:\n  %s",
			strings.Join(wanted, " "))
		return nil
	}
	if err != nil || len(missing) == 0 {
		return err
	}
	e.sayf("these Debian packages are needed and not installed:\n  %s", strings.Join(missing, " "))
	if !yes && !e.confirm("Install them now?") {
		return fmt.Errorf("packages not installed: apt-get install %s", strings.Join(missing, " "))
	}
	return installPackages(ctx, e, missing)
}

// missingPackages asks dpkg which of the wanted packages are not installed.
func missingPackages(ctx context.Context, wanted []string) ([]string, error) {
	if _, err := exec.LookPath("dpkg-query"); err != nil {
		return nil, errNoDebian
	}
	// A package that dpkg has never heard of makes it fail, and that is an answer too.
	cmd := exec.CommandContext(ctx, "dpkg-query", append([]string{"-W", "-f", "${Package} ${db:Status-Status}\n"}, wanted...)...)
	out, err := cmd.Output()
	var exited *exec.ExitError
	if err != nil && !errors.As(err, &exited) {
		return nil, fmt.Errorf("asking dpkg: %w", err)
	}
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	return missingFrom(wanted, out), nil
}

// missingFrom reads what dpkg-query said.
func missingFrom(wanted []string, status []byte) []string {
	installed := map[string]bool{}
	for line := range bytes.Lines(status) {
		if name, ok := strings.CutSuffix(strings.TrimSpace(string(line)), " installed"); ok {
			installed[name] = true
		}
	}
	return slices.DeleteFunc(slices.Clone(wanted), func(p string) bool { return installed[p] })
}

// installPackages runs apt-get, as root.
func installPackages(ctx context.Context, e *env, packages []string) error {
	var root []string
	if os.Geteuid() != 0 {
		if _, err := exec.LookPath("sudo"); err != nil {
			return fmt.Errorf("neither root nor sudo: as root, apt-get install %s", strings.Join(packages, " "))
		}
		root = []string{"sudo"}
	}
	step := e.progress("installing packages")
	defer step.Done()
	commands := [][]string{
		{"apt-get", "-q", "update"},
		// Another apt may be at work; wait for it rather than fail.
		append([]string{"apt-get", "-q", "-y", "-o", "DPkg::Lock::Timeout=300", "--no-install-recommends", "install"}, packages...),
	}
	for i, words := range commands {
		step.Set(int64(i), int64(len(commands)))
		words = slices.Concat(root, []string{"env", "DEBIAN_FRONTEND=noninteractive"}, words)
		cmd := exec.CommandContext(ctx, words[0], words[1:]...)
		cmd.Stdin = os.Stdin // sudo may ask for a password
		cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w\n%s", strings.Join(words, " "), err, out)
		}
	}
	return nil
}

// confirm asks a question on a terminal. Without one the answer is yes: the
// caller could not be asked, and said so by running without a terminal.
func (e *env) confirm(question string) bool {
	in, ok := e.Stdin.(*os.File)
	if !ok || !term.IsTerminal(int(in.Fd())) || !e.terminal() {
		return true
	}
	fmt.Fprintf(e.Stderr, "%s [Y/n] ", question)
	line, err := bufio.NewReader(io.LimitReader(in, 1024)).ReadString('\n')
	if err != nil {
		return false
	}
	answer := strings.ToLower(strings.TrimSpace(line))
	return answer == "" || answer == "y" || answer == "yes"
}
