package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"syscall"
)

// gateVariable names the descriptor of the gate: a pipe whose other end the
// platform holds. A sandbox of the warm pool waits there, before anything of the
// agent has run.
const gateVariable = "OMEGA_GATE_FD"

// waitAtGate returns once the platform has opened the gate, with one byte. If the
// other end closes before, nobody wants this sandbox; if it closes later, nobody
// is left who would end it, and it ends itself.
func waitAtGate() error {
	fd, err := strconv.Atoi(os.Getenv(gateVariable))
	if err != nil || fd < 3 {
		return fmt.Errorf("%s is %q", gateVariable, os.Getenv(gateVariable))
	}
	if err := os.Unsetenv(gateVariable); err != nil {
		return err
	}
	syscall.CloseOnExec(fd)
	gate := os.NewFile(uintptr(fd), "gate")
	var b [1]byte
	if _, err := io.ReadFull(gate, b[:]); err != nil {
		return errors.New("it was never opened")
	}
	go func() {
		if n, _ := gate.Read(b[:]); n == 0 {
			os.Exit(orphaned)
		}
	}()
	return nil
}
