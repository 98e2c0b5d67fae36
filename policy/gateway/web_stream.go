package gateway

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"hash"
	"io"
	"net/http"
	"strconv"
	"time"

	"omega/policy"
)

const (
	// maxWhole is the length up to which an answer of the web is held until its
	// outcome is entered. It is also the most that an instance's state keeps of
	// trusted values, so a longer answer endorses nothing.
	maxWhole = 256 << 10
	// maxWebAnswer bounds one answer of the web.
	maxWebAnswer = 1 << 30
	// webChunk is what is read of a stream at once.
	webChunk = 32 << 10
)

// webStream is an answer of the web on its way. Short ones are given out whole;
// longer ones, and events, as they come. Of those, what could be the beginning of
// a secret is held back until what follows is here, and the end until the outcome
// is entered: an agent that sees the end has an entry, and one that does not sees
// a broken answer.
type webStream struct {
	link *link
	in   *intent
	resp *http.Response
	body *charged
	scan *leakScan
	idle *time.Timer
	head []byte // what was read before the answer was known to be long
}

// begin reads what is held of an answer; whole says that this is all of it.
func (s *webStream) begin(ctx context.Context) (whole bool, err error) {
	s.body = charge(ctx, s.resp.Body)
	if contentType(s.resp) == "text/event-stream" {
		return false, nil
	}
	s.head, err = io.ReadAll(io.LimitReader(s.body, maxWhole+1))
	if err != nil {
		return false, err
	}
	if len(s.head) > maxWhole {
		return false, nil
	}
	if s.scan.finds(s.head) {
		return false, errLeak
	}
	return true, nil
}

// serve hands the answer out as it comes.
func (s *webStream) serve(ctx context.Context, w http.ResponseWriter, r *http.Request) {
	s.in.heard(policy.Outcome{}) // its labels, before its first byte
	webHeaders(w, s.resp)
	if s.resp.ContentLength >= 0 {
		w.Header().Set("Content-Length", strconv.FormatInt(s.resp.ContentLength, 10))
	}
	w.WriteHeader(s.resp.StatusCode)
	sum, size := sha256.New(), 0
	give := func(b []byte) error {
		sum.Write(b)
		size += len(b)
		return s.give(w, b)
	}
	last, err := s.each(ctx, give)
	size += len(last)
	sum.Write(last)
	if rec := s.in.outcome(r.Context(), streamed(size, sum, err)); rec != nil || err != nil {
		s.link.g.cfg.Log.Error("answer broken off", "agent", s.link.agent.Instance, "error", errors.Join(rec, err))
		panic(http.ErrAbortHandler) // net/http's way to reset the stream
	}
	_ = s.give(w, last) // the agent has gone if this fails
}

// streamed is the outcome of a stream that was given out as far as it came.
func streamed(size int, sum hash.Hash, err error) result {
	if err != nil {
		r := failed("error", err.Error())
		r.Bytes = size
		return r
	}
	return result{Status: "ok", Bytes: size, SHA256: hex.EncodeToString(sum.Sum(nil))}
}

// each calls give with all of the answer but its last bytes, which it returns.
func (s *webStream) each(ctx context.Context, give func([]byte) error) (last []byte, err error) {
	chunk, size := s.head, len(s.head)
	s.head = nil
	buffer := make([]byte, webChunk)
	for end := error(nil); ; {
		out, leaks := s.scan.next(chunk)
		if leaks {
			return nil, errLeak
		}
		if err := give(out); err != nil {
			return nil, err
		}
		if errors.Is(end, io.EOF) {
			return s.scan.rest(), nil
		}
		if end != nil {
			return nil, end
		}
		var n int
		s.idle.Reset(s.link.g.cfg.Timeout)
		s.body.settle()
		n, end = s.body.Read(buffer)
		if cut := context.Cause(ctx); cut != nil { // the other side may end in order as it notices
			return nil, cut
		}
		if size += n; size > maxWebAnswer {
			return nil, errTooLong
		}
		if err := s.in.flowed(n); err != nil {
			return nil, err
		}
		chunk = buffer[:n]
	}
}

func (s *webStream) give(w http.ResponseWriter, b []byte) error {
	if len(b) == 0 {
		return nil
	}
	control := http.NewResponseController(w)
	// An agent that does not read must not hold back the outcome of its call.
	_ = control.SetWriteDeadline(time.Now().Add(s.link.g.cfg.Timeout))
	if _, err := w.Write(b); err != nil {
		return err
	}
	return control.Flush()
}

// leakScan looks for secrets in a text that comes in pieces, however it is cut.
type leakScan struct {
	forms [][]byte
	most  int    // the longest beginning of one
	least int    // bytes that are held back in any case
	held  []byte // of what came so far
}

// newLeakScan makes a scan for these forms. Where the length of the text is known
// to who gets it, its last byte is the end, and is held back.
func newLeakScan(forms [][]byte, sized bool) *leakScan {
	s := &leakScan{forms: forms}
	if sized {
		s.least = 1
	}
	for _, f := range forms {
		s.most = max(s.most, len(f)-1)
	}
	return s
}

func (s *leakScan) finds(text []byte) bool {
	for _, f := range s.forms {
		if bytes.Contains(text, f) {
			return true
		}
	}
	return false
}

// next takes a piece and returns what may be given out of all that came.
func (s *leakScan) next(piece []byte) (out []byte, leaks bool) {
	text := append(s.held, piece...)
	if s.finds(text) {
		return nil, true
	}
	n := len(text) - max(s.begins(text), min(s.least, len(text)))
	s.held = append([]byte(nil), text[n:]...)
	return text[:n], false
}

// begins is how many of the last bytes could be the beginning of a secret.
func (s *leakScan) begins(text []byte) int {
	for n := min(s.most, len(text)); n > 0; n-- {
		for _, f := range s.forms {
			if len(f) > n && bytes.HasPrefix(f, text[len(text)-n:]) {
				return n
			}
		}
	}
	return 0
}

// rest is what is held back.
func (s *leakScan) rest() []byte { return s.held }
