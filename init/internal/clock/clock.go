// Package clock sets the guest's wall clock to the later of the build time and
// what the host's clock says. All wall-clock time in the guest is the host's
// claim; it only never runs behind what is known.
package clock

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// Set moves the clock to at least floor and returns the time it then shows. The
// kernel has read the RTC already (or left the clock at 1970).
func Set(floor time.Time) (time.Time, error) {
	now := time.Now()
	if rtc, err := readRTC("/dev/rtc0"); err == nil {
		now = rtc
	}
	later := Later(floor, now)
	ts := unix.NsecToTimespec(later.UnixNano())
	if err := unix.ClockSettime(unix.CLOCK_REALTIME, &ts); err != nil {
		return time.Time{}, fmt.Errorf("setting clock: %w", err)
	}
	return later, nil
}

// Later returns the later of two times. A clock beyond any use (the year 2200)
// counts as none.
func Later(floor, now time.Time) time.Time {
	if now.After(floor) && now.Year() < 2200 {
		return now
	}
	return floor
}

// readRTC reads the hardware clock, which runs in UTC.
func readRTC(path string) (time.Time, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return time.Time{}, fmt.Errorf("hardware clock: %w", err)
	}
	defer unix.Close(fd)
	t, err := unix.IoctlGetRTCTime(fd)
	if err != nil {
		return time.Time{}, fmt.Errorf("hardware clock: %w", err)
	}
	return time.Date(int(t.Year)+1900, time.Month(t.Mon+1), int(t.Mday), int(t.Hour), int(t.Min), int(t.Sec), 0, time.UTC), nil
}

// Uptime is the time since the machine started, asleep or not.
func Uptime() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		return 0
	}
	return time.Duration(ts.Nano())
}
