package gateway

import (
	"encoding/json"
	"slices"
	"strings"

	"omega/internal/strictjson"
	"omega/policy"
)

// permits says whether some rule could permit an action on a resource. It
// decides nothing: it spares an agent the sight of what it cannot use.
func (l *link) permits(action, resource string) bool {
	return l.anyPermit(action, func(name string) bool { return name == resource })
}

// permitsUnder is permits for any resource of a server.
func (l *link) permitsUnder(action, server string) bool {
	return l.anyPermit(action, func(name string) bool { return strings.HasPrefix(name, server+"/") })
}

func (l *link) anyPermit(action string, fits func(resource string) bool) bool {
	for _, p := range l.rule.Permits {
		if p.Action == action && slices.ContainsFunc(p.Names(), fits) {
			return true
		}
	}
	return false
}

// mayHear says whether a server may say anything unasked.
func (l *link) mayHear(server string) bool {
	for method := range notices {
		if l.permits("mcp."+method, server) {
			return true
		}
	}
	return false
}

// offers are the capabilities of a server that an agent is told of: those that
// the policy lets it use. What the server says of itself is not asked.
func (l *link) offers(server string) map[string]any {
	out := map[string]any{"tools": changes(l.permits("mcp.notifications/tools/list_changed", server))}
	if l.permitsUnder(policy.ActionPromptGet, server) || l.permits(policy.ActionPromptList, server) {
		out["prompts"] = changes(l.permits("mcp.notifications/prompts/list_changed", server))
	}
	if l.permits(policy.ActionResourceRead, server) || l.permits(policy.ActionResourceList, server) {
		resources := changes(l.permits("mcp.notifications/resources/list_changed", server))
		if l.permits(policy.ActionSubscribe, server) {
			resources["subscribe"] = true
		}
		out["resources"] = resources
	}
	if l.permits(policy.ActionComplete, server) {
		out["completions"] = map[string]any{}
	}
	if l.permits(policy.ActionLogLevel, server) || l.permits("mcp.notifications/message", server) {
		out["logging"] = map[string]any{}
	}
	return out
}

func changes(told bool) map[string]any {
	if told {
		return map[string]any{"listChanged": true}
	}
	return map[string]any{}
}

// capabilities are what a server may ask the agent: declared by the agent, and
// permitted by the policy.
func (l *link) capabilities(server string, declared map[string]json.RawMessage) map[string]any {
	out := map[string]any{}
	for _, name := range questions {
		raw, given := declared[name]
		if !given || !l.permits("mcp."+name, server) {
			continue
		}
		kept := map[string]any{}
		var parts map[string]json.RawMessage
		if json.Unmarshal(raw, &parts) == nil {
			for _, part := range []string{"form", "url", "tools", "context"} {
				if _, given := parts[part]; given {
					kept[part] = map[string]any{}
				}
			}
		}
		out[name] = kept
	}
	return out
}

// usable says whether an item of a list is shown: a prompt that some rule could
// permit; resources are named by their reader, so all are.
func (l *link) usable(server, list string, item json.RawMessage) bool {
	if list != "prompts" {
		return true
	}
	var p struct {
		Name string `json:"name"`
	}
	limits := strictjson.Limits{MaxBytes: maxAnswer, MaxDepth: maxAnswerDepth, AllowUnknown: true}
	return strictjson.Decode(item, &p, limits) == nil && l.permits(policy.ActionPromptGet, server+"/"+p.Name)
}
