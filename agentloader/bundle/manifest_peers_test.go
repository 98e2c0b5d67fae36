package bundle

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestPeersAreNamedByBundleOrByTheKeyOfTheirAuthor(t *testing.T) {
	key := strings.Repeat("ab", 32)
	tests := []struct {
		name  string
		peers []Peer
		card  string
		good  bool
	}{
		{"neither peers nor a card", []Peer{}, "", true},
		{"by bundle and by key", []Peer{{Name: "a", Bundle: DigestOf(nil)}, {Name: "b", Key: key}}, `{"name":"me"}`, true},
		{"by nothing", []Peer{{Name: "a"}}, "", false},
		{"by both", []Peer{{Name: "a", Bundle: DigestOf(nil), Key: key}}, "", false},
		{"by a key in capitals", []Peer{{Name: "a", Key: strings.ToUpper(key)}}, "", false},
		{"by a short key", []Peer{{Name: "a", Key: key[2:]}}, "", false},
		{"twice", []Peer{{Name: "a", Key: key}, {Name: "a", Bundle: DigestOf(nil)}}, "", false},
		{"with a path as name", []Peer{{Name: "../a", Key: key}}, "", false},
		{"too many", make([]Peer, maxList+1), "", false},
		{"a card that is a list", []Peer{}, `["name"]`, false},
		{"an empty card", []Peer{}, `{}`, false},
		{"a card with a name twice", []Peer{}, `{"name":"a","name":"b"}`, false},
		{"a card that is too long", []Peer{}, `{"name":"` + strings.Repeat("a", maxCard) + `"}`, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m := goodManifest()
			m.Peers, m.Card = tt.peers, json.RawMessage(tt.card)
			raw, err := m.Marshal()
			if (err == nil) != tt.good {
				t.Fatalf("%s, %v", raw, err)
			}
			if !tt.good {
				return
			}
			got, err := ParseManifest(raw)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(m.Peers, got.Peers); diff != "" || string(got.Card) != tt.card {
				t.Errorf("card %s, peers:\n%s", got.Card, diff)
			}
		})
	}
}
