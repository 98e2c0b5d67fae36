package bundle

import "fmt"

// TransportStdio is MCP's stdio transport: newline-delimited JSON-RPC on the
// process's standard input and output.
const TransportStdio = "stdio"

// MCPServer says that the bundle is an MCP server: it is started when an agent
// asks for it, once for each of them.
type MCPServer struct {
	Transport string `json:"transport"` // TransportStdio
}

func (m *Manifest) checkServer() error {
	switch {
	case m.Server == nil:
		return nil
	case m.Server.Transport != TransportStdio:
		return fmt.Errorf("server transport %.40q, not %q", m.Server.Transport, TransportStdio)
	case m.Restart != nil:
		return fmt.Errorf("restart beside server: a server is started whenever it is asked for")
	case m.Serve != nil:
		return fmt.Errorf("serve beside server: it is asked over its standard input")
	}
	return nil
}
