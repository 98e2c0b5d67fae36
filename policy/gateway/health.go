package gateway

import (
	"context"
	"fmt"
	"io"
	"net/http"
)

// Healthy asks an agent that serves whether it is well, as its manifest says how.
// It is the platform's own question: nothing of the answer but its status is
// looked at, and nothing of it reaches anybody.
func (g *Gateway) Healthy(ctx context.Context, instance, path string) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://agent"+path, nil)
	if err != nil {
		return fmt.Errorf("health of %s: %w", instance, err)
	}
	resp, err := g.deliver(ctx, instance, r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, _ = io.CopyN(io.Discard, resp.Body, streamWindow) // so that the connection is good for the next
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		return fmt.Errorf("agent %s: status %d", instance, resp.StatusCode)
	}
	return nil
}
