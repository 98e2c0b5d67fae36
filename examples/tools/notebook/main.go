// Notebook is an example of a tool that runs on the platform: an MCP server that speaks over its standard input
// and output, built on the official SDK. Omega starts one in a sandbox of its own for each agent that uses it,
// so what one agent keeps no other one reads.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"omega/examples/internal/provider"
)

// keepParams are the arguments of keep.
type keepParams struct {
	Text string `json:"text" jsonschema:"one line"`
}

// notebook is one agent's lines.
type notebook struct {
	mu    sync.Mutex
	lines []string
}

func main() {
	if err := run(context.Background(), os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

// run serves until its input ends; -descriptors prints what agents pin of the tools.
func run(ctx context.Context, args []string) error {
	server := newServer()
	if len(args) == 1 && args[0] == "-descriptors" {
		list, err := provider.Descriptors(ctx, server)
		if err != nil {
			return err
		}
		return json.NewEncoder(os.Stdout).Encode(list)
	}
	return server.Run(ctx, &mcp.StdioTransport{})
}

func newServer() *mcp.Server {
	server, n := mcp.NewServer(&mcp.Implementation{Name: "notebook", Version: "1.0.0"}, nil), new(notebook)
	mcp.AddTool(server, &mcp.Tool{Name: "keep", Description: "Keep one line, and say how many there are."}, n.keep)
	mcp.AddTool(server, &mcp.Tool{Name: "all", Description: "All lines that were kept."}, n.all)
	return server
}

func (n *notebook) keep(_ context.Context, _ *mcp.CallToolRequest, p keepParams) (*mcp.CallToolResult, any, error) {
	if p.Text == "" || strings.Contains(p.Text, "\n") {
		return nil, nil, errors.New("keep takes one line")
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.lines = append(n.lines, p.Text)
	return say(fmt.Sprintf("line %d kept", len(n.lines)))
}

func (n *notebook) all(context.Context, *mcp.CallToolRequest, struct{}) (*mcp.CallToolResult, any, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return say(strings.Join(n.lines, "\n"))
}

func say(text string) (*mcp.CallToolResult, any, error) {
	return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: text}}}, nil, nil
}
