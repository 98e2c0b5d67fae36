// Command runsc is gVisor with the few verbs that the guest uses. It does not
// import gVisor's embedded binaries: upstream's main carries a 47 MB prebuilt
// program for remote checkpoints, and nothing in the image may be prebuilt.
package main

import (
	"gvisor.dev/gvisor/runsc/cli"
	"gvisor.dev/gvisor/runsc/cmd"
	"gvisor.dev/gvisor/runsc/cmd/sentry/sentrycmd"
	"gvisor.dev/gvisor/runsc/cmd/util"
)

func main() {
	cli.Run(nil, commands(), nil)
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
