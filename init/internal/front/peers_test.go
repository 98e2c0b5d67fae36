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
	"strings"
	"testing"

	"omega/attest"
	"omega/attest/atls"
	"omega/attest/verifier"
)

// peers is the guest as one side of attested TLS, which accepts who.
func (g *guest) peers(t *testing.T, who *guest) *Peers {
	t.Helper()
	return &Peers{
		Own: atls.Platform{Certificate: g.id.Certificate, Evidence: func(ctx context.Context, nonce [32]byte) ([]byte, error) {
			return g.evidence(ctx, attest.Request{Version: attest.RequestVersion, Nonce: nonce})
		}},
		Appraiser: who.appraiser(t),
		Log:       slog.New(slog.DiscardHandler),
	}
}

func TestAPlatformTalksToAnotherAfterBothHaveAppraised(t *testing.T) {
	a, b := newGuest(t, 1), newGuest(t, 2)
	address := b.serve(t, b.peers(t, a))
	ask := func(client *http.Client, path string) (int, string) {
		t.Helper()
		resp, err := client.Get("https://" + address + path)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(body)
	}
	var found *atls.Peer
	peer := &http.Client{Transport: &http.Transport{DialTLSContext: func(ctx context.Context, _, address string) (net.Conn, error) {
		conn, p, err := Dial(ctx, address, a.peers(t, b), (&net.Dialer{}).DialContext)
		found = p
		return conn, err
	}}}
	defer peer.CloseIdleConnections()
	status, body := ask(peer, PeerPath)
	var told struct {
		Verdict string         `json:"verdict"`
		BootID  attest.Bytes16 `json:"boot_id"`
		Checks  []attest.Check `json:"checks"`
	}
	if err := json.Unmarshal([]byte(body), &told); err != nil || status != http.StatusOK {
		t.Fatalf("%d %s: %v", status, body, err)
	}
	if told.Verdict != attest.VerdictEmulated || told.BootID != (attest.Bytes16{1}) || len(told.Checks) == 0 {
		t.Errorf("b says of a: %+v", told)
	}
	if found == nil || found.Evidence.Boot.BootID != (attest.Bytes16{2}) {
		t.Error("a does not know that it talks to b")
	}
	if status, body := ask(peer, "/log/checkpoint"); status != http.StatusOK || body != "note" {
		t.Errorf("the second request of a peer: %d %s", status, body)
	}
	plain := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	defer plain.CloseIdleConnections()
	if status, _ := ask(plain, PeerPath); status != http.StatusNotFound {
		t.Errorf("who did not attest is answered %d", status)
	}
	if status, _ := ask(plain, "/log/checkpoint"); status != http.StatusOK {
		t.Errorf("an ordinary client beside peers is answered %d", status)
	}
}

func TestAPlatformIsRefusedByTheOthersPolicy(t *testing.T) {
	a, b, c := newGuest(t, 1), newGuest(t, 2), newGuest(t, 3)
	tests := []struct {
		name         string
		serves, asks *Peers
		want         error
		words        string
	}{
		{"the listener accepts another release", b.peers(t, c), a.peers(t, b), nil, "bad certificate"},
		{"the dialer accepts another release", b.peers(t, a), a.peers(t, c), attest.ErrMismatch, "measurement"},
		{"the listener takes no emulated evidence", hardwareOnly(b.peers(t, a)), a.peers(t, b), nil, "bad certificate"},
		{"the dialer takes no emulated evidence", b.peers(t, a), hardwareOnly(a.peers(t, b)), verifier.ErrEmulated, "emulated"},
		{"a platform that talks to none", nil, a.peers(t, b), nil, "no application protocol"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			conn, _, err := Dial(t.Context(), b.serve(t, tt.serves), tt.asks, (&net.Dialer{}).DialContext)
			if err == nil {
				conn.Close()
				t.Fatal("connected")
			}
			if tt.want != nil && !errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.words) {
				t.Errorf("%v, want %v with %q", err, tt.want, tt.words)
			}
		})
	}
}

func hardwareOnly(p *Peers) *Peers {
	p.Appraiser.Params.EmulatedRoot = nil
	return p
}
