package cache

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
)

func write(t *testing.T, dir, name string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), []byte(name), 0o644); err != nil {
		t.Error(err)
	}
}

func open(t *testing.T) *Cache {
	t.Helper()
	c, err := Open(filepath.Join(t.TempDir(), "cache"))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestAFolderIsFilledOnceForEachKey(t *testing.T) {
	c := open(t)
	fills := 0
	fill := func(dir string) error { fills++; write(t, dir, "made"); return nil }
	first, err := c.Dir(t.Context(), "kind", Key{1}, fill)
	if err != nil {
		t.Fatal(err)
	}
	second, err := c.Dir(t.Context(), "kind", Key{1}, fill)
	if err != nil || first != second || fills != 1 {
		t.Errorf("second call: %q after %q, %d fills, error %v", second, first, fills, err)
	}
	if other, err := c.Dir(t.Context(), "kind", Key{2}, fill); err != nil || other == first || fills != 2 {
		t.Errorf("another key: %q, %d fills, error %v", other, fills, err)
	}
	if !c.Has("kind", Key{1}) || c.Has("other", Key{1}) {
		t.Error("Has does not say what is there")
	}
}

func TestAFailedOrInterruptedFillLeavesNothing(t *testing.T) {
	broken := errors.New("broken")
	tests := []struct {
		name string
		fill func(cancel func()) error
		want error
	}{
		{"the fill fails", func(func()) error { return broken }, broken},
		{"the fill is interrupted but returns no error", func(cancel func()) error { cancel(); return nil }, context.Canceled},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := open(t)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			_, err := c.Dir(ctx, "kind", Key{1}, func(dir string) error {
				write(t, dir, "half")
				if err := os.Mkdir(filepath.Join(dir, "sealed"), 0o500); err != nil {
					t.Error(err)
				}
				return tt.fill(cancel)
			})
			if !errors.Is(err, tt.want) {
				t.Errorf("error %v, want %v", err, tt.want)
			}
			if c.Has("kind", Key{1}) {
				t.Error("an incomplete folder is in the cache")
			}
			if left, _ := filepath.Glob(filepath.Join(c.Root(), "kind", "*.tmp")); len(left) > 0 {
				t.Errorf("left behind: %q", left)
			}
		})
	}
}

func TestWhatAKilledProcessLeftIsClearedAway(t *testing.T) {
	c := open(t)
	temp := filepath.Join(c.Root(), "kind", Key{1}.String()+".tmp")
	if err := os.MkdirAll(temp, 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, temp, "stale")
	dir, err := c.Dir(t.Context(), "kind", Key{1}, func(dir string) error { write(t, dir, "new"); return nil })
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "stale")); err == nil {
		t.Error("a stale file is in the result")
	}
}

func TestTwoBuildsDoNotFillTheSameFolder(t *testing.T) {
	c := open(t)
	var filling, fills atomic.Int32
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			_, err := c.Dir(t.Context(), "kind", Key{1}, func(dir string) error {
				if filling.Add(1) != 1 {
					t.Error("two fill at once")
				}
				defer filling.Add(-1)
				fills.Add(1)
				write(t, dir, "made")
				return nil
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if fills.Load() != 1 {
		t.Errorf("%d fills, want 1", fills.Load())
	}
}

func TestWaitingForALockEndsWithTheContext(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	unlock, err := Lock(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Lock(ctx, path); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want %v", err, context.Canceled)
	}
}
