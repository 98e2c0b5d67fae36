package sandbox

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// gateway is where the shim listens, as agents see it.
const gateway = "http://127.0.0.1:3128"

// These tell the shim its descriptors and the agent's port; the shim hides them from the agent.
const (
	linkVariable    = "OMEGA_LINK_FD"
	gateVariable    = "OMEGA_GATE_FD"
	inboundVariable = "OMEGA_INBOUND_FD"
	portVariable    = "OMEGA_INBOUND_PORT"
)

// forShim is what the shim reads beside the agent's environment.
func (s Spec) forShim() []string {
	out := []string{fmt.Sprintf("%s=%d", linkVariable, linkFD), fmt.Sprintf("%s=%d", gateVariable, gateFD)}
	port := strconv.Itoa(s.Port)
	if s.Stdio {
		port = "stdio"
	}
	if s.Inbound != nil {
		out = append(out, fmt.Sprintf("%s=%d", inboundVariable, inboundFD), portVariable+"="+port)
	}
	return out
}

// Env returns an agent's environment: its own variables, overridden by the platform's. Agents that
// know nothing of Omega find their model and their tools through the names their libraries use.
func Env(own map[string]string, servers []string) ([]string, error) {
	env := map[string]string{
		"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		"HOME": "/tmp",
	}
	maps.Copy(env, own)
	urls := map[string]string{}
	for _, s := range servers {
		urls[s] = gateway + "/mcp/" + s
		env["MCP_"+variable(s)+"_URL"] = urls[s]
	}
	list, err := json.Marshal(urls)
	if err != nil {
		return nil, fmt.Errorf("environment: %w", err)
	}
	env["MCP_SERVERS"] = string(list)
	env["OPENAI_BASE_URL"] = gateway + "/v1"
	env["OPENAI_API_KEY"] = "unused" // libraries insist on one; the gateway adds the real one
	for _, name := range []string{linkVariable, gateVariable, inboundVariable, portVariable} {
		delete(env, name)
	}
	out := make([]string, 0, len(env))
	for _, k := range slices.Sorted(maps.Keys(env)) {
		out = append(out, k+"="+env[k])
	}
	return out, nil
}

// variable turns a server's name into a part of a variable's.
func variable(name string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' {
			return r
		}
		return '_'
	}, strings.ToUpper(name))
}
