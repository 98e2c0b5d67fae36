package provenance_test

import (
	"bytes"
	"context"
	"crypto/ecdh"
	"crypto/rand"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"omega/policy/provenance"
	"omega/policy/provenance/writer"
)

func TestAnHonestLogVerifiesAndIsReadInFull(t *testing.T) {
	for _, calls := range []int{0, 1, 125, 130, 400} {
		k := newKeys(t)
		w := k.writer(t, nil)
		story(t, w, calls)
		var kinds []string
		o := k.options()
		o.Each = func(item provenance.Item) error {
			if !item.Header {
				kinds = append(kinds, item.Entry.Kind)
			}
			return nil
		}
		sum, err := provenance.Verify(t.Context(), export(t, w, k), o)
		if err != nil {
			t.Fatalf("%d calls: %v", calls, err)
		}
		if want := 4 + 2*calls; sum.Readable != want || sum.Entries != want || len(kinds) != want {
			t.Errorf("%d calls: %d entries, %d readable, %d seen, want %d", calls, sum.Entries, sum.Readable, len(kinds), want)
		}
		if len(sum.Anomalies) != 0 || sum.Epochs != 1 {
			t.Errorf("%d calls: %d epochs, anomalies %v", calls, sum.Epochs, sum.Anomalies)
		}
	}
}

func TestAnEntryIsReadAsItWasWritten(t *testing.T) {
	k := newKeys(t)
	w := k.writer(t, nil)
	want := intent(provenance.Permit)
	want.Time, want.Reasons, want.PolicyDigest = start, []string{"a", "b"}, [32]byte{9}
	add(t, w, want)
	var got *provenance.Entry
	o := k.options()
	o.Each = func(item provenance.Item) error { got = item.Entry; return nil }
	if _, err := provenance.Verify(t.Context(), export(t, w, k), o); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(&want, got); diff != "" {
		t.Error(diff)
	}
}

func TestEveryChangedByteOfACopyIsRefused(t *testing.T) {
	k := newKeys(t)
	w := k.writer(t, nil)
	story(t, w, 2)
	log := export(t, w, k)
	for path, b := range log {
		for i := range b {
			for _, mask := range []byte{0x01, 0x20, 0x80} {
				b[i] ^= mask
				_, err := provenance.Verify(t.Context(), log, k.options())
				b[i] ^= mask
				if !errors.Is(err, provenance.ErrTampered) && !errors.Is(err, provenance.ErrSignature) {
					t.Fatalf("%s byte %d ^ %#x: error %v", path, i, mask, err)
				}
				if strings.HasPrefix(path, "tile/") && !strings.Contains(err.Error(), path) {
					t.Fatalf("%s byte %d: %q does not name the tile", path, i, err)
				}
			}
		}
	}
}

func TestChangedUpperTilesAreRefusedByName(t *testing.T) {
	k := newKeys(t)
	w := k.writer(t, nil)
	story(t, w, 150)
	for path := range export(t, w, k) {
		if path == "checkpoint" {
			continue
		}
		log := export(t, w, k)
		log[path][len(log[path])/2] ^= 4
		_, err := provenance.Verify(t.Context(), log, k.options())
		if !errors.Is(err, provenance.ErrTampered) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: error %v", path, err)
		}
	}
}

func TestACutOffOrLongerCopyIsRefused(t *testing.T) {
	k := newKeys(t)
	w := k.writer(t, nil)
	story(t, w, 3)
	for path, b := range export(t, w, k) {
		tests := map[string][]byte{
			"missing": nil, "empty": {}, "one byte short": b[:len(b)-1],
			"one byte longer": append(bytes.Clone(b), 0), "half": b[:len(b)/2],
		}
		for name, content := range tests {
			log := export(t, w, k)
			if log[path] = content; content == nil {
				delete(log, path)
			}
			_, err := provenance.Verify(t.Context(), log, k.options())
			if !errors.Is(err, provenance.ErrTampered) && !errors.Is(err, provenance.ErrSignature) {
				t.Errorf("%s %s: error %v", path, name, err)
			}
		}
	}
}

func TestOnlyTheLogsOwnKeyAndNameAreAccepted(t *testing.T) {
	k := newKeys(t)
	w := k.writer(t, nil)
	story(t, w, 1)
	log := export(t, w, k)
	other := k.options()
	other.LogKey = newKeys(t).public()
	if _, err := provenance.Verify(t.Context(), log, other); !errors.Is(err, provenance.ErrSignature) {
		t.Errorf("another key: %v", err)
	}
	other = k.options()
	other.Origin = "omega/other"
	if _, err := provenance.Verify(t.Context(), log, other); !errors.Is(err, provenance.ErrSignature) {
		t.Errorf("another origin: %v", err)
	}
	other = k.options()
	other.LogKey = nil
	if _, err := provenance.Verify(t.Context(), log, other); err == nil {
		t.Error("no key: accepted")
	}
}

func TestRollbackAndForkAreSeenByWhoRemembers(t *testing.T) {
	k := newKeys(t)
	w, fork := k.writer(t, nil), k.writer(t, nil)
	story(t, w, 1)
	story(t, fork, 1)
	old := export(t, w, k)
	oldHead := head(t, old, k)
	story(t, w, 1)
	story(t, fork, 1)
	now, forked := export(t, w, k), export(t, fork, k)
	size := head(t, now, k).Size
	tests := []struct {
		name   string
		log    files
		change func(*provenance.Options)
		want   error
	}{
		{"grown log", now, func(o *provenance.Options) { o.Previous = []provenance.Checkpoint{oldHead} }, nil},
		{"same log", old, func(o *provenance.Options) { o.Previous = []provenance.Checkpoint{oldHead} }, nil},
		{"older log, size remembered", old, func(o *provenance.Options) { o.MinSize = size }, provenance.ErrFork},
		{"older log, head remembered", old, func(o *provenance.Options) { o.Previous = []provenance.Checkpoint{head(t, now, k)} }, provenance.ErrFork},
		{"fork of the same size", forked, func(o *provenance.Options) { o.Previous = []provenance.Checkpoint{head(t, now, k)} }, provenance.ErrFork},
		{"older log, one of two heads", old, func(o *provenance.Options) { o.Previous = []provenance.Checkpoint{head(t, now, k), oldHead} }, provenance.ErrFork},
		{"fork, one of two heads", forked, func(o *provenance.Options) { o.Previous = []provenance.Checkpoint{head(t, forked, k), oldHead} }, provenance.ErrFork},
		{"fork that grew", forked, func(o *provenance.Options) { o.Previous = []provenance.Checkpoint{oldHead} }, provenance.ErrFork},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			o := k.options()
			tt.change(&o)
			if _, err := provenance.Verify(t.Context(), tt.log, o); !errors.Is(err, tt.want) {
				t.Errorf("error %v, want %v", err, tt.want)
			}
		})
	}
}

func head(t *testing.T, log files, k keys) provenance.Checkpoint {
	t.Helper()
	c, err := provenance.OpenCheckpoint(log["checkpoint"], origin, k.public())
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestOnlyAuditorsCanRead(t *testing.T) {
	k, stranger := newKeys(t), newKeys(t)
	tests := []struct {
		name     string
		auditors []provenance.Auditor
		key      *ecdh.PrivateKey
		want     int
	}{
		{"an auditor", k.auditors(), k.auditor, 4},
		{"the second of two", append(stranger.auditors(), k.auditors()...), k.auditor, 4},
		{"a stranger", k.auditors(), stranger.auditor, 0},
		{"nobody asked", k.auditors(), nil, 0},
		{"a log without auditors", nil, k.auditor, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := k.writer(t, func(c *writer.Config) { c.Auditors = tt.auditors })
			story(t, w, 0)
			log := export(t, w, k)
			o := k.options()
			o.Auditor = tt.key
			sum, err := provenance.Verify(t.Context(), log, o)
			if err != nil {
				t.Fatal(err)
			}
			if sum.Readable != tt.want || sum.Entries != 4 {
				t.Errorf("%d of %d readable, want %d", sum.Readable, sum.Entries, tt.want)
			}
			for path, b := range log {
				if bytes.Contains(b, []byte("files/read")) {
					t.Errorf("%s shows an entry's text", path)
				}
			}
		})
	}
}

func TestEpochsFollowOneAnother(t *testing.T) {
	k := newKeys(t)
	w := k.writer(t, func(c *writer.Config) { c.EpochEntries = 10; c.Batch = 3 })
	story(t, w, 20)
	sum, err := provenance.Verify(t.Context(), export(t, w, k), k.options())
	if err != nil {
		t.Fatal(err)
	}
	if sum.Entries != 44 || sum.Readable != 44 || sum.Epochs != 5 {
		t.Errorf("%d entries, %d readable, %d epochs", sum.Entries, sum.Readable, sum.Epochs)
	}
}

func TestAPartialTileMayHaveGrownFull(t *testing.T) {
	k := newKeys(t)
	w := k.writer(t, nil)
	story(t, w, 20)
	signed := w.Checkpoint()
	story(t, w, 200)
	log := export(t, w, k)
	log["checkpoint"] = signed
	if _, err := provenance.Verify(t.Context(), log, k.options()); err != nil {
		t.Error(err)
	}
}

func TestVerifyStopsWhenItsContextEnds(t *testing.T) {
	k := newKeys(t)
	w := k.writer(t, nil)
	story(t, w, 0)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	src := provenance.SourceFunc(func(ctx context.Context, _ string) ([]byte, error) { return nil, ctx.Err() })
	if _, err := provenance.Verify(ctx, src, k.options()); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
}

func TestACommitmentOpensForWhoIsShownTheSalt(t *testing.T) {
	k := newKeys(t)
	epoch, header, err := provenance.NewEpoch(origin, 3, 40, k.auditors())
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := epoch.Seal(41, []byte(`{"a":1}`))
	if err != nil {
		t.Fatal(err)
	}
	reader, err := provenance.OpenEpoch(origin, header, k.auditor)
	if err != nil {
		t.Fatal(err)
	}
	plain, salt, err := reader.Open(leaf)
	if err != nil {
		t.Fatal(err)
	}
	if got := provenance.Commitment(salt, origin, 3, 41, plain); got != leaf.Commitment {
		t.Errorf("commitment %x, leaf has %x", got, leaf.Commitment)
	}
	if provenance.Commitment(salt, origin, 3, 41, []byte(`{"a":2}`)) == leaf.Commitment {
		t.Error("another entry opens the commitment")
	}
}

func TestASealedLeafOpensOnlyInItsPlace(t *testing.T) {
	k := newKeys(t)
	epoch, header, err := provenance.NewEpoch(origin, 0, 0, k.auditors())
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*provenance.Leaf){
		"other index":      func(l *provenance.Leaf) { l.Seq++ },
		"other epoch":      func(l *provenance.Leaf) { l.Epoch++ },
		"other commitment": func(l *provenance.Leaf) { l.Commitment[0] ^= 1 },
		"other content":    func(l *provenance.Leaf) { l.Sealed[20] ^= 1 },
		"cut off":          func(l *provenance.Leaf) { l.Sealed = l.Sealed[:7] },
	} {
		leaf, err := epoch.Seal(1, []byte("{}"))
		if err != nil {
			t.Fatal(err)
		}
		change(leaf)
		if _, _, err := epoch.Open(leaf); !errors.Is(err, provenance.ErrSealed) {
			t.Errorf("%s: error %v", name, err)
		}
	}
	for name, change := range map[string]func(*provenance.Leaf){
		"key committed to": func(l *provenance.Leaf) { l.Commitment[0] ^= 1 },
		"sealed key":       func(l *provenance.Leaf) { l.Recipients[0].Sealed[0] ^= 1 },
		"encapsulated key": func(l *provenance.Leaf) { rand.Read(l.Recipients[0].Enc[:]) },
		"index":            func(l *provenance.Leaf) { l.Seq++ },
	} {
		bad, err := provenance.ParseLeaf(header.Marshal())
		if err != nil {
			t.Fatal(err)
		}
		change(bad)
		if _, err := provenance.OpenEpoch(origin, bad, k.auditor); !errors.Is(err, provenance.ErrSealed) {
			t.Errorf("header with another %s: error %v", name, err)
		}
	}
	if _, err := provenance.OpenEpoch("omega/other", header, k.auditor); !errors.Is(err, provenance.ErrSealed) {
		t.Errorf("another log's header: error %v", err)
	}
}
