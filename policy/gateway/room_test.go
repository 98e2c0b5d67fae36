package gateway

import (
	"errors"
	"io"
	"strings"
	"testing"
)

func TestBodiesOfAllAgentsFitTheGatewaysMemory(t *testing.T) {
	g := &Gateway{room: room{agents: map[string]int{}}}
	read := func(agent string) (*tab, error) {
		l := &link{g: g, agent: Agent{Instance: agent}}
		ctx, tab := l.holding(t.Context())
		_, err := readAll(ctx, io.LimitReader(zeros{}, maxAnswer), maxAnswer)
		return tab, err
	}
	var tabs []*tab
	for i := range 20 {
		agent := string(rune('a' + i))
		for range 16 {
			tab, err := read(agent)
			if tabs = append(tabs, tab); err != nil && !errors.Is(err, errRoom) {
				t.Fatal(err)
			}
		}
		if n := g.room.agents[agent]; n > maxHeldAgent {
			t.Errorf("one agent holds %d bytes", n)
		}
	}
	if n := g.room.total; n > maxHeld || n < maxHeld/2 {
		t.Errorf("all hold %d bytes", n)
	}
	for _, tab := range tabs {
		tab.close()
	}
	if g.room.total != 0 || len(g.room.agents) != 0 {
		t.Errorf("after all of them: %d bytes, %v", g.room.total, g.room.agents)
	}
	if _, err := read("a"); err != nil {
		t.Error(err)
	}
}

func TestALongStreamHoldsOnlyItsLongestEvent(t *testing.T) {
	l := &link{g: &Gateway{room: room{agents: map[string]int{}}}}
	ctx, tab := l.holding(t.Context())
	const size = 1 << 20
	events := newEvents(ctx, strings.NewReader(strings.Repeat("data: "+strings.Repeat("x", size)+"\n\n", 100)), maxAnswer)
	for i := range 100 {
		events.rest = maxAnswer
		if _, err := events.next(); err != nil {
			t.Fatalf("event %d: %v", i, err)
		}
		if tab.held > 8*size {
			t.Fatalf("event %d: %d bytes are held", i, tab.held)
		}
	}
	if tab.held < size {
		t.Errorf("%d bytes are held while the buffer has an event", tab.held)
	}
	tab.close()
	if l.g.room.total != 0 {
		t.Errorf("%d bytes are held after the end", l.g.room.total)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }
