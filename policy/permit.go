package policy

import "strings"

// Permit allows one action on the resources it names. What no permit allows is
// denied; all conditions of a permit must hold.
type Permit struct {
	ID        string   `json:"id"`
	Action    string   `json:"action"`
	Resource  string   `json:"resource,omitempty"`
	Resources []string `json:"resources,omitempty"` // in the place of one resource

	Args     map[string]Constraint `json:"args,omitempty"`      // arguments not named here are denied,
	MoreArgs bool                  `json:"more_args,omitempty"` // unless further ones may have any value

	Limit        int                `json:"limit,omitempty"`         // calls for each agent instance; 0: no limit
	SessionLimit int                `json:"session_limit,omitempty"` // calls for each session
	Rate         *Rate              `json:"rate,omitempty"`
	Budgets      map[string]float64 `json:"budgets,omitempty"` // of this rule alone, beside the agent's
	When         []Window           `json:"when,omitempty"`    // at least one of these must be now

	Conditions []string `json:"conditions,omitempty"` // rules of the document's Rego that must be true

	Consequential bool     `json:"consequential,omitempty"` // needs trusted influence, or
	Endorse       []string `json:"endorse,omitempty"`       // these arguments to equal values of trusted sources
	Readers       []string `json:"readers,omitempty"`       // who reads what is sent; absent: the upstream's
	Recipients    []string `json:"recipients,omitempty"`    // arguments that name who reads what is sent
	Result        *Result  `json:"result,omitempty"`        // what comes back; absent: the upstream's

	Approval string `json:"approval,omitempty"` // the principal that must approve each call
	// ApprovalWait is how many seconds a call is held until it is approved; with
	// 0 it is denied at once, and made again when it is.
	ApprovalWait int `json:"approval_wait,omitempty"`

	Narrows []string `json:"narrows,omitempty"` // rules that an instance loses when it uses this one
	Instead string   `json:"instead,omitempty"` // what the agent can do when this is denied
}

// Names lists the resources of a permit.
func (p Permit) Names() []string {
	if len(p.Resources) > 0 {
		return p.Resources
	}
	return []string{p.Resource}
}

// Rate is the most calls in any stretch of that many seconds.
type Rate struct {
	Calls   int `json:"calls"`
	Seconds int `json:"seconds"`
}

// Window is a time at which a permit holds, in UTC. All parts given count.
type Window struct {
	Days   []string `json:"days,omitempty"`   // mon, tue, wed, thu, fri, sat, sun
	From   string   `json:"from,omitempty"`   // HH:MM, included
	Until  string   `json:"until,omitempty"`  // HH:MM, excluded; 24:00 is the day's end
	After  string   `json:"after,omitempty"`  // RFC 3339
	Before string   `json:"before,omitempty"` // RFC 3339
}

// Constraint is what an argument must satisfy; all parts that are given count.
// A constraint with none of them is refused.
type Constraint struct {
	Type       string                `json:"type,omitempty"` // string, number, integer, boolean, array, object
	Optional   bool                  `json:"optional,omitempty"`
	Equals     any                   `json:"equals,omitempty"`
	Enum       []any                 `json:"enum,omitempty"`
	Pattern    string                `json:"pattern,omitempty"` // RE2, must match the whole text
	Prefix     string                `json:"prefix,omitempty"`  // a folder; see docs/policy.md for what is no path
	URL        *URLForm              `json:"url,omitempty"`
	Address    *AddressForm          `json:"address,omitempty"`    // one mail address
	Recipients []string              `json:"recipients,omitempty"` // each of a list, or of a text with commas, is one of these
	Min        *float64              `json:"min,omitempty"`
	Max        *float64              `json:"max,omitempty"`
	MinLength  *int                  `json:"min_length,omitempty"` // characters of a text, elements of an array
	MaxLength  *int                  `json:"max_length,omitempty"`
	MaxSum     *float64              `json:"max_sum,omitempty"` // of an array of non-negative numbers
	Budget     string                `json:"budget,omitempty"`  // the number, or the sum of the array, is charged to it
	Each       *Constraint           `json:"each,omitempty"`    // holds for every element
	Any        *Constraint           `json:"any,omitempty"`     // holds for at least one element
	Fields     map[string]Constraint `json:"fields,omitempty"`  // of an object; others are denied
}

// URLForm is what a URL must be. User, fragment, escapes in the host and
// addresses in unusual notations never fit.
type URLForm struct {
	Schemes []string `json:"schemes,omitempty"` // absent: https
	Hosts   []string `json:"hosts"`             // a name, or *.suffix for every name below it
	Ports   []int    `json:"ports,omitempty"`   // absent: none may be written
	Prefix  string   `json:"prefix,omitempty"`  // folder of its path
	Query   bool     `json:"query,omitempty"`   // a query may follow
}

// AddressForm is what a mail address must be.
type AddressForm struct {
	Domains []string `json:"domains"` // a name, or *.suffix for every name below it
}

// RuleInvoke is the rule of a caller's request.
const RuleInvoke = "invoke"

// RuleAnswer is the rule of the answer to it. A colon is in no rule's own name.
const RuleAnswer = "answer:caller"

// ofCallers says whether an action is the doing of a caller, or of another platform's agent, and not the agent's.
func ofCallers(action string) bool {
	return action == ActionInvoke || action == ActionAnswer || action == ActionReceive
}

// Implied are the permits that follow from others: whoever may call some tool
// of a server may list its tools, and who may use anything of it may listen in
// its session and end it. Whoever may talk to a peer may see its card.
func (a AgentRule) Implied() []Permit {
	var out []Permit
	seen := map[[2]string]bool{}
	for _, p := range a.Permits {
		for _, r := range p.Names() {
			server, _, _ := strings.Cut(r, "/")
			for _, action := range follows(p.Action) {
				if key := [2]string{action, server}; !seen[key] {
					seen[key] = true
					out = append(out, Permit{ID: impliedName(action) + server, Action: action, Resource: server, Result: listed(action)})
				}
			}
		}
	}
	return out
}

// follows lists the actions that a permit for one brings along.
func follows(action string) []string {
	var out []string
	if list, ok := listing[action]; ok {
		out = append(out, list)
	}
	switch a, _ := ActionNamed(action); {
	case a.Kind == kindTool || a.Kind == kindServer:
		out = append(out, ActionHear, ActionEnd)
	case a.Kind == kindPeer && action != ActionReceive && action != ActionCard:
		out = append(out, ActionCard)
	}
	return out
}

// listing says which list belongs to which call.
var listing = map[string]string{
	ActionCall: ActionList, ActionPromptGet: ActionPromptList, ActionResourceRead: ActionResourceList,
}

// listed is what a list says: tools and cards are shown as they were signed, the others
// are the server's own words. What is heard in a session is decided message by
// message.
func listed(list string) *Result {
	if list == ActionList || list == ActionHear || list == ActionEnd || list == ActionCard {
		return &Result{Integrity: Trusted}
	}
	return nil
}

// impliedName begins the name of an implied rule. A colon is in no rule's own name.
func impliedName(list string) string {
	switch list {
	case ActionPromptList:
		return "list-prompts:"
	case ActionResourceList:
		return "list-resources:"
	case ActionHear:
		return "listen:"
	case ActionEnd:
		return "end:"
	case ActionCard:
		return "card:"
	}
	return "list:"
}
