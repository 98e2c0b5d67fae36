// Hostile is an example agent that does what no agent should: it looks for
// other agents, for the network and for the machine, and takes all that it can
// get. Its instance's name says what it tries. It ends with 0 when everything
// it tried was refused, and says what was not. The tests of the guest run it;
// so can anyone who doubts the sandbox.
package main

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"time"
)

// An attack is one thing to try. The error says what it got that it must not
// have.
type attack struct {
	name string
	try  func() error
}

// tries are the attacks by what an instance's name begins with.
var tries = map[string][]attack{
	"peek": {
		{"files of the platform", readPlatform},
		{"other processes", otherProcesses},
		{"memory of process 1", memoryOfInit},
		{"descriptors that lead out", strayDescriptors},
		{"devices", devices},
		{"the environment of others", environment},
	},
	"escape": {
		{"core_pattern, sysrq and other settings of the kernel", kernelSettings},
		{"mount, pivot_root, chroot, clock", privilegedCalls},
		{"kernel modules, kexec, BPF, io_uring", kernelDoors},
		{"making devices", makeDevices},
	},
	"cve": published,
	"net": {
		{"the Internet, the host and the metadata service", dialOut},
		{"other families of sockets", otherSockets},
		{"abstract sockets of others", abstractSockets},
		{"the gateway's other doors", gatewayDoors},
	},
	"fork":  {{"processes without end", forkBomb}},
	"files": {{"descriptors without end", descriptorBomb}, {"a full disk", diskBomb}},
	"flood": {{"requests without end", floodGateway}},
	"kill":  {{"killing the sentry", killAll}},
	"eat":   {{"memory without end", memoryBomb}},
	"crash": {{"ending at once", func() error { return errors.New("it ended, as it meant to") }}},
	"work":  {{"a permitted call, again and again", work}},
	"stay":  {{"a permitted call, until it is stopped", stay}},
}

// child is what this program is when an attack starts it.
func child(as string) {
	switch as {
	case "sleep": // one of many that forkBomb starts
		time.Sleep(time.Minute)
	case "namespaced":
		if err := asRootOfNamespaces(); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
	}
}

func main() {
	if len(os.Args) > 1 {
		child(os.Args[1])
		return
	}
	name, err := os.Hostname()
	if err != nil {
		fmt.Println("error:", err)
		os.Exit(2)
	}
	kind, _, _ := strings.Cut(name, "-")
	list, ok := tries[kind]
	if !ok {
		fmt.Printf("error: no attack is named %q\n", kind)
		os.Exit(2)
	}
	code := 0
	for _, a := range list {
		fmt.Printf("trying: %s\n", a.name)
		if err := a.try(); err != nil {
			fmt.Printf("GOT THROUGH: %s: %v\n", a.name, err)
			code = 1
			continue
		}
		fmt.Printf("refused: %s\n", a.name)
	}
	os.Exit(code)
}
