// Notes is an example MCP tool provider: one tool that appends a note to a
// notebook in memory. What was written shows in the record of calls.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"omega/examples/internal/provider"
)

// noteParams are the arguments of append_note.
type noteParams struct {
	Title string `json:"title" jsonschema:"one line"`
	Text  string `json:"text" jsonschema:"the note"`
}

// notebook keeps the notes of one run.
type notebook struct {
	mu    sync.Mutex
	notes []noteParams
}

func main() { os.Exit(provider.Main(newServer(), os.Args[1:])) }

// newServer makes the MCP server with its one tool.
func newServer() *mcp.Server {
	server := mcp.NewServer(&mcp.Implementation{Name: "notes", Version: "1.0.0"}, nil)
	mcp.AddTool(server, &mcp.Tool{Name: "append_note", Description: "Append one note to the notebook."}, new(notebook).add)
	return server
}

func (n *notebook) add(_ context.Context, _ *mcp.CallToolRequest, note noteParams) (*mcp.CallToolResult, any, error) {
	if note.Title == "" || note.Text == "" {
		return nil, nil, errors.New("note without a title or a text")
	}
	n.mu.Lock()
	n.notes = append(n.notes, note)
	count := len(n.notes)
	n.mu.Unlock()
	return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: fmt.Sprintf("note %d kept", count)}}}, nil, nil
}
