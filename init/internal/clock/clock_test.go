package clock

import (
	"testing"
	"time"
)

func TestTheClockNeverShowsLessThanTheBuildTime(t *testing.T) {
	built := time.Date(2023, 11, 14, 22, 13, 20, 0, time.UTC)
	tests := []struct {
		name string
		now  time.Time
		want time.Time
	}{
		{"a host in order", built.AddDate(3, 0, 0), built.AddDate(3, 0, 0)},
		{"a host in 1970", time.Unix(0, 0), built},
		{"a host just behind", built.Add(-time.Second), built},
		{"a host in the year 2300", time.Date(2300, 1, 1, 0, 0, 0, 0, time.UTC), built},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := Later(built, tt.now); !got.Equal(tt.want) {
				t.Errorf("clock at %v, want %v", got, tt.want)
			}
		})
	}
}

func TestUptimeRuns(t *testing.T) {
	a := Uptime()
	time.Sleep(2 * time.Millisecond)
	if b := Uptime(); a <= 0 || b <= a {
		t.Errorf("uptime %v, then %v", a, b)
	}
}
