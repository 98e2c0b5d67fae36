package main

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"omega/attest"
	"omega/policy/provenance"
)

func TestNothingIsStartedAfterItsRevocationListHasExpired(t *testing.T) {
	entries := make(chan provenance.Entry, 8)
	s := &sandboxd{log: answering(t, opAppend, func(_ context.Context, req appendRequest) (appendReply, error) {
		entries <- req.Entry
		return appendReply{}, nil
	})}
	for until, want := range map[time.Time]bool{
		{}:                           true, // nobody demands a list
		time.Now().Add(time.Hour):    true,
		time.Now().Add(-time.Second): false,
	} {
		err := s.still(t.Context(), runRequest{Until: until}, attest.Agent{Instance: "a-1"})
		if (err == nil) != want || err != nil && !errors.Is(err, errOutdated) {
			t.Errorf("until %v: %v", until, err)
		}
	}
	if len(entries) != 1 {
		t.Fatalf("%d entries in the log", len(entries))
	}
	if e := <-entries; e.Kind != provenance.KindRefusal || e.Agent != "a-1" || !strings.Contains(strings.Join(e.Reasons, " "), "has expired") {
		t.Errorf("the log has %+v", e)
	}
}

func TestTheMachineSaysHowMuchMemoryItHas(t *testing.T) {
	total, err := memory("MemTotal:")
	if err != nil || total < 64*mib {
		t.Errorf("%d bytes, %v", total, err)
	}
	if _, err := memory("NoSuchLine:"); err == nil {
		t.Error("a line that is not there")
	}
}
