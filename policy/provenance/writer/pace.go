package writer

import "time"

const (
	// signingShare keeps the making of checkpoints, which takes the same for one
	// entry as for a hundred, to one part in so many of the time: while many
	// calls are under way more of them share a checkpoint, and else none waits.
	signingShare = 6
	// maxSigning is the most that one checkpoint counts for: on a busy machine
	// much of what passes meanwhile is others' time.
	maxSigning = 200 * time.Microsecond
	// maxSaved is how much time for signing is saved up while nothing happens.
	maxSaved = 2 * time.Millisecond
)

// pace says when the next checkpoint is due. The zero value has saved nothing.
type pace struct {
	saved time.Duration // time for signing; below zero the next one waits
	since time.Time     // when saved was true
}

// wait is how long to gather before the next checkpoint is made.
func (p *pace) wait(now time.Time) time.Duration {
	p.saved = min(maxSaved, p.saved+max(0, now.Sub(p.since))/signingShare)
	p.since = now
	return max(0, -p.saved) * signingShare
}

// spend counts a checkpoint that took this long.
func (p *pace) spend(took time.Duration) { p.saved -= min(took, maxSigning) }
