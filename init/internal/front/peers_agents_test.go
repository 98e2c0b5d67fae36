package front

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"testing"
	"time"

	"omega/attest"
	"omega/attest/atls"
	"omega/policy"
)

// withAgents gives the guest agents of these names.
func (g *guest) withAgents(t *testing.T, names ...string) {
	t.Helper()
	for _, name := range names {
		parts := []attest.Component{{Kind: attest.KindPolicy, Name: "agent policy", Digest: g.policy, Role: "operator", Principal: "measured image", Salt: attest.Bytes16{1}}}
		_, err := g.signer.Admit(attest.Agent{Instance: name, Name: name, State: attest.AgentRunning, Bundle: attest.Bytes32{1}, Salt: attest.Bytes16{2},
			Identity: attest.IdentityRoot(parts), Components: parts})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// shows is evidence with the agents that the asker in ctx may see.
func (g *guest) shows(ctx context.Context, r attest.Request) ([]byte, error) {
	names := Visible(ctx)
	e, err := g.signer.Evidence(ctx, r.Nonce, attest.View{Visible: func(name string) bool { return slices.Contains(names, name) }})
	if err != nil {
		return nil, err
	}
	return e.Marshal()
}

// seenIn are the instances that evidence shows.
func seenIn(e *attest.Evidence) (out []string) {
	for i := range e.Agents {
		if e.Agents[i].Shown() {
			out = append(out, e.Agents[i].Instance)
		}
	}
	return out
}

func TestAPlatformSeesTheAgentsThatThePolicyShowsToPeers(t *testing.T) {
	a, b := newGuest(t, 1), newGuest(t, 2)
	b.withAgents(t, "red-1", "blue-1", "open")
	callers, err := NewCallers(&policy.Document{
		Agents: []policy.AgentRule{{Name: "red-1"}, {Name: "blue-1"}, {Name: "open"}},
		Callers: []policy.Caller{
			{Name: "public", Anonymous: true, Rights: []string{policy.RightObserve}, Agents: []string{"open"}},
			{Name: "platforms", Peers: true, Rights: []string{policy.RightObserve, policy.RightDeploy}, Agents: []string{"red-*"}},
		},
	}, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	orders := &fleet{}
	f := testFront()
	f.Callers, f.Evidence, f.Agents, f.Output, f.Order = callers, b.shows, orders.agents, orders.output, orders.order
	takes := b.peers(t, a)
	takes.Own.Evidence = func(ctx context.Context, nonce [32]byte) ([]byte, error) {
		return b.shows(WithVisible(ctx, callers.ForPeers()), attest.Request{Version: attest.RequestVersion, Nonce: nonce})
	}
	address := b.serveWith(t, f, takes)

	var found *atls.Peer
	peer := &http.Client{Transport: &http.Transport{DialTLSContext: func(ctx context.Context, _, address string) (net.Conn, error) {
		conn, p, err := Dial(ctx, address, a.peers(t, b), (&net.Dialer{}).DialContext)
		found = p
		return conn, err
	}}}
	defer peer.CloseIdleConnections()
	plain := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	defer plain.CloseIdleConnections()
	for _, tt := range []struct {
		name   string
		client *http.Client
		want   []string // in evidence
		listed []string
		order  int
	}{
		{"a platform", peer, []string{"red-1", "open"}, []string{"r1", "o1"}, http.StatusOK},
		{"anybody", plain, []string{"open"}, []string{"o1"}, http.StatusUnauthorized},
	} {
		e, err := attest.ParseEvidence(get(t, tt.client, "https://"+address+EvidencePath+"?nonce="+attest.Bytes32{9}.String()))
		if err != nil {
			t.Fatal(err)
		}
		if got := seenIn(e); !slices.Equal(got, tt.want) || len(e.Agents) != 3 {
			t.Errorf("%s sees %v of %d agents in evidence, want %v", tt.name, got, len(e.Agents), tt.want)
		}
		var list Agents
		if err := json.Unmarshal(get(t, tt.client, "https://"+address+AgentsPath), &list); err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, g := range list.Agents {
			got = append(got, g.Instance)
		}
		if !slices.Equal(got, tt.listed) {
			t.Errorf("%s is listed %v, want %v", tt.name, got, tt.listed)
		}
		resp, err := tt.client.Post("https://"+address+DeployPath, "application/json", nil)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != tt.order {
			t.Errorf("%s deploys: %d, want %d", tt.name, resp.StatusCode, tt.order)
		}
	}
	if got := seenIn(found.Evidence); !slices.Equal(got, []string{"red-1", "open"}) {
		t.Errorf("in the exchange a platform sees %v", got)
	}
	if len(orders.orders) != 1 || orders.orders[0].Caller != "platforms" || !slices.Equal(orders.orders[0].Names, []string{"red-1"}) {
		t.Errorf("orders: %+v", orders.orders)
	}
}

func get(t *testing.T, client *http.Client, address string) []byte {
	t.Helper()
	resp, err := client.Get(address)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %d %s: %v", address, resp.StatusCode, b, err)
	}
	return b
}

// serveWith runs this front on a free port and returns its address.
func (g *guest) serveWith(t *testing.T, f *Front, peers *Peers) string {
	t.Helper()
	s := &Service{Identity: g.id, Handler: f.Handler(), Peers: peers, Log: slog.New(slog.DiscardHandler)}
	l := loopback(t)
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- s.Serve(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		if err := <-served; !errors.Is(err, context.Canceled) {
			t.Errorf("Serve ended with %v", err)
		}
	})
	return l.Addr().String()
}
