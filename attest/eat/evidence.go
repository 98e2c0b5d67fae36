package eat

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"omega/attest"
	"omega/internal/cbor"
)

// Marshal writes evidence as a token.
func Marshal(e *attest.Evidence) ([]byte, error) {
	if err := e.Validate(); err != nil {
		return nil, fmt.Errorf("eat: %w", err)
	}
	if e.Remembered() {
		return nil, errors.New("eat: evidence that leans on an earlier appraisal holds no report, and has no form as a token")
	}
	claims, err := platformClaims(e.Report, &e.Boot, EvidenceProfile)
	if err != nil {
		return nil, err
	}
	claims = append(claims, cbor.Pair{Key: claimNonce, Value: e.Nonce.Nonce[:]})
	private, err := cbor.ToValue(*e)
	if err != nil {
		return nil, fmt.Errorf("eat: %w", err)
	}
	claims = append(claims, cbor.Pair{Key: claimPrivate, Value: without(private.(cbor.Map), "report", "agents")})
	if len(e.Agents) > 0 {
		submods, err := agentClaims(e.Agents)
		if err != nil {
			return nil, err
		}
		claims = append(claims, cbor.Pair{Key: claimSubmods, Value: submods})
	}
	return seal(claims, attest.MaxEvidence)
}

// agentClaims are the agents as submodules, by the number of their admission.
func agentClaims(agents []attest.Agent) (cbor.Map, error) {
	out := make(cbor.Map, 0, len(agents))
	for i := range agents {
		a := &agents[i]
		if i > 0 && agents[i-1].Index >= a.Index {
			return nil, errors.New("eat: the agents are not in the order of their admission")
		}
		v, err := cbor.ToValue(*a)
		if err != nil {
			return nil, fmt.Errorf("eat: agent %d: %w", a.Index, err)
		}
		claims := cbor.Map{{Key: claimPrivate, Value: v}}
		if a.Shown() {
			claims = append(claims, cbor.Pair{Key: claimSWName, Value: a.Name})
		}
		out = append(out, cbor.Pair{Key: strconv.FormatUint(uint64(a.Index), 10), Value: claims})
	}
	return out, nil
}

func without(m cbor.Map, names ...string) cbor.Map {
	return slices.DeleteFunc(m, func(p cbor.Pair) bool {
		name, _ := p.Key.(string)
		return slices.Contains(names, name)
	})
}

// Parse reads a token. Each claim must stand where Marshal puts it and the
// standard ones must say what the report and the other claims say: a token that
// Marshal would not write for the evidence in it is refused.
func Parse(b []byte) (*attest.Evidence, error) {
	claims, err := open(b, EvidenceProfile, attest.MaxEvidence)
	if err != nil {
		return nil, err
	}
	var e attest.Evidence
	if err := private(claims, &e); err != nil {
		return nil, err
	}
	if e.Report, err = reportOf(claims); err != nil {
		return nil, err
	}
	if e.Agents, err = agentsOf(claims); err != nil {
		return nil, err
	}
	return &e, same(b, func() ([]byte, error) { return Marshal(&e) })
}

func agentsOf(claims cbor.Map) ([]attest.Agent, error) {
	v, ok := claims.Get(claimSubmods)
	if !ok {
		return []attest.Agent{}, nil
	}
	submods, ok := v.(cbor.Map)
	if !ok || len(submods) == 0 {
		return nil, errors.New("eat: submods is not a map of agents")
	}
	agents := make([]attest.Agent, len(submods))
	for i, p := range submods {
		m, ok := p.Value.(cbor.Map)
		if !ok {
			return nil, fmt.Errorf("eat: submodule %.40v is not a map", p.Key)
		}
		if err := private(m, &agents[i]); err != nil {
			return nil, fmt.Errorf("submodule %.40v: %w", p.Key, err)
		}
	}
	slices.SortStableFunc(agents, func(x, y attest.Agent) int { return cmp.Compare(x.Index, y.Index) })
	return agents, nil
}
