package entropy

import (
	"errors"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestKeysWaitForASeededGenerator(t *testing.T) {
	after := func(n int, err error) func([]byte, int) (int, error) {
		calls := 0
		return func(b []byte, flags int) (int, error) {
			if flags != unix.GRND_NONBLOCK {
				return 0, errors.New("would block")
			}
			if calls++; calls <= n {
				return 0, err
			}
			return len(b), nil
		}
	}
	tests := []struct {
		name      string
		getrandom func([]byte, int) (int, error)
		patience  time.Duration
		want      error
	}{
		{"seeded", after(0, nil), 0, nil},
		{"seeded a little later", after(2, unix.EAGAIN), time.Minute, nil},
		{"interrupted", after(1, unix.EINTR), time.Minute, nil},
		{"never seeded", after(1000, unix.EAGAIN), 50 * time.Millisecond, ErrUnseeded},
		{"no such call", after(1000, unix.ENOSYS), time.Minute, unix.ENOSYS},
		{"too few bytes", func(b []byte, _ int) (int, error) { return 1, nil }, 50 * time.Millisecond, ErrUnseeded},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if err := seeded(tt.getrandom, tt.patience); !errors.Is(err, tt.want) {
				t.Errorf("got %v, want %v", err, tt.want)
			}
		})
	}
}
