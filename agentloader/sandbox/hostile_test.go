package sandbox

import (
	"strings"
	"testing"
)

// What memory.max does is tried in the guest: few machines of developers give
// a test a memory controller.
func TestAHostileAgentGetsNothing(t *testing.T) {
	s := setUp(t)
	bystander := s.start(t, "bystander-1", "sleep")
	for _, instance := range []string{"peek-1", "escape-1", "cve-1", "net-1", "fork-1", "files-1"} {
		t.Run(instance, func(t *testing.T) {
			exit := wait(t, s.startLimited(t, instance, Limits{MemoryBytes: 64 << 20, Processes: 64}, "/hostile"))
			if said := strings.Join(exit.LastLines, "\n"); exit.Code != 0 || !strings.Contains(said, "refused: ") {
				t.Errorf("it ended with %d:\n%s", exit.Code, said)
			}
		})
	}
	t.Run("one that kills all it can kills itself alone", func(t *testing.T) {
		if exit := wait(t, s.startLimited(t, "kill-1", Limits{}, "/hostile")); exit.Code == 0 {
			t.Errorf("it lived: %q", exit.LastLines)
		}
	})
	select {
	case <-bystander.done:
		t.Errorf("another agent ended: %+v", bystander.exit)
	default:
	}
}
