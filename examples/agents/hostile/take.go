package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
	"time"

	"omega/examples/internal/agent"
)

// forkBomb must meet the limit of processes long before a thousand.
func forkBomb() error {
	var started []*exec.Cmd
	defer func() {
		for _, c := range started {
			_ = c.Process.Kill()
		}
	}()
	for len(started) < 1000 {
		c := exec.Command("/proc/self/exe", "sleep")
		if err := c.Start(); err != nil {
			return nil
		}
		started = append(started, c)
	}
	return errors.New("a thousand processes")
}

// descriptorBomb must meet the limit of open files. It makes one call for each:
// an emulated machine takes a millisecond for every one.
func descriptorBomb() error {
	var taken []int
	defer func() {
		for _, fd := range taken {
			_ = syscall.Close(fd)
		}
	}()
	for range 1 << 20 {
		fd, err := syscall.Dup(0)
		if err != nil {
			return nil
		}
		taken = append(taken, fd)
	}
	return errors.New("a million descriptors")
}

// diskBomb must meet the bound of the scratch folder.
func diskBomb() error {
	f, err := os.Create("/tmp/bomb")
	if err != nil {
		return nil
	}
	defer os.Remove("/tmp/bomb")
	defer f.Close()
	block := make([]byte, 1<<20)
	for n := range 4096 {
		if _, err := f.Write(block); err != nil {
			return nil
		}
		if n == 4095 {
			return errors.New("four GiB of files")
		}
	}
	return nil
}

// memoryBomb does not return: the kernel ends this agent and no other.
func memoryBomb() error {
	zero, err := os.Open("/dev/zero")
	if err != nil {
		return err
	}
	defer zero.Close()
	var kept [][]byte
	for range 4096 {
		b := make([]byte, 1<<20)
		if _, err := io.ReadFull(zero, b); err != nil { // one call for 256 pages
			return err
		}
		kept = append(kept, b)
	}
	return fmt.Errorf("%d MiB", len(kept))
}

// stay is one of many that are there at once, and are all answered.
func stay() error {
	tools, err := agent.Connect(context.Background(), os.Getenv("MCP_SERVERS"))
	if err != nil {
		return err
	}
	for {
		text, err := tools.Call(context.Background(), "files__read_file", json.RawMessage(`{"path":"/public/brief.txt"}`))
		if err != nil || text == "" {
			return fmt.Errorf("%q, %w", text, err)
		}
		time.Sleep(5 * time.Second)
	}
}

// work is what the others must not disturb: an agent that does its work.
func work() error {
	ctx, cancel := context.WithTimeout(context.Background(), 4*time.Minute)
	defer cancel()
	tools, err := agent.Connect(ctx, os.Getenv("MCP_SERVERS"))
	if err != nil {
		return err
	}
	for n := range 20 {
		begin := time.Now()
		text, err := tools.Call(ctx, "files__read_file", json.RawMessage(`{"path":"/public/brief.txt"}`))
		if err != nil || text == "" {
			return fmt.Errorf("call %d: %q, %w", n+1, text, err)
		}
		if took := time.Since(begin); took > 30*time.Second {
			return fmt.Errorf("call %d took %s", n+1, took)
		}
		time.Sleep(300 * time.Millisecond)
	}
	fmt.Println("twenty calls answered")
	return nil
}
