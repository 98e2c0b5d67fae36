// Command idle is an agent that waits: what is measured with it is its sandbox.
package main

import (
	"os"
	"time"
)

func main() {
	_, _ = os.Stdout.WriteString("up\n")
	time.Sleep(time.Hour)
}
