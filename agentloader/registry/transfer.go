package registry

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"time"
)

// progressEvery is how often a long transfer tells the log how far it is.
const progressEvery = 5 * time.Second

// A transfer is one content on its way, over all its tries. What has come stays, so that a broken transfer
// can go on; the digest is over all of it, wherever the tries began.
type transfer struct {
	path      string
	size, max int64                     // size is negative where it is not known
	sink      func() (io.Writer, error) // begins anew
	log       *slog.Logger

	w    io.Writer
	hash hash.Hash
	got  int64
	err  error // of w, which is the disk's fault and no registry's
	told time.Time
}

// errRange reports a registry that answers a request for the rest with something else.
var errRange = errors.New("registry sent another part than was asked for")

// ask makes a request one for what is still missing.
func (t *transfer) ask(r *http.Request) {
	if t.got > 0 && t.got < t.size {
		r.Header.Set("Range", fmt.Sprintf("bytes=%d-", t.got))
	}
}

// begin looks at the answer: the rest, the whole once more, or none.
func (t *transfer) begin(r *http.Response) error {
	asked := r.Request.Header.Get("Range") != ""
	if asked && r.StatusCode == http.StatusPartialContent {
		// RFC 9110 section 14.4; the whole length may be "*".
		if want := fmt.Sprintf("bytes %d-%d/", t.got, t.size-1); !strings.HasPrefix(r.Header.Get("Content-Range"), want) {
			t.got = 0 // the next try begins anew
			return fmt.Errorf("%w: %w: %.80q", ErrUnavailable, errRange, r.Header.Get("Content-Range"))
		}
		return t.announced(r.ContentLength, t.size-t.got)
	}
	if asked && r.StatusCode == http.StatusRequestedRangeNotSatisfiable {
		t.got = 0
		return fmt.Errorf("%w: %w", ErrUnavailable, errRange)
	}
	if err := status(r.StatusCode); err != nil {
		return err
	}
	var err error
	if t.w, err = t.sink(); err != nil {
		return fmt.Errorf("keeping what is pulled: %w", err)
	}
	t.hash, t.got, t.told = sha256.New(), 0, time.Now()
	return t.announced(r.ContentLength, t.size)
}

// announced refuses a length that cannot be right before a byte of it is read.
func (t *transfer) announced(length, want int64) error {
	if t.size >= 0 && length >= 0 && length != want {
		return fmt.Errorf("%w: %d bytes announced, not %d", ErrLength, length, want)
	}
	return nil
}

// Write keeps what came.
func (t *transfer) Write(b []byte) (int, error) {
	n, err := t.w.Write(b)
	t.hash.Write(b[:n])
	t.got += int64(n)
	t.err = err
	if t.log != nil && time.Since(t.told) > progressEvery {
		t.told = time.Now()
		t.log.Info("pulling", "what", t.path, "bytes", t.got, "of", t.size)
	}
	return n, err
}

// end checks the length.
func (t *transfer) end() error {
	switch {
	case t.got > t.max:
		return fmt.Errorf("%w: more than %d bytes", ErrLength, t.max)
	case t.size >= 0 && t.got != t.size:
		return fmt.Errorf("%w: %d bytes, not %d", ErrLength, t.got, t.size)
	}
	return nil
}
