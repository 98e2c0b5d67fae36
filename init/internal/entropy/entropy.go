// Package entropy makes sure, before any key is made, that the kernel's random
// generator holds randomness that the host did not choose: the CPU must have
// RDRAND, which SEV-SNP guests execute without the hypervisor, and the kernel
// must say that its generator is seeded.
package entropy

import (
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/cpu"
	"golang.org/x/sys/unix"
)

// ErrNoRDRAND reports a CPU without the RDRAND instruction.
var ErrNoRDRAND = errors.New("the CPU has no RDRAND")

// ErrUnseeded reports a kernel generator that was not seeded in time.
var ErrUnseeded = errors.New("the random generator is not seeded")

// pause is the time between two looks at the generator.
const pause = 20 * time.Millisecond

// Require returns nil once random numbers are fit for keys, or an error after
// patience has run out. CPUID leaf 1, ECX bit 30 tells of RDRAND.
func Require(patience time.Duration) error {
	if !cpu.X86.HasRDRAND {
		return ErrNoRDRAND
	}
	return seeded(unix.Getrandom, patience)
}

func seeded(getrandom func([]byte, int) (int, error), patience time.Duration) error {
	var b [32]byte
	for deadline := time.Now().Add(patience); ; time.Sleep(pause) {
		n, err := getrandom(b[:], unix.GRND_NONBLOCK)
		switch {
		case err == nil && n == len(b):
			return nil
		case err != nil && err != unix.EAGAIN && err != unix.EINTR:
			return fmt.Errorf("random generator: %w", err)
		case time.Now().After(deadline):
			return ErrUnseeded
		}
	}
}
