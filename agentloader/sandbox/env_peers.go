package sandbox

import (
	"encoding/json"
	"fmt"
	"maps"
)

// WithPeers adds to an agent's own variables where its A2A peers are: A2A_PEERS,
// and A2A_<NAME>_URL for each. The addresses end in a slash, since A2A's clients
// look for the card below them.
func WithPeers(own map[string]string, peers []string) (map[string]string, error) {
	if len(peers) == 0 {
		return own, nil
	}
	env, urls := maps.Clone(own), map[string]string{}
	if env == nil {
		env = map[string]string{}
	}
	for _, p := range peers {
		urls[p] = gateway + "/a2a/" + p + "/"
		env["A2A_"+variable(p)+"_URL"] = urls[p]
	}
	list, err := json.Marshal(urls)
	if err != nil {
		return nil, fmt.Errorf("environment: %w", err)
	}
	env["A2A_PEERS"] = string(list)
	return env, nil
}
