package gateway

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"net/http"
	"time"
)

// stream passes a model's events as they come, each read strictly and written
// anew. The outcome is entered before the end of the stream is given out: an
// agent that sees [DONE] has an entry; one that does not sees a broken stream.
func (l *link) stream(w http.ResponseWriter, r *http.Request, resp *http.Response, in *intent) {
	w.Header().Set("Content-Type", "text/event-stream")
	w.WriteHeader(http.StatusOK)
	control := http.NewResponseController(w)
	flush := control.Flush
	// An agent that does not read must not hold back the outcome of its call.
	_ = control.SetWriteDeadline(time.Now().Add(l.g.cfg.Timeout))
	sum, size := sha256.New(), 0
	out := io.MultiWriter(w, sum)
	err := eachEvent(resp.Body, func(data []byte) error {
		n, err := out.Write(append(append([]byte("data: "), data...), "\n\n"...))
		size += n
		if err != nil {
			return err
		}
		return flush()
	})
	res := result{Status: "ok", Bytes: size, SHA256: hex.EncodeToString(sum.Sum(nil))}
	if err != nil {
		res.Status, res.Error = "error", clip(err.Error(), 500)
	}
	if rec := in.outcome(r.Context(), res); rec != nil || err != nil {
		l.g.cfg.Log.Error("stream broken off", "agent", l.agent.Instance, "error", errors.Join(rec, err))
		panic(http.ErrAbortHandler) // net/http's way to reset the stream
	}
	_, _ = w.Write([]byte("data: [DONE]\n\n"))
}

// eachEvent calls do for every event up to [DONE].
func eachEvent(r io.Reader, do func(data []byte) error) error {
	events := newEvents(r, maxAnswer)
	for {
		data, err := events.next()
		if err != nil {
			return err
		}
		if string(data) == "[DONE]" {
			return nil
		}
		if data, err = clean(data); err != nil {
			return err
		}
		if err := do(data); err != nil {
			return err
		}
	}
}
