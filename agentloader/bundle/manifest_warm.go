package bundle

import (
	"errors"
	"fmt"
)

// Warm says how many sandboxes of an agent that is started on demand wait for their use, and how far
// they have come by then. Without it one waits, before the agent's first instruction.
type Warm struct {
	Spares int `json:"spares"`
	// Ahead: the agent itself has been started and waits for its first request. Until one comes it reaches
	// nothing, the gateway neither, and has no instance. For programs that are slow to start and serve.
	Ahead bool `json:"ahead,omitempty"`
}

const maxSpares = 16

func (m *Manifest) checkWarm() error {
	w := m.Warm
	switch {
	case w == nil:
		return nil
	case w.Spares < 1 || w.Spares > maxSpares:
		return fmt.Errorf("warm: %d spares, want 1 to %d", w.Spares, maxSpares)
	case w.Ahead && m.Serve == nil:
		return errors.New("warm: an agent that is started ahead must serve")
	}
	return nil
}
