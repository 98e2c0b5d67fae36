package bundle

import "fmt"

// Serve says that an agent takes requests: it serves HTTP/1.1 on this port of its own loopback, and the
// environment variable PORT repeats it.
type Serve struct {
	Port int `json:"port"`
}

// Ports that an agent can serve on: it has no right to lower ones.
const (
	minPort = 1024
	maxPort = 65535
	// gatewayPort is where the shim listens for the agent's own calls.
	gatewayPort = 3128
)

func (m *Manifest) checkServe() error {
	s := m.Serve
	if s != nil && (s.Port < minPort || s.Port > maxPort || s.Port == gatewayPort) {
		return fmt.Errorf("serve: port %d, want %d to %d and not %d", s.Port, minPort, maxPort, gatewayPort)
	}
	return nil
}
