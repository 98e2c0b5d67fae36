// Reporter is an example agent: it reads the brief with the file tool and
// reports it in one line. It is an ordinary program on an OpenAI client and
// the MCP SDK.
package main

import (
	"os"

	"omega/examples/internal/agent"
)

const (
	system = "You are a reporter. Use the tools you are given."
	task   = "Report the brief: read it and say in one line what it asks for."
)

func main() { os.Exit(agent.Main(system, task)) }
