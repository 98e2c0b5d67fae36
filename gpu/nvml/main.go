// Command nvml answers the guest's questions about NVIDIA GPUs: it speaks the
// protocol of gpu/probe on its standard input and output, and NVIDIA's management
// library (libnvidia-ml.so.1) behind it.
//
// It is the one dynamically linked program of the GPU image: go-nvml cannot be
// linked statically, and calling a function that the library lacks ends the
// process. So each call looks its symbol up first, the process has no system
// calls but those that the library needs, and whoever started it takes its end,
// however it came, as "not ready". It appraises nothing.
package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"omega/gpu/probe"
)

// The library may hang in a driver that does. Who asked waits a little longer
// than this; then nobody is left to be wrong.
const (
	callTime  = 30 * time.Second // of one question
	startTime = 60 * time.Second // GSP firmware boots in seconds
)

func main() {
	if err := run(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "nvml:", err)
		os.Exit(1)
	}
}

// run answers until the other end closes the pipe.
func run(in io.Reader, out io.Writer) error {
	if err := confine(); err != nil {
		return err
	}
	alarm := time.AfterFunc(startTime, tooLate)
	lib, err := open()
	alarm.Stop()
	if err != nil {
		return err
	}
	defer lib.close()
	for {
		q, err := probe.ReadRequest(in)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		alarm := time.AfterFunc(callTime, tooLate)
		a, err := lib.answer(q)
		alarm.Stop()
		if err != nil {
			a = probe.Answer{Error: err.Error()}
		}
		if err := probe.Write(out, a); err != nil {
			return err
		}
	}
}

// tooLate ends the process: a thread inside of the library cannot be stopped.
func tooLate() {
	fmt.Fprintln(os.Stderr, "nvml: the library does not answer")
	os.Exit(3)
}
