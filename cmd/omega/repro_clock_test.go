package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// atShiftedTime runs a program under a shifted clock.
func atShiftedTime(t *testing.T, by time.Duration, words ...string) (string, error) {
	t.Helper()
	out, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	cmd := exec.Command(words[0], words[1:]...)
	cmd.Env, cmd.SysProcAttr = append(os.Environ(), "LC_ALL=C", "TZ=UTC"), &syscall.SysProcAttr{Setpgid: true}
	_, wait, err := (&shiftedClock{by: by}).start(cmd, []*os.File{nil, out, out})
	if err == nil {
		err = wait()
	}
	b, readErr := os.ReadFile(out.Name())
	if readErr != nil {
		t.Fatal(readErr)
	}
	return string(b), err
}

func TestEveryProgramSeesTheShiftedClock(t *testing.T) {
	const by = 400 * 24 * time.Hour
	if !canShiftClock(t.Context()) {
		t.Skip("this machine lets nobody trace")
	}
	near := func(text string) bool {
		n, err := strconv.ParseInt(strings.TrimSpace(text), 10, 64)
		diff := time.Unix(n, 0).Sub(time.Now().Add(by))
		return err == nil && diff > -time.Minute && diff < time.Minute
	}
	dir := t.TempDir()
	writeTestFile(t, filepath.Join(dir, "main.go"), []byte("package main\nimport (\"fmt\"; \"runtime\"; \"time\")\nfunc main() { time.Sleep(time.Millisecond); c := make(chan int64); go func() { runtime.LockOSThread(); c <- time.Now().Unix() }(); fmt.Println(<-c) }\n"))
	program := filepath.Join(dir, "now")
	build := exec.Command("go", "build", "-o", program, filepath.Join(dir, "main.go"))
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for name, words := range map[string][]string{
		"a program of the C library": {"date", "+%s"},
		"a static one in Go":         {program},
		"one that a shell starts":    {"sh", "-c", "true; (" + program + ")"},
		"one behind pipes and forks": {"sh", "-c", "for i in 1 2 3; do true & done; wait; date +%s | cat"},
	} {
		t.Run(name, func(t *testing.T) {
			if out, err := atShiftedTime(t, by, words...); err != nil || !near(out) {
				t.Errorf("%q, %v", out, err)
			}
		})
	}
	if now := time.Since(time.Unix(time.Now().Unix(), 0)); now > time.Minute {
		t.Error("our own clock is shifted")
	}
}

func TestAProgramUnderAShiftedClockEndsAsItDoes(t *testing.T) {
	if !canShiftClock(t.Context()) {
		t.Skip("this machine lets nobody trace")
	}
	if _, err := atShiftedTime(t, time.Hour, "sh", "-c", "exit 7"); err == nil || err.Error() != "exit status 7" {
		t.Errorf("error %v", err)
	}
	if _, err := atShiftedTime(t, time.Hour, "sh", "-c", "kill -TERM $$"); err == nil || !strings.Contains(err.Error(), "terminated") {
		t.Errorf("error %v", err)
	}
	if _, err := atShiftedTime(t, time.Hour, "/nowhere/at/all"); err == nil {
		t.Error("a program that is not there ran")
	}
	if out, err := atShiftedTime(t, time.Hour, "sh", "-c", "trap 'echo caught' USR1; kill -USR1 $$; echo after"); err != nil || !bytes.Contains([]byte(out), []byte("caught\nafter")) {
		t.Errorf("%q, %v", out, err)
	}
}
