package main

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"omega/agentloader/bundle"
)

func TestAnEndedAgentIsStartedAgainAsItsManifestSays(t *testing.T) {
	type end struct {
		code int
		ran  time.Duration
	}
	for name, tt := range map[string]struct {
		when string
		max  int
		ends []end
		want []time.Duration // -1: not started again
	}{
		"no manifest says so":              {"", 3, []end{{1, 0}}, []time.Duration{-1}},
		"a cap of zero is no restart":      {bundle.RestartAlways, 0, []end{{1, 0}}, []time.Duration{-1}},
		"success ends an agent that may":   {bundle.RestartFailure, 3, []end{{0, 0}}, []time.Duration{-1}},
		"always means after success too":   {bundle.RestartAlways, 1, []end{{0, 0}}, []time.Duration{1e9}},
		"the cap holds":                    {bundle.RestartFailure, 2, []end{{1, 0}, {1, 0}, {1, 0}}, []time.Duration{1e9, 2e9, -1}},
		"waits double up to half a minute": {bundle.RestartFailure, 9, []end{{1, 0}, {1, 0}, {1, 0}, {1, 0}, {1, 0}, {1, 0}, {1, 0}}, []time.Duration{1e9, 2e9, 4e9, 8e9, 16e9, 30e9, 30e9}},
		"a minute of work resets the wait": {bundle.RestartFailure, 9, []end{{1, 0}, {1, 0}, {137, time.Minute}}, []time.Duration{1e9, 2e9, 1e9}},
	} {
		t.Run(name, func(t *testing.T) {
			r := restarts{when: tt.when, max: tt.max}
			var got []time.Duration
			for _, e := range tt.ends {
				wait, again := r.next(e.code, e.ran)
				if !again {
					wait = -1
				}
				got = append(got, wait)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}
