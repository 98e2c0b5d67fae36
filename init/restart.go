package main

import (
	"time"

	"omega/agentloader/bundle"
)

// How soon and how often an agent that ended is started again. The wait doubles
// with each try and begins anew once an agent has run for restartSteady.
const (
	restartFirst  = time.Second
	restartMost   = 30 * time.Second
	restartSteady = time.Minute
)

// restarts decides whether an agent that ended is started again, and when. The
// zero value never does.
type restarts struct {
	when string // bundle.RestartFailure, bundle.RestartAlways or empty
	max  int
	done int           // starts since the first
	wait time.Duration // before the last of them
}

// next answers for an agent that ran that long and ended with code. Tries are
// not given back however long the agent ran: an agent that fails once a day
// must not fill the log for ever.
func (r *restarts) next(code int, ran time.Duration) (time.Duration, bool) {
	wanted := r.when == bundle.RestartAlways || r.when == bundle.RestartFailure && code != 0
	if !wanted || r.done >= r.max {
		return 0, false
	}
	r.done++
	if r.wait == 0 || ran >= restartSteady {
		r.wait = restartFirst
	} else {
		r.wait = min(2*r.wait, restartMost)
	}
	return r.wait, true
}
