package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// A Tool is one MCP tool as the model sees it.
type Tool struct {
	// Function is SERVER__TOOL, the name the model calls.
	Function    string
	Description string
	Parameters  map[string]any

	name    string
	session *mcp.ClientSession
}

// A Toolbox holds the tools of all MCP servers that an agent was given.
type Toolbox struct {
	tools    []Tool
	sessions []*mcp.ClientSession
}

// Connect opens a session with each server of a JSON object of name and URL,
// the form of MCP_SERVERS, and lists its tools.
func Connect(ctx context.Context, servers string) (*Toolbox, error) {
	var urls map[string]string
	if err := json.Unmarshal([]byte(servers), &urls); err != nil {
		return nil, fmt.Errorf("MCP_SERVERS: %w", err)
	}
	box := &Toolbox{}
	for _, name := range slices.Sorted(maps.Keys(urls)) {
		if err := box.add(ctx, name, urls[name]); err != nil {
			return nil, errors.Join(fmt.Errorf("MCP server %s: %w", name, err), box.Close())
		}
	}
	return box, nil
}

// add connects one server and takes in its tools.
func (b *Toolbox) add(ctx context.Context, server, url string) error {
	client := mcp.NewClient(&mcp.Implementation{Name: "omega-example-agent", Version: "1.0.0"}, nil)
	session, err := client.Connect(ctx, &mcp.StreamableClientTransport{
		Endpoint:             url,
		DisableStandaloneSSE: true, // nothing here waits for server messages
	}, nil)
	if err != nil {
		return err
	}
	b.sessions = append(b.sessions, session)
	for tool, err := range session.Tools(ctx, nil) {
		if err != nil {
			return fmt.Errorf("listing tools: %w", err)
		}
		parameters, _ := tool.InputSchema.(map[string]any)
		b.tools = append(b.tools, Tool{
			Function:    server + "__" + tool.Name,
			Description: tool.Description,
			Parameters:  parameters,
			name:        tool.Name,
			session:     session,
		})
	}
	return nil
}

// Tools lists every tool of every server.
func (b *Toolbox) Tools() []Tool { return b.tools }

// Call runs the named function and returns its text. A result that the server
// marked as an error is returned as one.
func (b *Toolbox) Call(ctx context.Context, function string, arguments json.RawMessage) (string, error) {
	for _, tool := range b.tools {
		if tool.Function != function {
			continue
		}
		result, err := tool.session.CallTool(ctx, &mcp.CallToolParams{Name: tool.name, Arguments: arguments})
		if err != nil {
			return "", err
		}
		if text := textOf(result); result.IsError {
			return "", errors.New(text)
		} else {
			return text, nil
		}
	}
	return "", fmt.Errorf("no tool named %s", function)
}

// Close ends every session.
func (b *Toolbox) Close() error {
	var errs []error
	for _, session := range b.sessions {
		errs = append(errs, session.Close())
	}
	return errors.Join(errs...)
}

// textOf joins the text parts of a result.
func textOf(result *mcp.CallToolResult) string {
	var parts []string
	for _, content := range result.Content {
		if text, ok := content.(*mcp.TextContent); ok {
			parts = append(parts, text.Text)
		}
	}
	return strings.Join(parts, "\n")
}
