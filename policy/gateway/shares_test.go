package gateway

import (
	"encoding/hex"
	"errors"
	"strconv"
	"testing"
	"time"

	"omega/internal/labelhash"
	"omega/policy"
)

func TestOfTwoPeersThatCouldBeMeantNoneHasTheRightsOfTheOther(t *testing.T) {
	a, b := PeerPin{Name: "a", Key: "key of a"}, PeerPin{Name: "b", Key: "key of b"}
	both := []policy.Peer{
		{Name: "a", URL: "https://a.example/peer/a2a/friend", Attested: true},
		{Name: "b", URL: "https://b.example/peer/a2a/friend", Attested: true},
	}
	for _, test := range []struct {
		name    string
		peers   []policy.Peer
		may     []string // send to this agent
		pins    []PeerPin
		key     string // of who signed the sender
		want    string
		refused error
	}{
		{"one peer of that name", both[:1], []string{"a"}, nil, "", "a", nil},
		{"one that may not send", both[:1], nil, nil, "", "", errNoSender},
		{"one that is not the one the bundle means", both[:1], []string{"a"}, []PeerPin{a}, "key of b", "", errOtherPeer},
		{"two, and nothing tells which", both, []string{"a", "b"}, nil, "", "", errWhichPeer},
		{"two of which one may send", both, []string{"a"}, nil, "", "", errWhichPeer},
		{"two, and the bundle means this one by b", both, []string{"a", "b"}, []PeerPin{a, b}, "key of b", "b", nil},
		{"two, and the bundle means this one by b, which may not", both, []string{"a"}, []PeerPin{a, b}, "key of b", "", errNoSender},
		{"two, and neither is meant", both, []string{"a", "b"}, []PeerPin{a, b}, "key of c", "", errOtherPeer},
		{"two, and the bundle does not say whom it means by b", both, []string{"a"}, []PeerPin{a}, "key of a", "", errWhichPeer},
	} {
		l := &link{g: &Gateway{cfg: Config{Document: &policy.Document{Peers: test.peers}}}, agent: Agent{Peers: test.pins}}
		for _, name := range test.may {
			l.rule.Permits = append(l.rule.Permits, policy.Permit{Action: policy.ActionReceive, Resource: name})
		}
		from := peerAgent{Name: "friend", Instance: "friend-1", Bundle: hex.EncodeToString(make([]byte, 32)), Keys: []string{test.key}}
		if got, err := l.knows(from); got != test.want || !errors.Is(err, test.refused) {
			t.Errorf("%s: %q, %v; want %q, %v", test.name, got, err, test.want, test.refused)
		}
	}
}

func TestNoAgentFillsTheDataSetsOfAll(t *testing.T) {
	var s store
	part := make([]byte, maxStore/storeShare/2)
	for i, step := range []struct {
		agent, path string
		body        []byte
		full        bool
	}{
		{"one", "a", part, false},
		{"one", "b", part, false},
		{"one", "c", part[:1], true},
		{"one", "a", part, false}, // in its own place
		{"two", "c", part, false}, // another has room
		{"two", "a", part, false}, // and takes that over
		{"one", "d", part, false}, // which makes room
		{"two", "d", part, true},
	} {
		if err := s.put(step.agent, "set", step.path, step.body, nil); (err != nil) != step.full {
			t.Errorf("step %d: %v", i, err)
		}
	}
	var many store
	for i := range maxStored / storeShare {
		if err := many.put("one", "set", strconv.Itoa(i), nil, nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := many.put("one", "set", "more", nil, nil); err == nil {
		t.Error("one agent's files take every place")
	}
}

func TestAPlaceIsHeldUntilWhoAsksAnAgentThereLeaves(t *testing.T) {
	g := &Gateway{cfg: Config{Document: &policy.Document{Agents: []policy.AgentRule{{Name: "desk", Sessions: "clean"}}}, Now: time.Now, Starter: noStarter{}}}
	g.offers = map[string]string{"desk": "desk-1"}
	d := &door{agent: Agent{Name: "desk", Instance: "desk-1+s1"}}
	g.doors.open = map[string]*door{"desk-1+s1": d}
	ready := make(chan struct{})
	close(ready)
	own := &place{instance: "desk-1+s1", offer: "desk-1", session: labelhash.Sum256("omega/session/a2a/v1", []byte("agent/x-1")), ready: ready, door: d}
	g.places.of = map[string][]*place{"desk": {own}}
	_, leave, err := g.receiver(t.Context(), "desk", "", "agent/x-1", func(Agent) bool { return true })
	if err != nil || own.users != 1 {
		t.Fatalf("%v; %d use the place", err, own.users)
	}
	leave()
	if leave(); own.users != 0 {
		t.Errorf("%d use it afterwards", own.users)
	}
	if _, _, err := g.receiver(t.Context(), "desk", "", "agent/x-1", func(Agent) bool { return false }); !errors.Is(err, errOtherPeer) || own.users != 0 {
		t.Errorf("one that is not meant: %v; %d use the place", err, own.users)
	}
}

// noStarter starts nothing.
type noStarter struct{ Starter }
