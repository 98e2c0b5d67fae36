// Package skip is for tests that want something from the machine. Where it is
// missing, a person's run skips and says so; in continuous integration a skip
// would be a pass that nobody earned, so there the test fails.
package skip

import (
	"os"
	"testing"
)

// Missing ends the test: what says what is not there and how to get it.
func Missing(t testing.TB, format string, what ...any) {
	t.Helper()
	if os.Getenv("CI") != "" {
		t.Fatalf(format, what...)
	}
	t.Skipf(format, what...)
}

// NotBuilt ends a test of an image profile that takes long to build, so that
// `make test` does not ask for it. `make test-images` builds them all and sets
// OMEGA_EVERY_IMAGE; there the test fails.
func NotBuilt(t testing.TB, profile string) {
	t.Helper()
	if os.Getenv("OMEGA_EVERY_IMAGE") != "" {
		t.Fatalf("no image of profile %s is built", profile)
	}
	t.Skipf("no image of profile %s is built; `omega build --profile %s` makes one", profile, profile)
}
