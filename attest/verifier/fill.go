package verifier

import (
	"bytes"
	"slices"

	"omega/attest"
)

// ids are the IDs of components that were seen, so that what many agents have
// is hashed once.
type ids map[partName]identified

// partName is what most components differ in.
type partName struct {
	kind, name string
	digest     attest.Bytes32
}

type identified struct {
	part *attest.Component
	id   attest.Bytes32
}

// of is c.ID().
func (m ids) of(c *attest.Component) attest.Bytes32 {
	if !c.Shown() {
		return c.Known
	}
	name := partName{c.Kind, c.Name, c.Digest}
	if before, ok := m[name]; ok && same(before.part, c) {
		return before.id
	}
	id := c.ID()
	m[name] = identified{c, id}
	return id
}

// parts are the components that were seen.
func (m ids) parts() []*attest.Component {
	out := make([]*attest.Component, 0, len(m))
	for _, p := range m {
		out = append(out, p.part)
	}
	return out
}

// same reports whether components of one partName have one ID.
func same(a, b *attest.Component) bool {
	return a.Role == b.Role && a.Principal == b.Principal && slices.EqualFunc(a.Signatures, b.Signatures, func(x, y attest.Signature) bool {
		return bytes.Equal(x.Key, y.Key) && bytes.Equal(x.Payload, y.Payload) && bytes.Equal(x.Sig, y.Sig)
	})
}

// Fill is the evidence with what it left out: because it is known, or because
// an agent before shows it. It proves nothing: Appraise checks that what is
// filled in is what the evidence names. A nil Known knows nothing.
func (k *Known) Fill(e *attest.Evidence) *attest.Evidence {
	filled, _ := k.fill(e, filling{seen: ids{}})
	return filled
}

// fill is Fill with the IDs of the components of each agent.
func (k *Known) fill(e *attest.Evidence, f filling) (*attest.Evidence, [][]attest.Bytes32) {
	leans := k != nil && e.Remembered() && e.Platform == attest.Bytes32(k.Boot.Digest())
	out := *e
	out.Agents = make([]attest.Agent, len(e.Agents))
	f.shown, f.ids = map[attest.Bytes32]*attest.Component{}, make([]attest.Bytes32, 0, components(e))
	each := make([][]attest.Bytes32, len(e.Agents))
	if leans {
		out.Boot, f.known = k.Boot, k
	}
	for i := range e.Agents {
		out.Agents[i] = e.Agents[i]
		first := len(f.ids)
		f.agent(&out.Agents[i])
		each[i] = f.ids[first:]
	}
	return &out, each
}

// components is how many there are.
func components(e *attest.Evidence) (n int) {
	for i := range e.Agents {
		n += len(e.Agents[i].Components)
	}
	return n
}

// filling is one fill on its way.
type filling struct {
	seen ids
	// unsalted leaves the salts of components to who looks at what was sent. Agents
	// that lean on the same components then share one list of them.
	unsalted bool

	shown map[attest.Bytes32]*attest.Component // in agents before
	room  []attest.Component                   // for those of all agents, but for known identities'
	ids   []attest.Bytes32                     // of all components
	// last are the components of the agent before, with their IDs.
	last    []attest.Component
	lastIDs []attest.Bytes32
	known   *Known // nil where the evidence does not lean on it
	// kept and identities are what is known, made when it is asked for.
	kept       map[attest.Bytes32]*attest.Component
	identities map[attest.Bytes32][]attest.Bytes32
}

// prepare reads what is known.
func (f *filling) prepare() {
	if f.known == nil || f.kept != nil {
		return
	}
	f.kept, f.identities = f.known.byID(), make(map[attest.Bytes32][]attest.Bytes32, len(f.known.Agents))
	for _, a := range f.known.Agents {
		f.identities[a.Identity] = a.Components
	}
}

// agent fills in an agent, whose components are another's until then.
func (f *filling) agent(a *attest.Agent) {
	if len(a.Components) == 0 {
		if f.prepare(); a.Hidden.IsZero() {
			for _, id := range f.identities[a.Identity] {
				a.Components = append(a.Components, *f.kept[id])
				f.ids = append(f.ids, id)
			}
		}
		return
	}
	if f.unsalted && f.likeLast(a) {
		a.Components, f.ids = f.last, append(f.ids, f.lastIDs...)
		return
	}
	first, firstID := len(f.room), len(f.ids)
	for i := range a.Components {
		c := &a.Components[i]
		full, id := c, c.Known
		if c.Shown() {
			id = f.seen.of(c)
			f.shown[id] = c
		} else if full = f.find(id); full == nil {
			full = c
		}
		f.room, f.ids = append(f.room, *full), append(f.ids, id)
		f.room[len(f.room)-1].Salt = c.Salt
	}
	a.Components = f.room[first:len(f.room):len(f.room)]
	f.last, f.lastIDs = a.Components, f.ids[firstID:]
}

// likeLast reports whether the agent leans on all components of the one before.
func (f *filling) likeLast(a *attest.Agent) bool {
	if len(a.Components) != len(f.lastIDs) {
		return false
	}
	for i := range a.Components {
		if c := &a.Components[i]; c.Known.IsZero() || c.Known != f.lastIDs[i] {
			return false
		}
	}
	return true
}

func (f *filling) find(id attest.Bytes32) *attest.Component {
	if id.IsZero() {
		return nil
	}
	if c := f.shown[id]; c != nil {
		return c
	}
	f.prepare()
	return f.kept[id]
}
