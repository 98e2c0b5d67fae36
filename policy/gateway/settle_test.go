package gateway_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"omega/policy/provenance"
)

// lateLog takes entries at once and has them for good later.
type lateLog struct {
	*log
	refuse error         // what Submit says
	later  chan struct{} // closed when entries are there for good
	lose   error         // what is said then
}

func (l *lateLog) Submit(ctx context.Context, e provenance.Entry) (func() (uint64, error), error) {
	if l.refuse != nil {
		return nil, l.refuse
	}
	index, err := l.Record(ctx, e)
	return func() (uint64, error) {
		<-l.later
		return index, errors.Join(err, l.lose)
	}, err
}

func newLate(t *testing.T) (*world, *lateLog) {
	late := &lateLog{later: make(chan struct{})}
	w := newWorld(t, func(w *world) {
		late.log = w.log
		w.cfg.Recorder = late
	})
	return w, late
}

const readPublic = `{"path":"/data/public/a"}`

func TestAnAnswerDoesNotWaitForTheCheckpointOverItsOutcome(t *testing.T) {
	w, late := newLate(t)
	for range 2 {
		if text, isError := w.call("files", "read", readPublic); isError || text != "done" {
			t.Errorf("answer %q", text)
		}
	}
	w.wantLog("intent permit read", "outcome ok", "intent permit read", "outcome ok")
	close(late.later)
}

func TestAnAnswerIsWithheldFromWhoseOutcomeTheLogDoesNotTake(t *testing.T) {
	w, late := newLate(t)
	close(late.later)
	late.refuse = errors.New("gone")
	if text, _ := w.call("files", "read", readPublic); !strings.Contains(text, "withheld") {
		t.Errorf("answer %q", text)
	}
}

func TestAnInstanceWhoseOutcomeWasLostDoesNothingMore(t *testing.T) {
	w, late := newLate(t)
	late.lose = errors.New("gone")
	if text, isError := w.call("files", "read", readPublic); isError || text != "done" {
		t.Fatalf("answer %q", text)
	}
	close(late.later)
	text := "done"
	for range 1000 {
		if text == "done" { // until the loss is known
			text, _ = w.call("files", "read", readPublic)
		}
	}
	if !strings.Contains(text, "nothing was done") {
		t.Errorf("answer %q", text)
	}
	sent := len(w.files.called("tools/call"))
	if text, _ = w.call("files", "read", readPublic); !strings.Contains(text, "nothing was done") || len(w.files.called("tools/call")) != sent {
		t.Errorf("answer %q after %d calls", text, sent)
	}
}
