package provenance_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"omega/policy/provenance"
)

// forge signs leaves that no honest writer would make.
func forge(t *testing.T, k keys, leaves []*provenance.Leaf) files {
	t.Helper()
	var tree provenance.Tree
	var bundle []byte
	var err error
	for _, l := range leaves {
		b := l.Marshal()
		tree.Append(tlog.RecordHash(b))
		if bundle, err = provenance.AppendBundle(bundle, b); err != nil {
			t.Fatal(err)
		}
	}
	c := provenance.Checkpoint{Origin: origin, Size: tree.Size(), Root: tree.Root()}
	signed, err := provenance.SignCheckpoint(c.Text(), k.log)
	if err != nil {
		t.Fatal(err)
	}
	log := files{"checkpoint": signed}
	for _, tile := range provenance.TilesOf(c.Size) {
		if tile.Level < 0 {
			log[tile.Path()] = bundle
			continue
		}
		if log[tile.Path()], err = tree.Tile(tile); err != nil {
			t.Fatal(err)
		}
	}
	return log
}

// sealed is one epoch with these entries' bytes.
func sealed(t *testing.T, k keys, entries ...[]byte) []*provenance.Leaf {
	t.Helper()
	epoch, header, err := provenance.NewEpoch(origin, 0, 0, k.auditors())
	if err != nil {
		t.Fatal(err)
	}
	leaves := []*provenance.Leaf{header}
	for i, b := range entries {
		l, err := epoch.Seal(uint64(i+1), b)
		if err != nil {
			t.Fatal(err)
		}
		leaves = append(leaves, l)
	}
	return leaves
}

func encode(t *testing.T, entries ...provenance.Entry) [][]byte {
	t.Helper()
	var out [][]byte
	for i, e := range entries {
		if e.Time.IsZero() {
			e.Time = start.Add(time.Duration(i) * time.Second)
		}
		b, err := e.Encode()
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, b)
	}
	return out
}

func TestASignedLogThatBreaksItsFormIsRefused(t *testing.T) {
	k := newKeys(t)
	entries := encode(t, provenance.Entry{Kind: provenance.KindBoot}, provenance.Entry{Kind: provenance.KindStart, Agent: "one"})
	tests := []struct {
		name   string
		change func([]*provenance.Leaf) []*provenance.Leaf
		want   error
	}{
		{"nothing", func(l []*provenance.Leaf) []*provenance.Leaf { return l }, nil},
		{"no header", func(l []*provenance.Leaf) []*provenance.Leaf { return l[1:] }, provenance.ErrFraming},
		{"a gap", func(l []*provenance.Leaf) []*provenance.Leaf { return []*provenance.Leaf{l[0], l[2]} }, provenance.ErrFraming},
		{"two swapped", func(l []*provenance.Leaf) []*provenance.Leaf { return []*provenance.Leaf{l[0], l[2], l[1]} }, provenance.ErrFraming},
		{"one twice", func(l []*provenance.Leaf) []*provenance.Leaf { return append(l, l[2]) }, provenance.ErrFraming},
		{"first epoch is 1", func(l []*provenance.Leaf) []*provenance.Leaf { l[0].Epoch = 1; return l }, provenance.ErrFraming},
		{"entry of a coming epoch", func(l []*provenance.Leaf) []*provenance.Leaf { l[1].Epoch = 1; return l }, provenance.ErrFraming},
		{"an epoch left out", func(l []*provenance.Leaf) []*provenance.Leaf {
			return append(l, &provenance.Leaf{Header: true, Seq: 3, Epoch: 2})
		}, provenance.ErrFraming},
		{"another commitment", func(l []*provenance.Leaf) []*provenance.Leaf { l[1].Commitment[3] ^= 1; return l }, provenance.ErrSealed},
		{"another key's content", func(l []*provenance.Leaf) []*provenance.Leaf {
			l[1] = sealed(t, k, entries[0])[1]
			return l
		}, provenance.ErrSealed},
		{"an entry that is none", func([]*provenance.Leaf) []*provenance.Leaf { return sealed(t, k, []byte(`{"kind":"party"}`)) }, provenance.ErrFraming},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			log := forge(t, k, tt.change(sealed(t, k, entries...)))
			if _, err := provenance.Verify(t.Context(), log, k.options()); !errors.Is(err, tt.want) {
				t.Errorf("error %v, want %v", err, tt.want)
			}
		})
	}
}

func TestEntriesAreJudgedByTheLogsRules(t *testing.T) {
	k := newKeys(t)
	boot, begin := provenance.Entry{Kind: provenance.KindBoot}, provenance.Entry{Kind: provenance.KindStart, Agent: "one"}
	stranger := outcome(3)
	stranger.Agent = "two"
	late, early := boot, begin
	late.Time, early.Time = start.Add(time.Hour), start
	first, second := boot, begin
	first.PolicyDigest, second.PolicyDigest = [32]byte{1}, [32]byte{2}
	by := func(principal string) provenance.Entry {
		return provenance.Entry{Kind: provenance.KindApproval, Agent: "one", Result: []byte(`{"principal":"` + principal + `"}`)}
	}
	approved := intent("deny")
	approved.Input = []byte(`{"args":{"approvals":["x"]},"state":{"approvals":["boss"]}}`)
	other := by("boss")
	other.Agent = "two"
	tests := []struct {
		name      string
		entries   []provenance.Entry // the first has index 1
		want      string
		violation bool
	}{
		{"all is well", []provenance.Entry{boot, begin, intent("permit"), outcome(3), intent("deny")}, "", false},
		{"no boot", []provenance.Entry{begin}, "begins with start", true},
		{"two boots", []provenance.Entry{boot, boot}, "second boot", true},
		{"outcome of nothing", []provenance.Entry{boot, begin, outcome(9)}, "no earlier intent", true},
		{"outcome before its intent", []provenance.Entry{boot, begin, outcome(4), intent("permit"), outcome(4)}, "no earlier intent", true},
		{"outcome of a boot", []provenance.Entry{boot, begin, outcome(1)}, "no earlier intent", true},
		{"outcome of a denial", []provenance.Entry{boot, begin, intent("deny"), outcome(3)}, "which was denied", true},
		{"two outcomes", []provenance.Entry{boot, begin, intent("permit"), outcome(3), outcome(3)}, "second outcome", true},
		{"another agent's outcome", []provenance.Entry{boot, begin, intent("permit"), stranger, outcome(3)}, "of agent one", true},
		{"no outcome", []provenance.Entry{boot, begin, intent("permit")}, "without an outcome", false},
		{"an agent that never started", []provenance.Entry{boot, intent("deny")}, "no start", false},
		{"an agent that has exited", []provenance.Entry{boot, begin, {Kind: provenance.KindExit, Agent: "one"}, intent("deny")}, "has exited", false},
		{"time goes back", []provenance.Entry{late, early}, "goes back by 1h", false},
		{"an approved intent", []provenance.Entry{boot, begin, by("boss"), approved}, "", false},
		{"approved by nobody", []provenance.Entry{boot, begin, approved}, "approved by boss", true},
		{"approved by another", []provenance.Entry{boot, begin, by("chief"), approved}, "approved by boss", true},
		{"approved for another agent", []provenance.Entry{boot, begin, other, approved}, "approved by boss", true},
		{"approved afterwards", []provenance.Entry{boot, begin, approved, by("boss")}, "approved by boss", true},
		{"the policy changes", []provenance.Entry{first, second}, "policy", true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			sum, err := provenance.Verify(t.Context(), forge(t, k, sealed(t, k, encode(t, tt.entries...)...)), k.options())
			if err != nil {
				t.Fatal(err)
			}
			if tt.want == "" {
				if len(sum.Anomalies) != 0 {
					t.Errorf("anomalies %v", sum.Anomalies)
				}
				return
			}
			if len(sum.Anomalies) != 1 || !strings.Contains(sum.Anomalies[0].Words, tt.want) || sum.Anomalies[0].Violation != tt.violation {
				t.Errorf("anomalies %v, want one with %q, violation %v", sum.Anomalies, tt.want, tt.violation)
			}
			if (sum.Violations() > 0) != tt.violation {
				t.Errorf("%d violations", sum.Violations())
			}
		})
	}
}

func TestAnEpochForOtherAuditorsIsAViolation(t *testing.T) {
	k, other := newKeys(t), newKeys(t)
	leaves := sealed(t, k, encode(t, provenance.Entry{Kind: provenance.KindBoot})...)
	for name, auditors := range map[string][]provenance.Auditor{
		"none":     nil,
		"another":  other.auditors(),
		"one more": append(k.auditors(), other.auditors()...),
		"the same": k.auditors(),
	} {
		_, header, err := provenance.NewEpoch(origin, 1, 2, auditors)
		if err != nil {
			t.Fatal(err)
		}
		sum, err := provenance.Verify(t.Context(), forge(t, k, append(leaves[:2:2], header)), k.options())
		if err != nil {
			t.Fatal(err)
		}
		if got := sum.Violations() == 1; got != (name != "the same") {
			t.Errorf("%s: anomalies %v", name, sum.Anomalies)
		}
	}
}

func TestManyOddThingsDoNotHideAViolation(t *testing.T) {
	k := newKeys(t)
	w := k.writer(t, nil)
	add(t, w, provenance.Entry{Kind: provenance.KindBoot})
	for range 1100 {
		add(t, w, intent(provenance.Deny)) // of an agent that never started
	}
	add(t, w, provenance.Entry{Kind: provenance.KindBoot})
	sum, err := provenance.Verify(t.Context(), export(t, w, k), k.options())
	if err != nil {
		t.Fatal(err)
	}
	if sum.Violations() != 1 || len(sum.Anomalies) > 1100 {
		t.Errorf("%d violations among %d anomalies", sum.Violations(), len(sum.Anomalies))
	}
}
