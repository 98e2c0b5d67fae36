// Planner is an example agent: it prepares the notes of a planning meeting
// from what it finds in the file tool, and writes them with the notes tool.
// It is an ordinary program on an OpenAI client and the MCP SDK.
package main

import (
	"os"

	"omega/examples/internal/agent"
)

const (
	system = "You are a planner. Use the tools you are given. If a tool call is refused, read the reason and find another way."
	task   = "Plan the next quarter: read the brief, take what you need about staff costs, and append a note with the plan."
)

func main() { os.Exit(agent.Main(system, task)) }
