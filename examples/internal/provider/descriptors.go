package provider

import (
	"context"
	"encoding/json"
	"io"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// A Descriptor is what an agent bundle pins of one tool.
type Descriptor struct {
	Name        string `json:"name"`
	Description string `json:"description"`
	InputSchema any    `json:"input_schema"`
}

// printDescriptors writes the descriptors as a client receives them.
func printDescriptors(ctx context.Context, server *mcp.Server, w io.Writer) error {
	descriptors, err := Descriptors(ctx, server)
	if err != nil {
		return err
	}
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	return encoder.Encode(descriptors)
}

// Descriptors lists the server's tools through a real client, so that what is
// pinned is what goes over the wire.
func Descriptors(ctx context.Context, server *mcp.Server) ([]Descriptor, error) {
	ours, theirs := mcp.NewInMemoryTransports()
	serving, err := server.Connect(ctx, theirs, nil)
	if err != nil {
		return nil, err
	}
	defer serving.Close()
	client := mcp.NewClient(&mcp.Implementation{Name: "descriptors", Version: "1.0.0"}, nil)
	session, err := client.Connect(ctx, ours, nil)
	if err != nil {
		return nil, err
	}
	defer session.Close()
	var descriptors []Descriptor
	for tool, err := range session.Tools(ctx, nil) {
		if err != nil {
			return nil, err
		}
		descriptors = append(descriptors, Descriptor{tool.Name, tool.Description, tool.InputSchema})
	}
	return descriptors, nil
}
