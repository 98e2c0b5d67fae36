package front

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"omega/policy"
)

// desk stands behind the front as the gateway does: who may ask what is the
// policy's to say.
type desk struct {
	doc   *policy.Document
	hold  chan struct{} // requests to red-1 wait for it
	begun chan struct{} // told when one begins to wait
}

func (d *desk) invoke(ctx context.Context, inv Invocation) (*Answer, error) {
	who, ok := d.doc.Requester(inv.Callers, policy.RightInvoke, inv.Agent)
	switch {
	case !ok:
		return nil, RefuseAsked("no_such_agent", "no such agent")
	case string(inv.Input) == "break":
		return nil, errors.New("inner detail")
	case string(inv.Input) == "evil":
		return &Answer{Instance: "x", ContentType: "text/plain", Output: []byte("<script>")}, nil
	case string(inv.Input) == "wait":
		d.begun <- struct{}{}
		select {
		case <-d.hold:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return &Answer{Instance: inv.Agent + "/1", Labels: append(who.Labels, "readers:a,b"), ContentType: "text/plain", Statement: []byte(`{"x":1}`),
		Output: []byte(who.Name + " " + inv.Session + " " + inv.ContentType + " " + string(inv.Input))}, nil
}

func (d *desk) pending(_ context.Context, callers []string) ([]byte, error) {
	return []byte(`{"approvals":["` + strings.Join(callers, " ") + `"]}`), nil
}

func (d *desk) approve(_ context.Context, callers []string, statement []byte) (uint64, error) {
	if _, ok := d.doc.Requester(callers, policy.RightApprove, string(statement)); !ok {
		return 0, RefuseAsked("no_question", "no such question")
	}
	return 7, nil
}

func newDesk(t *testing.T) (*house, *desk) {
	t.Helper()
	h := &house{fleet: &fleet{}, t: t, clients: map[string]*http.Client{}}
	d := &desk{hold: make(chan struct{}), begun: make(chan struct{}, 64),
		doc: &policy.Document{Agents: []policy.AgentRule{{Name: "red-1"}, {Name: "blue-1"}, {Name: "open"}}}}
	certs := map[string]*tls.Certificate{"nobody": nil}
	for _, m := range []struct {
		name           string
		rights, agents []string
	}{
		{"red", []string{policy.RightInvoke}, []string{"red-*"}},
		{"blue", []string{policy.RightInvoke, policy.RightApprove}, []string{"blue-*"}},
		{"watcher", []string{policy.RightObserve}, []string{"*"}},
	} {
		caller, cert := member(t, m.name, m.rights, m.agents)
		d.doc.Callers, certs[m.name] = append(d.doc.Callers, caller), cert
	}
	d.doc.Callers = append(d.doc.Callers, policy.Caller{Name: "public", Anonymous: true, Rights: []string{policy.RightInvoke}, Agents: []string{"open"}})
	callers, err := NewCallers(d.doc, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	f := testFront()
	f.Callers, f.Invoke, f.Pending, f.Approve = callers, d.invoke, d.pending, d.approve
	h.serve(f)
	for name, cert := range certs {
		config := &tls.Config{InsecureSkipVerify: true}
		if cert != nil {
			config.Certificates = []tls.Certificate{*cert}
		}
		h.clients[name] = &http.Client{Transport: &http.Transport{TLSClientConfig: config}}
		t.Cleanup(h.clients[name].CloseIdleConnections)
	}
	return h, d
}

func TestEachTenantAsksItsOwnAgentsAndThePublicOnes(t *testing.T) {
	h, _ := newDesk(t)
	for _, tt := range []struct {
		who, agent string
		status     int
		body       string
	}{
		{"red", "red-1", 200, "red   hello"},
		{"red", "blue-1", 404, "no_such_agent"},
		{"red", "open", 200, "public   hello"},
		{"blue", "blue-1", 200, "blue   hello"},
		{"blue", "red-1", 404, "no_such_agent"},
		{"nobody", "open", 200, "public   hello"},
		{"nobody", "red-1", 404, "no_such_agent"},
		{"watcher", "red-1", 404, "no_such_agent"},
	} {
		if status, body := h.ask(tt.who, "POST", InvokePath+tt.agent, "hello"); status != tt.status || !strings.Contains(body, tt.body) {
			t.Errorf("%s asks %s: %d %q, want %d with %q", tt.who, tt.agent, status, body, tt.status, tt.body)
		}
	}
}

func TestApprovalsAreForThoseWhoMayApprove(t *testing.T) {
	h, _ := newDesk(t)
	for _, tt := range []struct {
		who, method, path, text string
		status                  int
		body                    string
	}{
		{"blue", "GET", ApprovalsPath, "", 200, "public blue"},
		{"red", "GET", ApprovalsPath, "", 403, "no_right"},
		{"nobody", "GET", ApprovalsPath, "", 401, "not_known"},
		{"blue", "POST", ApprovePath, "blue-1", 200, `{"entry":7}`},
		{"blue", "POST", ApprovePath, "red-1", 404, "no_question"},
		{"blue", "POST", ApprovePath, strings.Repeat("x", maxApproval+1), 413, "too_long"},
		{"red", "POST", ApprovePath, "red-1", 403, "no_right"},
		{"nobody", "POST", ApprovePath, "open", 401, "not_known"},
	} {
		if status, body := h.ask(tt.who, tt.method, tt.path, tt.text); status != tt.status || !strings.Contains(body, tt.body) {
			t.Errorf("%s: %s %s = %d %q, want %d with %q", tt.who, tt.method, tt.path, status, body, tt.status, tt.body)
		}
	}
}

func TestAnAgentsAnswerIsNoPageOfThePlatforms(t *testing.T) {
	h, _ := newDesk(t)
	req, err := http.NewRequest("POST", h.address+InvokePath+"red-1", strings.NewReader("evil"))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := h.clients["red"].Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if h := resp.Header; h.Get("Content-Type") != "text/plain" || h.Get("X-Content-Type-Options") != "nosniff" || !strings.Contains(h.Get("Content-Security-Policy"), "sandbox") ||
		h.Get(HeaderStatement) != "" || h.Get(HeaderLabels) != "[]" {
		t.Errorf("headers %v", resp.Header)
	}
	req, _ = http.NewRequest("POST", h.address+InvokePath+"red-1", strings.NewReader("hello"))
	req.Header.Set("Content-Type", "text/plain")
	req.Header.Set(HeaderSession, "s-1")
	if resp, err = h.clients["red"].Do(req); err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	statement, err := base64.StdEncoding.DecodeString(resp.Header.Get(HeaderStatement))
	if err != nil || string(statement) != `{"x":1}` || resp.Header.Get(HeaderLabels) != `["readers:a,b"]` || resp.Header.Get(HeaderInstance) != "red-1/1" {
		t.Errorf("headers %v", resp.Header)
	}
}

func TestRequestsToAgentsAreBounded(t *testing.T) {
	h, d := newDesk(t)
	if status, body := h.ask("red", "POST", InvokePath+"red-1", strings.Repeat("x", maxInvocation+1)); status != 413 || !strings.Contains(body, "too_long") {
		t.Errorf("too long: %d %s", status, body)
	}
	if status, body := h.ask("red", "POST", InvokePath+"red-1", "break"); status != 503 || strings.Contains(body, "inner detail") {
		t.Errorf("an inner error: %d %s", status, body)
	}
	req, _ := http.NewRequest("POST", h.address+InvokePath+"red-1", strings.NewReader("x"))
	req.Header.Set(HeaderSession, "a b")
	if resp, err := h.clients["red"].Do(req); err != nil || resp.StatusCode != 400 {
		t.Errorf("an odd session: %v %v", resp, err)
	} else {
		resp.Body.Close()
	}
	var wg sync.WaitGroup
	statuses := make(chan int, 3*maxInvokingPerCaller)
	for range cap(statuses) {
		wg.Go(func() {
			status, _ := h.ask("red", "POST", InvokePath+"red-1", "wait")
			statuses <- status
		})
	}
	for len(statuses) < cap(statuses)-maxInvokingPerCaller {
		time.Sleep(time.Millisecond)
	}
	if status, body := h.ask("blue", "POST", InvokePath+"blue-1", "x"); status != 200 {
		t.Errorf("another caller beside them: %d %s", status, body)
	}
	close(d.hold)
	wg.Wait()
	count := map[int]int{}
	for range cap(statuses) {
		count[<-statuses]++
	}
	if count[200] != maxInvokingPerCaller || count[429] != 2*maxInvokingPerCaller {
		t.Errorf("answers %v", count)
	}
}

func TestACallerWhoHangsUpMakesNoRoomBeforeItsAgentIsDone(t *testing.T) {
	h, d := newDesk(t)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for range maxInvokingPerCaller {
		wg.Go(func() {
			req, err := http.NewRequestWithContext(ctx, "POST", h.address+InvokePath+"red-1", strings.NewReader("wait"))
			if err != nil {
				t.Error(err)
				return
			}
			if resp, err := h.clients["red"].Do(req); err == nil {
				resp.Body.Close()
				t.Error("an answer came")
			}
		})
	}
	for range maxInvokingPerCaller {
		<-d.begun
	}
	cancel()
	wg.Wait()
	if status, body := h.ask("red", "POST", InvokePath+"red-1", "x"); status != 429 {
		t.Errorf("beside those that nobody waits for: %d %s", status, body)
	}
	close(d.hold)
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		if status, _ := h.ask("red", "POST", InvokePath+"open", "x"); status == 200 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("no room, although the agent is done")
		}
		time.Sleep(100 * time.Millisecond)
	}
}
