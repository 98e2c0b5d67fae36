package bundle

import (
	"fmt"
	"regexp"
)

// Serve says that an agent takes requests: it serves HTTP/1.1 on this port of its own loopback, and the
// environment variable PORT repeats it.
type Serve struct {
	Port int `json:"port"`
	// Health is a path that answers GET with a status of 200 to 299 while the agent is well. Empty: it is
	// not asked.
	Health string `json:"health,omitempty"`
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
	if s != nil && s.Health != "" && !healthPattern.MatchString(s.Health) {
		return fmt.Errorf("serve: health path %.80q", s.Health)
	}
	return nil
}

// healthPattern is a plain path: no query, no dots that lead elsewhere.
var healthPattern = regexp.MustCompile(`^(?:/[A-Za-z0-9_-][A-Za-z0-9._~-]{0,63}){1,8}$`)
