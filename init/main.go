// Command init is everything of ours that runs in the guest: PID 1 and, by the
// name in its first argument, each of PID 1's children. PID 1 mounts, spawns,
// joins and powers off; it parses nothing foreign. What each child holds and
// may do stands in the table in children.go.
package main

import (
	"fmt"
	"os"

	"omega/init/internal/cell"
)

func main() {
	switch {
	case len(os.Args) == 2 && find(os.Args[1]) != nil:
		os.Exit(runChild(find(os.Args[1])))
	case len(os.Args) == 2 && os.Args[1] == devArgument:
		os.Exit(runDev())
	case len(os.Args) == 2 && os.Args[1] == cellArgument:
		os.Exit(runCell(func() error { return cell.Enter(os.Stdin) }))
	case os.Getpid() == 1:
		pid1()
	default:
		fmt.Fprintln(os.Stderr, "init: this is the guest's PID 1; it does nothing elsewhere")
		os.Exit(1)
	}
}
