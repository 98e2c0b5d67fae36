// Command omega is the host side of Omega: it builds the measured guest image,
// boots it, verifies what a platform claims, and reads its provenance log. It
// runs on the operator's or the relying party's machine and shares no code with
// the guest but the pure packages.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	e := &env{Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr}
	code := e.main(ctx, os.Args[1:])
	stop()
	os.Exit(code)
}
