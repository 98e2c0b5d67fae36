package main

import (
	"encoding/json"
	"slices"

	"omega/agentloader"
	"omega/agentloader/bundle"
	"omega/policy/gateway"
)

// a2aPart is what an agent's bundle says of it as a peer: whom it talks to, its
// own card, and by whose keys others may know it.
type a2aPart struct {
	Peers []bundle.Peer   `json:"peers,omitempty"`
	Card  json.RawMessage `json:"card,omitempty"`
	Keys  []string        `json:"keys,omitempty"`
}

// a2aOf takes the part from an admitted bundle; the keys are those of the
// signatures of the bundle itself that counted.
func a2aOf(a *agentloader.Admitted) a2aPart {
	out := a2aPart{Peers: a.Manifest.Peers, Card: a.Manifest.Card}
	for _, c := range a.Components {
		if c.Kind != bundle.KindManifest {
			continue
		}
		for _, s := range c.Signatures {
			out.Keys = append(out.Keys, s.KeyID)
		}
	}
	slices.Sort(out.Keys)
	out.Keys = slices.Compact(out.Keys)
	return out
}

// names are the peers' names, for the agent's environment.
func (p a2aPart) names() []string {
	out := make([]string, len(p.Peers))
	for i := range p.Peers {
		out[i] = p.Peers[i].Name
	}
	return out
}

// pins are the peers as the gateway takes them.
func (p a2aPart) pins() []gateway.PeerPin {
	var out []gateway.PeerPin
	for _, peer := range p.Peers {
		out = append(out, gateway.PeerPin{Name: peer.Name, Bundle: peer.Bundle, Key: peer.Key})
	}
	return out
}
