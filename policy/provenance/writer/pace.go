package writer

import "time"

const (
	// signingShare keeps the making of checkpoints, which takes the same for one
	// entry as for a hundred, to one part in so many of the time, as long as
	// others come to share the one that waits.
	signingShare = 6
	// maxSigning is the most that one checkpoint counts for: on a busy machine
	// much of what passes meanwhile is others' time.
	maxSigning = 200 * time.Microsecond
	// maxSaved is how much time for signing is saved up while nothing happens.
	maxSaved = 2 * time.Millisecond
	// maxSkips is how many checkpoints go by before a wait is tried again that
	// nobody shared.
	maxSkips = 256
	// lazyTime is how long an entry that nobody waits for may wait for company.
	lazyTime = 5 * time.Millisecond
)

// pace says when the next checkpoint is due.
type pace struct {
	saved time.Duration // time for signing; below zero the next one waits
	since time.Time     // when saved was true
	vain  int           // how many waits are skipped after one that was in vain
	skip  int
}

// wait is how long to gather before the next checkpoint is made.
func (p *pace) wait(now time.Time) time.Duration {
	p.saved = min(maxSaved, p.saved+max(0, now.Sub(p.since))/signingShare)
	p.since = now
	if p.saved >= 0 {
		return 0
	}
	if p.skip > 0 {
		p.skip--
		p.saved = 0
		return 0
	}
	return -p.saved * signingShare
}

// waited says how many callers share the checkpoint after a wait. One who is
// alone has waited in vain, and so would the next.
func (p *pace) waited(callers int) {
	p.vain = min(maxSkips, 2*p.vain+1)
	if callers > 1 {
		p.vain = 0
	}
	p.skip = p.vain
}

// spend counts a checkpoint that took this long.
func (p *pace) spend(took time.Duration) { p.saved -= min(took, maxSigning) }
