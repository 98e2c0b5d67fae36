package signer

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"omega/attest"
)

// everything is the view of who may see all agents.
var everything = attest.View{Visible: func(string) bool { return true }}

// admit adds a small agent.
func admit(t *testing.T, s *Signer, instance string) attest.Agent {
	t.Helper()
	c := []attest.Component{
		{Kind: "policy", Name: "p", Salt: attest.Bytes16{1}},
		{Kind: "model", Name: "m", Digest: attest.Bytes32{3}, Principal: "mia", Salt: attest.Bytes16{2}},
	}
	a := attest.Agent{Instance: instance, State: attest.AgentAdmitted, Name: "demo", Bundle: attest.Bytes32{1}, Salt: attest.Bytes16{4}, Identity: attest.IdentityRoot(c), Components: c}
	index, err := s.Admit(a)
	if err != nil {
		t.Fatal(err)
	}
	a.Index = index
	return a
}

// slow is a device whose reports wait until release is closed; it counts them.
type slow struct {
	release chan struct{}
	entered chan struct{}
	reports atomic.Int32
}

func newSlow() *slow { return &slow{release: make(chan struct{}), entered: make(chan struct{}, 1000)} }

func (d *slow) Report(ctx context.Context, data [64]byte) ([]byte, []byte, error) {
	d.reports.Add(1)
	d.entered <- struct{}{}
	select {
	case <-d.release:
		return data[:], nil, nil
	case <-ctx.Done():
		return nil, nil, ctx.Err()
	}
}

func TestNoncesThatArriveTogetherShareOneReport(t *testing.T) {
	d := newSlow()
	s := newSigner(t, d)
	complete(t, s)
	var wg sync.WaitGroup
	ask := func(n byte) {
		wg.Go(func() {
			nonce := [32]byte{n, 1}
			e, err := s.Evidence(t.Context(), nonce, everything)
			if err != nil {
				t.Error(err)
				return
			}
			if e.Nonce.Nonce != nonce || !e.Nonce.Holds(&e.Session) {
				t.Errorf("nonce %d: the proof does not lead to the session's root", n)
			}
			if [64]byte(e.Report) != attest.ReportData(e.Boot.Digest(), e.Session.Digest()) {
				t.Errorf("nonce %d: the report is over another session", n)
			}
		})
	}
	ask(0)
	<-d.entered // the first report is being made; the next 50 wait for the second
	for n := byte(1); n <= 50; n++ {
		ask(n)
	}
	for {
		s.mu.Lock()
		n := len(s.waiting)
		s.mu.Unlock()
		if n == 50 {
			break
		}
	}
	close(d.release)
	wg.Wait()
	if n := d.reports.Load(); n != 2 {
		t.Errorf("51 nonces cost %d reports, want 2", n)
	}
}

func TestOneWhoGoesAwayTakesNoReportFromTheOthers(t *testing.T) {
	d := newSlow()
	s := newSigner(t, d)
	complete(t, s)
	ctx, cancel := context.WithCancel(t.Context())
	gone, kept := make(chan error, 1), make(chan error, 1)
	go func() { _, err := s.Evidence(ctx, [32]byte{1}, everything); gone <- err }()
	<-d.entered // the one that leaves has the device's turn
	go func() { _, err := s.Evidence(t.Context(), [32]byte{2}, everything); kept <- err }()
	cancel()
	close(d.release)
	if err := <-kept; err != nil {
		t.Errorf("the other: %v", err)
	}
	if err := <-gone; err != nil && !errors.Is(err, context.Canceled) {
		t.Errorf("the one that left: %v", err)
	}
}

func TestAFloodIsRefusedAndTheNextClientIsServed(t *testing.T) {
	d := newSlow()
	s := newSigner(t, d)
	complete(t, s)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	var busy atomic.Int32
	for n := range 3 * maxWaiting {
		wg.Go(func() {
			if _, err := s.Evidence(ctx, [32]byte{byte(n), 1, byte(n >> 8)}, everything); errors.Is(err, ErrBusy) {
				busy.Add(1)
			}
		})
	}
	for busy.Load() == 0 {
	}
	cancel() // all of the flood goes away
	close(d.release)
	wg.Wait()
	s.mu.Lock()
	left := len(s.waiting)
	s.mu.Unlock()
	if left != 0 {
		t.Errorf("%d tickets of those who went away are left", left)
	}
	if _, err := s.Evidence(t.Context(), [32]byte{9}, everything); err != nil {
		t.Errorf("after the flood: %v", err)
	}
}

func TestTheSameQuestionInTheSameStateCostsNoSecondReport(t *testing.T) {
	d := newSlow()
	close(d.release)
	s := newSigner(t, d)
	complete(t, s)
	for range 3 {
		if _, err := s.Evidence(t.Context(), [32]byte{1}, everything); err != nil {
			t.Fatal(err)
		}
	}
	if n := d.reports.Load(); n != 1 {
		t.Errorf("one nonce cost %d reports", n)
	}
	admit(t, s, "a")
	e, err := s.Evidence(t.Context(), [32]byte{1}, everything)
	if err != nil || d.reports.Load() != 2 || e.Session.AgentCount != 1 {
		t.Errorf("after a change: %d reports, %+v, %v", d.reports.Load(), e, err)
	}
	for n := range 3 * maxRecent {
		if _, err := s.Evidence(t.Context(), [32]byte{byte(n), byte(n >> 8), 7}, everything); err != nil {
			t.Fatal(err)
		}
	}
	if len(s.recent) > maxRecent {
		t.Errorf("%d answers are kept", len(s.recent))
	}
}

func TestAFailedReportIsToldToAllWhoWaitedAndTheNextIsTried(t *testing.T) {
	fail := atomic.Bool{}
	fail.Store(true)
	s := newSigner(t, deviceFunc(func(_ context.Context, data [64]byte) ([]byte, []byte, error) {
		if fail.Load() {
			return nil, nil, errors.New("firmware")
		}
		return data[:], nil, nil
	}))
	complete(t, s)
	if _, err := s.Evidence(t.Context(), [32]byte{1}, everything); err == nil || !strings.Contains(err.Error(), "firmware") {
		t.Errorf("error is %v", err)
	}
	fail.Store(false)
	if _, err := s.Evidence(t.Context(), [32]byte{1}, everything); err != nil {
		t.Errorf("after a failure: %v", err)
	}
}

func TestWhoKnowsThePlatformIsAnsweredByTheAttestationKey(t *testing.T) {
	s := newSigner(t, deviceFunc(func(context.Context, [64]byte) ([]byte, []byte, error) {
		return nil, nil, errors.New("no report is needed")
	}))
	complete(t, s)
	a := admit(t, s, "a")
	claims, err := s.Claims()
	if err != nil {
		t.Fatal(err)
	}
	view := everything
	view.Have = []attest.Bytes32{claims.Digest(), a.Components[1].ID()}
	e, err := s.Evidence(t.Context(), [32]byte{5}, view)
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Validate(); err != nil {
		t.Error(err)
	}
	message := attest.SessionMessage(claims.Digest(), e.Session.Digest())
	if e.Platform != attest.Bytes32(claims.Digest()) || !ed25519.Verify(claims.AttestationKey[:], message[:], e.Signature) || !e.Nonce.Holds(&e.Session) {
		t.Errorf("evidence %+v", e)
	}
	if c := e.Agents[0].Components; c[1].Known != a.Components[1].ID() || c[1].Kind != "" || c[0].Kind != "policy" || !e.Complete() {
		t.Errorf("components %+v", c)
	}
	view.Have[0][0]++ // another boot's
	if _, err := s.Evidence(t.Context(), [32]byte{5}, view); err == nil {
		t.Error("who knows another boot is answered without a report")
	}
}

func TestAnAgentThatHasEndedStaysEnded(t *testing.T) {
	s := newSigner(t, deviceFunc(echo))
	complete(t, s)
	a := admit(t, s, "a")
	for _, state := range []string{attest.AgentExited, attest.AgentRunning} { // it ended before its start was noted
		if err := s.SetState(a.Index, state); err != nil {
			t.Fatal(err)
		}
	}
	e, err := s.Evidence(t.Context(), [32]byte{1}, everything)
	if err != nil || e.Agents[0].State != attest.AgentExited || !e.Complete() {
		t.Errorf("state %q, %v", e.Agents[0].State, err)
	}
	for _, bad := range []struct {
		index uint32
		state string
	}{{1, attest.AgentExited}, {^uint32(0), attest.AgentExited}} {
		if err := s.SetState(bad.index, bad.state); err == nil {
			t.Errorf("agent %d became %q", bad.index, bad.state)
		}
	}
	b := admit(t, s, "b")
	if err := s.SetState(b.Index, "sleeping"); err == nil {
		t.Error("an agent sleeps")
	}
}

func TestAgentsThatEvidenceCannotCarryAreRefusedAndCostTheOthersNothing(t *testing.T) {
	s := newSigner(t, deviceFunc(echo))
	complete(t, s)
	first := admit(t, s, "first")
	if _, err := s.Admit(first); err == nil {
		t.Error("one instance is admitted twice")
	}
	lie := first
	lie.Instance = "liar"
	lie.Identity[0]++
	if _, err := s.Admit(lie); err == nil {
		t.Error("an identity that is not that of the components is admitted")
	}
	c := []attest.Component{{Kind: "model", Salt: attest.Bytes16{1}, Signatures: make([]attest.Signature, 8)}}
	for i := range c[0].Signatures {
		c[0].Signatures[i] = attest.Signature{Key: make([]byte, 200), Payload: make([]byte, 4000), Sig: make([]byte, 70)}
	}
	large := attest.Agent{State: attest.AgentRunning, Name: "x", Bundle: attest.Bytes32{1}, Identity: attest.IdentityRoot(c), Components: c}
	n := 0
	for ; ; n++ {
		large.Instance = fmt.Sprint("a-", n)
		if _, err := s.Admit(large); errors.Is(err, ErrFull) {
			break
		} else if err != nil || n > attest.MaxAgents {
			t.Fatalf("after %d agents: %v", n, err)
		}
	}
	e, err := s.Evidence(t.Context(), [32]byte{1}, everything)
	if err != nil || len(e.Agents) != n+1 || n < 50 {
		t.Fatalf("%d agents, %v", n, err)
	}
	if b, err := e.Marshal(); err != nil {
		t.Errorf("evidence of %d bytes: %v", len(b), err)
	}
}
