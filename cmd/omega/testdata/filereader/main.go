// Filereader is the agent of a test: it reads its model from its first byte to its last, first by reading and
// then by mapping, and says how it ended.
package main

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

func main() {
	paths, err := filepath.Glob("/models/*")
	if err != nil || len(paths) != 1 {
		fmt.Println("models:", paths, err)
		os.Exit(2)
	}
	f, err := os.Open(paths[0])
	if err != nil {
		fmt.Println("open:", err)
		os.Exit(2)
	}
	sum, begin := sha256.New(), time.Now()
	n, err := io.Copy(sum, f)
	if errors.Is(err, syscall.EIO) {
		fmt.Printf("I/O error after %d bytes\n", n)
		os.Exit(3)
	}
	fmt.Printf("read %d bytes, %v, sha256:%x\n", n, err, sum.Sum(nil))
	fmt.Println("it took", time.Since(begin).Milliseconds(), "ms")
	if err != nil {
		os.Exit(2)
	}
	m, err := syscall.Mmap(int(f.Fd()), 0, int(n), syscall.PROT_READ, syscall.MAP_SHARED)
	if err != nil || sha256.Sum256(m) != [32]byte(sum.Sum(nil)) {
		fmt.Println("mapped: other bytes,", err)
		os.Exit(2)
	}
}
