package bundle

import (
	"errors"
	"fmt"
	"strings"
)

// Engine says that the bundle is an inference engine: it serves OpenAI's interfaces on the port of `serve`
// with the bundle's model, and runs confined without gVisor. It is started when an agent asks its model
// something, once for each set of adapters.
type Engine struct {
	// AdapterArgs are the words that follow the command for each adapter; {path} and {name} in them are the
	// adapter's. An engine without them takes no adapters.
	AdapterArgs []string `json:"adapter_args,omitempty"`
	// Processes is how many run at most at once; 0 is one. Each has the engine's limits for itself.
	Processes int `json:"processes,omitempty"`
	// GPU gives the machine's GPU to the engine: one process, and no other engine beside it.
	GPU bool `json:"gpu,omitempty"`
}

// Inference is the engine behind the models of an agent: the name of the policy's engine, and the digest of
// the bundle that must run there. The agent's own `model` is then the model that the engine must have, and its
// `adapters` are those that the engine applies for this agent.
type Inference struct {
	Engine string `json:"engine"`
	Bundle Digest `json:"bundle"`
}

// Where an adapter stands in the words of AdapterArgs.
const (
	adapterPath = "{path}"
	adapterName = "{name}"
)

const maxProcessesOfEngine = 64

// Most is how many processes of the engine run at most.
func (e *Engine) Most() int { return max(e.Processes, 1) }

// Words are the engine's command for these adapters, whose files lie at the given paths.
func (e *Engine) Words(command []string, names, paths []string) ([]string, error) {
	if len(names) > 0 && len(e.AdapterArgs) == 0 {
		return nil, errors.New("the engine takes no adapters")
	}
	out := append([]string(nil), command...)
	for i := range names {
		fill := strings.NewReplacer(adapterPath, paths[i], adapterName, names[i])
		for _, w := range e.AdapterArgs {
			out = append(out, fill.Replace(w))
		}
	}
	return out, nil
}

// checkEngine checks an engine's own part, and that it is nothing else beside.
func (m *Manifest) checkEngine() error {
	e := m.Engine
	if e == nil {
		return nil
	}
	switch {
	case m.Serve == nil || m.Model == nil:
		return errors.New("engine: it needs serve, where it is asked, and a model")
	case m.Server != nil || m.Restart != nil || m.Warm != nil || m.Inference != nil || len(m.Card) > 0:
		return errors.New("engine: it is started when it is asked, and has neither server, restart, warm, inference nor card")
	case len(m.Tools)+len(m.Models)+len(m.Peers) > 0:
		return errors.New("engine: it asks nobody, and names neither tools, models nor peers")
	case len(m.Adapters) > 0:
		return errors.New("engine: adapters are their agents', and the engine has none of its own")
	case e.Processes < 0 || e.Processes > maxProcessesOfEngine || e.GPU && e.Processes > 1:
		return fmt.Errorf("engine: %d processes", e.Processes)
	}
	return e.checkArgs()
}

func (e *Engine) checkArgs() error {
	if len(e.AdapterArgs) > maxList {
		return fmt.Errorf("engine: %d words for an adapter", len(e.AdapterArgs))
	}
	has := len(e.AdapterArgs) == 0
	for _, w := range e.AdapterArgs {
		if !plain(w) {
			return fmt.Errorf("engine: word %.80q", w)
		}
		has = has || strings.Contains(w, adapterPath)
	}
	if !has {
		return fmt.Errorf("engine: adapter_args do not say where %s stands", adapterPath)
	}
	return nil
}

// checkInference checks which engine an agent leans on.
func (m *Manifest) checkInference() error {
	i := m.Inference
	switch {
	case i == nil:
		return nil
	case !ValidName(i.Engine) || i.Bundle.IsZero():
		return fmt.Errorf("inference: engine %.80q without a name or a bundle", i.Engine)
	case m.Model == nil:
		return errors.New("inference: the bundle does not say which model its engine has")
	case len(m.Models) == 0:
		return errors.New("inference: the bundle names no model of the policy")
	case m.Server != nil:
		return errors.New("inference beside server")
	}
	return nil
}
