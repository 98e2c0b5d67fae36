package front

import (
	"context"
	"net/http"
	"sync"
	"time"

	"omega/policy"
)

// Where callers see and command agents.
const (
	AgentsPath = "/v1/agents"
	DeployPath = "/v1/deploy"
)

// maxStatement bounds a deployment or removal (bundle.MaxSignature).
const maxStatement = 128 << 10

// orderTimeout bounds one deployment or removal: the fetcher gives up before.
const orderTimeout = 5 * time.Minute

// Bounds of the orders that are worked on at once: a slow registry of one
// caller's must leave room for the others.
const (
	maxOrders          = 8
	maxOrdersPerCaller = 2
)

// Agent is one agent as its observers see it.
type Agent struct {
	Instance string    `json:"instance"`
	Name     string    `json:"name"`
	Bundle   string    `json:"bundle"` // digest
	State    string    `json:"state"`
	Restarts int       `json:"restarts"`
	Health   string    `json:"health,omitempty"`
	ExitCode *int      `json:"exit_code,omitempty"` // of its last end
	Since    time.Time `json:"since"`               // it has been in this state
}

// Agents answers a GET of AgentsPath.
type Agents struct {
	Agents []Agent `json:"agents"`
}

// Output answers a GET of an agent's output.
type Output struct {
	Instance string   `json:"instance"`
	Lines    []string `json:"lines"` // the last ones, the oldest first
}

// Order is a deployment or a removal that a caller hands in.
type Order struct {
	Statement []byte   // as it came
	Caller    string   // its name in the policy
	Names     []string // of the agents that it may have deployed and removed
	Removes   string   // if given, the order must be a removal of this instance
}

// Done is what became of an order that was carried out.
type Done struct {
	Instance string `json:"instance"`
	Name     string `json:"name,omitempty"`
	Bundle   string `json:"bundle"`
	State    string `json:"state"`
	ExitCode *int   `json:"exit_code,omitempty"`
}

// Words for programs, of orders that are refused.
const (
	CodeMalformed   = "malformed"
	CodeSignature   = "signature"
	CodeExpired     = "expired"
	CodeAudience    = "audience"
	CodeReplayed    = "replayed"
	CodeNoRight     = "no_right"
	CodeNoSuchAgent = "no_such_agent"
	CodeTaken       = "taken"
	CodeEnded       = "ended"
	CodeRegistry    = "registry"
	CodeRefused     = "refused"
)

// refusals say for each of them the status, and what to do next.
var refusals = map[string]struct {
	status int
	next   string
}{
	CodeMalformed:   {http.StatusBadRequest, "sign a deployment or removal as docs/bundle.md describes it; omega deploy does"},
	CodeSignature:   {http.StatusForbidden, "have the principals sign that the policy demands: for the statement a deployer of that agent, for the bundle those that the agent's rule requires"},
	CodeExpired:     {http.StatusForbidden, "sign a new statement that expires later"},
	CodeAudience:    {http.StatusForbidden, "sign a statement for this platform, or for this boot"},
	CodeReplayed:    {http.StatusConflict, "sign a new statement with another serial: none is accepted twice"},
	CodeNoRight:     {http.StatusForbidden, "ask the owner of the platform's policy for the right to deploy agents of that name"},
	CodeNoSuchAgent: {http.StatusNotFound, "list the agents that you may see: GET /v1/agents"},
	CodeTaken:       {http.StatusConflict, "deploy under another instance name; a name stands for one agent in a boot"},
	CodeEnded:       {http.StatusConflict, "nothing: it does not run any more"},
	CodeRegistry:    {http.StatusBadGateway, "push the bundle to the platform's registry mirror, then deploy again"},
	CodeRefused:     {http.StatusUnprocessableEntity, "change what the words name, then deploy again"},
}

// Refuse is the Problem of an order that was refused for the reason that code
// names.
func Refuse(code, words string) *Problem {
	r, ok := refusals[code]
	if !ok {
		code, r = CodeRefused, refusals[CodeRefused]
	}
	return &Problem{Status: r.status, Code: code, Message: words, Next: r.next}
}

func (f *Front) listAgents(w http.ResponseWriter, r *http.Request, who Who) {
	ctx, cancel := context.WithTimeout(r.Context(), requestTimeout)
	defer cancel()
	list, err := f.Agents(ctx, who.Observed())
	if err != nil {
		f.problem(w, err)
		return
	}
	if list == nil {
		list = []Agent{}
	}
	f.reply(w, Agents{list})
}

func (f *Front) agentOutput(w http.ResponseWriter, r *http.Request, who Who) {
	ctx, cancel := context.WithTimeout(r.Context(), requestTimeout)
	defer cancel()
	out := Output{Instance: r.PathValue("instance")}
	lines, err := f.Output(ctx, out.Instance, who.Caller(policy.RightOutput), who.Names(policy.RightOutput))
	if err != nil {
		f.problem(w, err)
		return
	}
	if out.Lines = lines; lines == nil {
		out.Lines = []string{}
	}
	f.reply(w, out)
}

// orders takes deployments, and removals of the instance in the path if there
// is one.
func (f *Front) orders() func(w http.ResponseWriter, r *http.Request, who Who) {
	t := &turns{max: maxOrders, each: maxOrdersPerCaller, of: map[string]int{}}
	return func(w http.ResponseWriter, r *http.Request, who Who) {
		o := Order{Caller: who.Caller(policy.RightDeploy), Names: who.Names(policy.RightDeploy), Removes: r.PathValue("instance")}
		leave, ok := t.enter(o.Caller)
		if !ok {
			f.problem(w, &Problem{http.StatusTooManyRequests, "busy", "orders of yours, or of many callers, are being carried out", "wait for them to end, then send this one again"})
			return
		}
		defer leave()
		var err error
		if o.Statement, err = body(w, r, maxStatement); err != nil {
			f.problem(w, err)
			return
		}
		// Pulling a bundle takes longer than other requests may.
		until := time.Now().Add(orderTimeout + requestTimeout)
		c := http.NewResponseController(w)
		_, _ = c.SetReadDeadline(until), c.SetWriteDeadline(until) // a connection without deadlines has none to move
		// Whoever hangs up keeps the turn until the order is done: it is worked on.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), orderTimeout)
		defer cancel()
		done, err := f.Order(ctx, o)
		if err != nil {
			f.problem(w, err)
			return
		}
		f.reply(w, done)
	}
}

// turns bounds what is worked on at once, of all and of each caller.
type turns struct {
	max, each int

	mu  sync.Mutex // guards what follows
	all int
	of  map[string]int
}

// enter takes a turn; leave gives it back.
func (t *turns) enter(caller string) (leave func(), ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.all >= t.max || t.of[caller] >= t.each {
		return nil, false
	}
	t.all++
	t.of[caller]++
	return func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.all--
		if t.of[caller]--; t.of[caller] == 0 {
			delete(t.of, caller)
		}
	}, true
}
