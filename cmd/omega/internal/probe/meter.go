package main

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// platform is where the benchmark puts the real PID 1.
	platform = "/init.platform"
	// procDir is the watcher's own view of the processes.
	procDir = "/meter"
	// pause is the time between two readings.
	pause = 2 * time.Second
)

// meter starts the watcher, then becomes the platform. It returns only when it
// could not.
func meter() error {
	if err := os.MkdirAll(procDir, 0o755); err != nil {
		return err
	}
	if err := unix.Mount("proc", procDir, "proc", unix.MS_NOSUID|unix.MS_NOEXEC|unix.MS_NODEV, ""); err != nil {
		return fmt.Errorf("mounting proc: %w", err)
	}
	// The platform leaves this root, and the watcher behind in it: it sees the
	// processes through the folder that it works in.
	attr := &syscall.ProcAttr{Dir: procDir, Files: []uintptr{0, 1, 2}}
	if _, err := syscall.ForkExec("/init", []string{"probe", "watch"}, attr); err != nil {
		return fmt.Errorf("watcher: %w", err)
	}
	return fmt.Errorf("becoming the platform: %w", syscall.Exec(platform, []string{"/init"}, nil))
}

// watch prints again and again how much memory all processes but itself and all
// files in memory take, in KiB.
func watch() {
	for ; ; time.Sleep(pause) {
		anonymous, mapped := processes()
		files := memoryInfo("Shmem") - ownSize()
		fmt.Printf("probe: memory anonymous %d mapped %d files %d\n", anonymous, mapped, files)
	}
}

// processes sums resident private memory, and resident pages of files that lie
// on no tmpfs; those on one are counted as files. What several processes map
// counts several times: the kernel is built without proportional shares.
func processes() (anonymous, mapped int64) {
	dirs, _ := filepath.Glob("[0-9]*") // the pattern is well formed
	for _, dir := range dirs {
		if dir == strconv.Itoa(os.Getpid()) {
			continue
		}
		b, err := os.ReadFile(filepath.Join(dir, "status"))
		if err != nil {
			continue // gone
		}
		anonymous += field(b, "RssAnon")
		mapped += field(b, "RssFile")
	}
	return anonymous, mapped
}

// memoryInfo is a line of meminfo.
func memoryInfo(name string) int64 {
	b, err := os.ReadFile("meminfo")
	if err != nil {
		return 0
	}
	return field(b, name)
}

// ownSize is what this program takes as a file in memory.
func ownSize() int64 {
	info, err := os.Stat("self/exe")
	if err != nil {
		return 0
	}
	return info.Size() >> 10
}

// field is the KiB that a line "name: N kB" tells.
func field(b []byte, name string) int64 {
	for s := bufio.NewScanner(bytes.NewReader(b)); s.Scan(); {
		rest, ok := strings.CutPrefix(s.Text(), name+":")
		if words := strings.Fields(rest); ok && len(words) > 0 {
			n, _ := strconv.ParseInt(words[0], 10, 64)
			return n
		}
	}
	return 0
}
