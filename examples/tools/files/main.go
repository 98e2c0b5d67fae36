// Files is an example MCP tool provider: one tool that reads from a small,
// built-in set of documents. It hides nothing: /private/ is as readable here
// as /public/, and only the policy of the platform keeps an agent out.
package main

import (
	"context"
	"embed"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strings"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"omega/examples/internal/provider"
)

//go:embed data
var data embed.FS

// readParams are the arguments of read_file.
type readParams struct {
	Path string `json:"path" jsonschema:"absolute path of the document, for instance /public/brief.txt"`
}

func main() { os.Exit(provider.Main(newServer(), os.Args[1:])) }

// newServer makes the MCP server with its one tool.
func newServer() *mcp.Server {
	server := mcp.NewServer(&mcp.Implementation{Name: "files", Version: "1.0.0"}, nil)
	mcp.AddTool(server, &mcp.Tool{Name: "read_file", Description: "Read one text document by its path."}, readFile)
	return server
}

func readFile(_ context.Context, _ *mcp.CallToolRequest, params readParams) (*mcp.CallToolResult, any, error) {
	if !strings.HasPrefix(params.Path, "/") {
		return nil, nil, fmt.Errorf("path %q: not absolute", params.Path)
	}
	text, err := fs.ReadFile(data, path.Join("data", path.Clean(params.Path)))
	if err != nil {
		return nil, nil, fmt.Errorf("path %q: no such document", params.Path)
	}
	return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: string(text)}}}, nil, nil
}
