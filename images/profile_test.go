package images

import (
	"strings"
	"testing"
)

func TestAProfileThatIsNotThereSaysWhatIs(t *testing.T) {
	for name, want := range map[string]string{"gpu": "docs/gpu.md", "tdx": "cpu, cloud, single, debug"} {
		if _, err := profileNamed(name); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
