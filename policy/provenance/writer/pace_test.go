package writer

import (
	"testing"
	"time"
)

// TestSigningTakesItsShareOfTheTime plays a log that is asked all the time.
func TestSigningTakesItsShareOfTheTime(t *testing.T) {
	const took = 100 * time.Microsecond
	var p pace
	clock, signing := time.Unix(0, 0), time.Duration(0)
	p.wait(clock)
	for clock.Before(time.Unix(1, 0)) {
		if d := p.wait(clock); d > 0 {
			p.waited(2)
			clock = clock.Add(d)
			p.wait(clock)
		}
		clock = clock.Add(took)
		p.spend(took)
		signing += took
	}
	if share := time.Second / signing; share != signingShare && share != signingShare-1 {
		t.Errorf("signing took one part in %d, want one in %d", share, signingShare)
	}
}

func TestALogThatIsAskedSeldomSignsAtOnce(t *testing.T) {
	const took = 100 * time.Microsecond
	var p pace
	clock := time.Unix(0, 0)
	p.wait(clock)
	for range 1000 {
		clock = clock.Add(signingShare * took)
		if d := p.wait(clock); d != 0 {
			t.Fatalf("waits %v", d)
		}
		p.spend(took)
	}
	clock = clock.Add(time.Hour)
	p.wait(clock)
	for n := range maxSaved / took {
		if d := p.wait(clock); d != 0 {
			t.Fatalf("entry %d after an hour waits %v", n, d)
		}
		p.spend(took)
	}
	if p.spend(took); p.wait(clock) == 0 {
		t.Error("a burst has no end")
	}
}

func TestOneSlowCheckpointDoesNotHoldTheNextForLong(t *testing.T) {
	var p pace
	p.wait(time.Unix(0, 0))
	for range maxSaved/maxSigning + 1 {
		p.spend(time.Hour)
	}
	if d := p.wait(time.Unix(0, 0)); d != maxSigning*signingShare {
		t.Errorf("waits %v", d)
	}
	p.wait(time.Unix(10, 0))
	if d := p.wait(time.Unix(5, 0)); d != 0 { // a clock that went back
		t.Errorf("waits %v", d)
	}
}

func TestWhoIsAloneWaitsSeldom(t *testing.T) {
	const took = 100 * time.Microsecond
	var p pace
	clock, waits := time.Unix(0, 0), 0
	for range 10_000 {
		if p.wait(clock) > 0 {
			waits++
			p.waited(1)
		}
		clock = clock.Add(2 * took)
		p.spend(took)
	}
	if waits < 10 || waits > 100 {
		t.Errorf("%d waits in 10000", waits)
	}
	for p.wait(clock) == 0 {
		p.spend(took)
	}
	p.waited(2)
	if p.wait(clock); p.wait(clock) == 0 {
		t.Error("company is not waited for again")
	}
}
