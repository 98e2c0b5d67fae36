package writer

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"omega/policy/provenance"
)

const origin = "omega/00112233445566778899aabbccddeeff"

var now = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

// signer signs checkpoints and counts them.
type signer struct {
	key   ed25519.PrivateKey
	count atomic.Int64
}

func newSigner(t testing.TB) *signer {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return &signer{key: key}
}

func (s *signer) sign(_ context.Context, text []byte) ([]byte, error) {
	s.count.Add(1)
	return provenance.SignCheckpoint(text, s.key)
}

func (s *signer) public() ed25519.PublicKey { return s.key.Public().(ed25519.PublicKey) }

func (s *signer) config() Config {
	return Config{Origin: origin, LogKey: [32]byte(s.public()), Sign: s.sign}
}

func newWriter(t testing.TB, c Config) *Writer {
	t.Helper()
	w, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close() })
	return w
}

func boot() provenance.Entry {
	return provenance.Entry{Kind: provenance.KindBoot, Time: now}
}

func intent(agent, decision string) provenance.Entry {
	return provenance.Entry{
		Kind: provenance.KindIntent, Time: now, Agent: agent, Action: "llm.chat", Decision: decision,
	}
}

func outcome(agent string, of uint64) provenance.Entry {
	return provenance.Entry{Kind: provenance.KindOutcome, Time: now, Agent: agent, Action: "llm.chat", Intent: &of}
}

func TestAppendReturnsOnlyBelowASignedCheckpoint(t *testing.T) {
	s := newSigner(t)
	w := newWriter(t, s.config())
	if w.Checkpoint() != nil {
		t.Error("a checkpoint before the first entry")
	}
	for want := uint64(1); want < 20; want++ {
		index, err := w.Append(t.Context(), boot())
		if err != nil || index != want {
			t.Fatalf("index %d, error %v, want %d", index, err, want)
		}
		c, err := provenance.OpenCheckpoint(w.Checkpoint(), origin, s.public())
		if err != nil || c.Size <= index {
			t.Fatalf("entry %d: checkpoint of %d leaves, error %v", index, c.Size, err)
		}
	}
}

func TestManyAppendersShareCheckpointsAndGetOwnIndexes(t *testing.T) {
	s := newSigner(t)
	c := s.config()
	c.Queue = 8 // far fewer than the appenders: they must wait, not fail
	w := newWriter(t, c)
	const appenders, each = 64, 20
	var mu sync.Mutex
	seen := map[uint64]bool{}
	var wg sync.WaitGroup
	for a := range appenders {
		wg.Go(func() {
			agent := fmt.Sprint("agent", a)
			for range each / 2 {
				in, err := w.Append(t.Context(), intent(agent, provenance.Permit))
				if err != nil {
					t.Error(err)
					return
				}
				out, err := w.Append(t.Context(), outcome(agent, in))
				if err != nil || out <= in {
					t.Errorf("outcome %d of %d: %v", out, in, err)
				}
				mu.Lock()
				if seen[in] || seen[out] {
					t.Errorf("index %d or %d was given twice", in, out)
				}
				seen[in], seen[out] = true, true
				mu.Unlock()
				if _, err := w.Read("tile/0/000.p/1"); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if len(seen) != appenders*each {
		t.Errorf("%d indexes, want %d", len(seen), appenders*each)
	}
	if n := s.count.Load(); n >= appenders*each {
		t.Errorf("%d checkpoints for %d entries: nothing was committed together", n, appenders*each)
	}
}

func TestAFailingSignerEndsTheLogForGood(t *testing.T) {
	errLost := errors.New("signer is gone")
	other := newSigner(t)
	tests := []struct {
		name string
		sign func(s *signer, ctx context.Context, text []byte) ([]byte, error)
	}{
		{"error", func(*signer, context.Context, []byte) ([]byte, error) { return nil, errLost }},
		{"nothing", func(*signer, context.Context, []byte) ([]byte, error) { return nil, nil }},
		{"another key", func(_ *signer, ctx context.Context, text []byte) ([]byte, error) { return other.sign(ctx, text) }},
		{"another checkpoint", func(s *signer, ctx context.Context, _ []byte) ([]byte, error) {
			return s.sign(ctx, provenance.Checkpoint{Origin: origin, Size: 1}.Text())
		}},
		{"never", func(_ *signer, ctx context.Context, _ []byte) ([]byte, error) { <-ctx.Done(); return nil, ctx.Err() }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := newSigner(t)
			var broken atomic.Bool
			c := s.config()
			c.SignTimeout = 50 * time.Millisecond
			c.Sign = func(ctx context.Context, text []byte) ([]byte, error) {
				if broken.Load() {
					return tt.sign(s, ctx, text)
				}
				return s.sign(ctx, text)
			}
			w := newWriter(t, c)
			if _, err := w.Append(t.Context(), boot()); err != nil {
				t.Fatal(err)
			}
			before := w.Checkpoint()
			broken.Store(true)
			if _, err := w.Append(t.Context(), boot()); !errors.Is(err, ErrFailed) {
				t.Errorf("error %v, want %v", err, ErrFailed)
			}
			broken.Store(false)
			if _, err := w.Append(t.Context(), boot()); !errors.Is(err, ErrFailed) {
				t.Errorf("after the signer came back: error %v, want %v", err, ErrFailed)
			}
			if !bytes.Equal(w.Checkpoint(), before) {
				t.Error("the published checkpoint changed")
			}
			if _, err := w.Read("tile/0/000.p/3"); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("a leaf without checkpoint is published: %v", err)
			}
		})
	}
}

func TestOneBadEntryHarmsNoOther(t *testing.T) {
	w := newWriter(t, newSigner(t).config())
	mine, err := w.Append(t.Context(), intent("one", provenance.Permit))
	if err != nil {
		t.Fatal(err)
	}
	denied, err := w.Append(t.Context(), intent("one", provenance.Deny))
	if err != nil {
		t.Fatal(err)
	}
	huge := boot()
	huge.Input = append(append([]byte(`"`), bytes.Repeat([]byte("a"), provenance.MaxEntry)...), '"')
	tests := []struct {
		name  string
		entry provenance.Entry
		want  error
	}{
		{"outcome of nothing", outcome("one", 99), ErrNoIntent},
		{"outcome of the epoch header", outcome("one", 0), ErrNoIntent},
		{"outcome of a denial", outcome("one", denied), ErrNoIntent},
		{"outcome by another agent", outcome("two", mine), ErrNoIntent},
		{"outcome", outcome("one", mine), nil},
		{"second outcome", outcome("one", mine), ErrNoIntent},
		{"too large", huge, provenance.ErrTooLarge},
		{"unknown kind", provenance.Entry{Kind: "party", Time: now}, provenance.ErrInvalid},
		{"no kind", provenance.Entry{Time: now}, provenance.ErrInvalid},
		{"no time", provenance.Entry{Kind: provenance.KindBoot}, provenance.ErrInvalid},
		{"intent without decision", intent("one", ""), provenance.ErrInvalid},
		{"intent without agent", intent("", provenance.Deny), provenance.ErrInvalid},
		{"outcome without intent", provenance.Entry{Kind: provenance.KindOutcome, Time: now, Agent: "one", Action: "a"}, provenance.ErrInvalid},
		{"good", boot(), nil},
	}
	for _, tt := range tests {
		if _, err := w.Append(t.Context(), tt.entry); !errors.Is(err, tt.want) {
			t.Errorf("%s: error %v, want %v", tt.name, err, tt.want)
		}
	}
}

func TestAFullLogRefusesAndStaysReadable(t *testing.T) {
	s := newSigner(t)
	c := s.config()
	c.MaxBytes = 24 << 10
	w := newWriter(t, c)
	begun, err := w.Append(t.Context(), intent("one", provenance.Permit))
	for n := 0; err == nil && n < 100; n++ {
		_, err = w.Append(t.Context(), boot())
	}
	if !errors.Is(err, ErrFull) {
		t.Fatalf("error %v, want %v", err, ErrFull)
	}
	last := outcome("one", begun)
	last.Result = json.RawMessage(`"` + strings.Repeat("x", 3<<10) + `"`)
	if _, err := w.Append(t.Context(), last); err != nil {
		t.Errorf("what was done is not entered: %v", err)
	}
	if _, err := provenance.OpenCheckpoint(w.Checkpoint(), origin, s.public()); err != nil {
		t.Error(err)
	}
}

func TestAgentsCannotFillTheLogForOthersNotEvenTogether(t *testing.T) {
	s := newSigner(t)
	c := s.config()
	c.MaxBytes = 256 << 10
	w := newWriter(t, c)
	for _, greedy := range []string{"one", "two", "three"} {
		var err error
		for n := 0; err == nil && n < 1000; n++ {
			_, err = w.Append(t.Context(), intent(greedy, provenance.Deny))
		}
		if !errors.Is(err, ErrFull) {
			t.Fatalf("agent %s: error %v, want %v", greedy, err, ErrFull)
		}
	}
	for _, e := range []provenance.Entry{intent("four", provenance.Permit), {Kind: provenance.KindExit, Time: now, Agent: "one"}} {
		if _, err := w.Append(t.Context(), e); err != nil {
			t.Errorf("%s of %s: %v", e.Kind, e.Agent, err)
		}
	}
}

func TestAppendEndsWithItsContextAndWithTheWriter(t *testing.T) {
	s := newSigner(t)
	c := s.config()
	entered := make(chan struct{}, 1)
	c.Sign = func(ctx context.Context, _ []byte) ([]byte, error) {
		entered <- struct{}{}
		<-ctx.Done()
		return nil, ctx.Err()
	}
	w := newWriter(t, c)
	ctx, cancel := context.WithCancel(t.Context())
	result := make(chan error, 2)
	go func() { _, err := w.Append(ctx, boot()); result <- err }()
	<-entered
	cancel()
	if err := <-result; !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want %v", err, context.Canceled)
	}
	go func() { _, err := w.Append(t.Context(), boot()); result <- err }()
	w.Close()
	if err := <-result; err == nil {
		t.Error("an entry was accepted by a closed writer")
	}
	if _, err := w.Append(t.Context(), boot()); err == nil {
		t.Error("an entry was accepted after Close")
	}
}

func TestReadServesOnlyWhatIsPublished(t *testing.T) {
	w := newWriter(t, newSigner(t).config())
	for range 300 {
		if _, err := w.Append(t.Context(), boot()); err != nil {
			t.Fatal(err)
		}
	}
	good := []string{
		"checkpoint", "tile/0/000", "tile/0/001.p/45", "tile/0/001.p/1", "tile/0/000.p/255", "tile/1/000.p/1",
		"tile/entries/000", "tile/entries/001.p/45",
	}
	bad := []string{
		"", "/checkpoint", "tile/0/001", "tile/0/001.p/46", "tile/0/001.p/0", "tile/0/001.p/256", "tile/0/002.p/1", "tile/0/1",
		"tile/1/000", "tile/2/000.p/1", "tile/63/000", "tile/64/000", "tile/-1/000", "tile/data/000", "tile/8/0/000",
		"tile/entries/001", "tile/entries/002.p/1", "tile/0/x001/000", "tile/0/x999/x999/x999/x999/x999/x999/999",
		"tile/0/../checkpoint", "tile/0/000/", "tile/entries/000.p/256",
	}
	for _, path := range good {
		if b, err := w.Read(path); err != nil || len(b) == 0 {
			t.Errorf("%s: %d bytes, error %v", path, len(b), err)
		}
	}
	for _, path := range bad {
		if _, err := w.Read(path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: error %v", path, err)
		}
	}
}

func TestNewRefusesWhatCannotBeTrusted(t *testing.T) {
	s := newSigner(t)
	for name, change := range map[string]func(*Config){
		"no signer": func(c *Config) { c.Sign = nil }, "no key": func(c *Config) { c.LogKey = [32]byte{} },
		"no origin": func(c *Config) { c.Origin = "" }, "origin of two lines": func(c *Config) { c.Origin = "a\nb" },
	} {
		c := s.config()
		change(&c)
		if w, err := New(c); err == nil {
			w.Close()
			t.Errorf("%s: accepted", name)
		}
	}
}

// BenchmarkAppend is one entry after another, each below its own checkpoint.
func BenchmarkAppend(b *testing.B) {
	w := newWriter(b, benchConfig(b))
	for b.Loop() {
		if _, err := w.Append(b.Context(), benchEntry()); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkAppendConcurrent is many agents at once: checkpoints are shared.
func BenchmarkAppendConcurrent(b *testing.B) {
	w := newWriter(b, benchConfig(b))
	b.SetParallelism(32)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := w.Append(b.Context(), benchEntry()); err != nil {
				b.Error(err)
				return
			}
		}
	})
}

// BenchmarkReferenceChain is what an entry costs that is neither secret nor
// provable to others: a plain SHA-256 chain over the same JSON.
func BenchmarkReferenceChain(b *testing.B) {
	var head tlog.Hash
	for b.Loop() {
		e := benchEntry()
		j, err := e.Encode()
		if err != nil {
			b.Fatal(err)
		}
		head = tlog.NodeHash(head, tlog.RecordHash(j))
	}
}

func benchConfig(b *testing.B) Config {
	c := newSigner(b).config()
	c.MaxBytes = 4 << 30
	return c
}

func benchEntry() provenance.Entry {
	e := intent("agent-one", provenance.Deny)
	e.Resource, e.Rule, e.Reasons = "files/read", "files", []string{"path is outside of /srv/reports"}
	e.Input = []byte(`{"action":"mcp.tools/call","agent":{"instance":"agent-one","name":"reporter"},"args":{"path":"/etc/shadow"},"resource":"files/read","state":{"counts":{"files":3},"labels":[]}}`)
	return e
}

// TestAnEntryThatNobodyWaitsForSharesTheNextCheckpoint counts signatures, and
// holds that such an entry comes in soon, in its place, when nothing follows.
func TestAnEntryThatNobodyWaitsForSharesTheNextCheckpoint(t *testing.T) {
	s := newSigner(t)
	w := newWriter(t, s.config())
	const calls = 20
	index, err := w.Append(t.Context(), intent("a", provenance.Permit))
	for range calls {
		if err != nil {
			t.Fatal(err)
		}
		wait, err := w.Submit(t.Context(), outcome("a", index))
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(200 * time.Microsecond) // the agent thinks
		next, err := w.Append(t.Context(), intent("a", provenance.Permit))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := wait(); err != nil || got != index+1 || next != index+2 {
			t.Errorf("outcome at %d, next intent at %d after %d (%v)", got, next, index, err)
		}
		index = next
	}
	if n := s.count.Load(); n > 2*calls-5 {
		t.Errorf("%d signatures for %d calls", n, calls)
	}
	wait, err := w.Submit(t.Context(), outcome("a", index))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := wait(); err != nil {
		t.Error(err)
	}
	if _, err := w.Submit(t.Context(), provenance.Entry{}); err == nil {
		t.Error("an entry that breaks the rules was taken")
	}
}

func TestSubmittedEntriesOfAFailedLogAreToldSo(t *testing.T) {
	s := newSigner(t)
	cfg := s.config()
	cfg.Sign = func(context.Context, []byte) ([]byte, error) { return nil, errors.New("gone") }
	w := newWriter(t, cfg)
	wait, err := w.Submit(t.Context(), boot())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := wait(); !errors.Is(err, ErrFailed) {
		t.Errorf("error %v", err)
	}
	if wait, err = w.Submit(t.Context(), boot()); err == nil {
		_, err = wait()
	}
	if !errors.Is(err, ErrFailed) {
		t.Errorf("later: error %v", err)
	}
}
