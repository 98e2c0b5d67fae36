// Command runsc is gVisor with the few verbs that the guest uses. It does not
// import gVisor's embedded binaries: upstream's main carries a 47 MB prebuilt
// program for remote checkpoints, and nothing in the image may be prebuilt.
package main

import (
	"os"
	"runtime/debug"
	"time"

	"gvisor.dev/gvisor/runsc/cli"
	"gvisor.dev/gvisor/runsc/cmd"
	"gvisor.dev/gvisor/runsc/cmd/sentry/sentrycmd"
	"gvisor.dev/gvisor/runsc/cmd/util"
)

func main() {
	if os.Args[0] == sentry {
		go slim()
	}
	cli.Run(nil, commands(), nil)
}

// sentry is the name that runsc gives itself as a sandbox's kernel (gVisor,
// runsc/sandbox/sandbox.go).
const sentry = "runsc-sandbox"

// slim gives back what booting took, and keeps the heap small: there is one
// sentry for each agent, most of them idle.
func slim() {
	debug.SetGCPercent(50)
	for _, wait := range []time.Duration{time.Second, 5 * time.Second} {
		time.Sleep(wait)
		debug.FreeOSMemory()
	}
}

// commands is every verb of this binary. boot, umount and gofer are what runsc
// starts of itself; the others are what the supervisor calls.
func commands() map[util.SubCommand]string {
	const internal = "internal use only"
	return map[util.SubCommand]string{
		new(cmd.Create): "",
		new(cmd.Delete): "",
		new(cmd.Kill):   "",
		new(cmd.List):   "",
		new(cmd.Run):    "",
		new(cmd.Start):  "",
		new(cmd.State):  "",
		new(cmd.Wait):   "",

		new(sentrycmd.Boot):   internal,
		new(sentrycmd.Umount): internal,
		new(cmd.Gofer):        internal,
	}
}
