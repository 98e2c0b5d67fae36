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

// What comes through the gate (sandbox.Release and sandbox.Ahead write it).
const (
	gateOpen  = 'o' // the sandbox is an agent's instance; its link leads to the gateway
	gateAhead = 'a' // the agent may be started, and nobody answers it yet
)

// waitAtGate returns once the platform has opened the gate. assigned is closed
// when the sandbox has become an instance. If the other end closes before the gate
// opens, nobody wants this sandbox; if it closes later, nobody is left who would
// end it, and it ends itself.
func waitAtGate() (assigned <-chan struct{}, err error) {
	fd, err := strconv.Atoi(os.Getenv(gateVariable))
	if err != nil || fd < 3 {
		return nil, fmt.Errorf("%s is %q", gateVariable, os.Getenv(gateVariable))
	}
	if err := os.Unsetenv(gateVariable); err != nil {
		return nil, err
	}
	syscall.CloseOnExec(fd)
	return watchGate(os.NewFile(uintptr(fd), "gate"), func() { os.Exit(orphaned) })
}

func watchGate(gate io.Reader, gone func()) (<-chan struct{}, error) {
	var b [1]byte
	if _, err := io.ReadFull(gate, b[:]); err != nil {
		return nil, errors.New("it was never opened")
	}
	assigned := make(chan struct{})
	open := b[0] == gateOpen
	if open {
		close(assigned)
	}
	go func() {
		for {
			switch _, err := io.ReadFull(gate, b[:]); {
			case err != nil:
				gone()
				return
			case b[0] == gateOpen && !open:
				open = true
				close(assigned)
			}
		}
	}()
	return assigned, nil
}
