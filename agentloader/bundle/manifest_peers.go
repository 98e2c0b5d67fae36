package bundle

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"omega/internal/strictjson"
)

// Peer is another agent that this one talks to by A2A. It is named by its bundle
// digest, or, since two bundles cannot name each other's, by a key of the author
// that signed it. What it may be sent is the policy's matter.
type Peer struct {
	Name   string `json:"name"`            // of the policy's peer
	Bundle Digest `json:"bundle,omitzero"` // what runs there, or
	Key    string `json:"key,omitempty"`   // ID of a key that signed it: hex SHA-256 of its SubjectPublicKeyInfo
}

// meant is what a peer is in an agent's identity: its bundle's digest, or the
// key's. Its own identity would be a cycle where two agents are each other's peers.
func (p Peer) meant() Digest {
	if p.Key == "" {
		return p.Bundle
	}
	var d Digest
	if _, err := hex.Decode(d[:], []byte(p.Key)); err != nil {
		return Digest{}
	}
	return d
}

// maxCard bounds an agent card: it is part of every agent manifest that has one.
const maxCard = 32 << 10

// checkPeers checks whom the agent talks to, and its own card.
func (m *Manifest) checkPeers() error {
	if len(m.Peers) > maxList {
		return fmt.Errorf("%d peers", len(m.Peers))
	}
	seen := map[string]bool{}
	for _, p := range m.Peers {
		switch raw, err := hex.DecodeString(p.Key); {
		case !ValidName(p.Name) || seen[p.Name]:
			return fmt.Errorf("peer %.80q", p.Name)
		case p.Bundle.IsZero() == (p.Key == ""):
			return fmt.Errorf("peer %s: name its bundle or a key of its author, and not both", p.Name)
		case p.Key != "" && (err != nil || len(raw) != 32 || strings.ToLower(p.Key) != p.Key):
			return fmt.Errorf("peer %s: a key is named by 64 lowercase hex digits", p.Name)
		}
		seen[p.Name] = true
	}
	return m.checkCard()
}

// checkCard checks the form of the card alone; what it means is the gateway's to read.
func (m *Manifest) checkCard() error {
	if len(m.Card) == 0 {
		return nil
	}
	var card map[string]json.RawMessage
	if err := strictjson.Decode(m.Card, &card, strictjson.Limits{MaxBytes: maxCard}); err != nil {
		return fmt.Errorf("agent card: %w", err)
	}
	if len(card) == 0 {
		return errors.New("agent card: no object, or an empty one")
	}
	return nil
}
