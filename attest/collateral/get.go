package collateral

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"time"
)

const (
	// maxAnswer bounds one answer and one cached file.
	maxAnswer = 64 << 10
	// attempts bounds the requests for one certificate.
	attempts = 5
	// firstWait doubles from one attempt to the next, up to longestWait.
	firstWait      = time.Second
	longestWait    = 30 * time.Second
	requestTimeout = 20 * time.Second
)

// errAgain is an answer that may be another one later.
var errAgain = errors.New("not now")

// get asks until there is an answer. The KDS answers 429 to who asks often,
// and says in Retry-After how long it wants to be left alone.
func (c *Client) get(ctx context.Context, path string) ([]byte, error) {
	wait := c.Wait
	if wait == nil {
		wait = sleep
	}
	pause := firstWait
	for i := 1; ; i++ {
		b, after, err := c.once(ctx, path)
		if err == nil || !errors.Is(err, errAgain) || ctx.Err() != nil {
			return b, err
		}
		if i == attempts {
			return nil, fmt.Errorf("%w, %d times: try again later, from another network, or have the evidence bring the certificate", err, attempts)
		}
		if err := wait(ctx, min(max(pause, after), longestWait)); err != nil {
			return nil, err
		}
		pause *= 2
	}
}

func (c *Client) once(ctx context.Context, path string) (b []byte, after time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.base()+path, nil)
	if err != nil {
		return nil, 0, err
	}
	client := &http.Client{Transport: c.Transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := client.Do(req)
	if err != nil {
		return nil, 0, fmt.Errorf("%w: %w", errAgain, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusTooManyRequests || resp.StatusCode >= 500 {
		seconds, _ := strconv.ParseUint(resp.Header.Get("Retry-After"), 10, 16)
		return nil, time.Duration(seconds) * time.Second, fmt.Errorf("%s answered %s: %w", c.base(), resp.Status, errAgain)
	}
	if resp.StatusCode != http.StatusOK {
		return nil, 0, fmt.Errorf("%s answered %s: it knows no such chip at this TCB; the report may not be a real chip's", c.base(), resp.Status)
	}
	b, err = io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil {
		return nil, 0, fmt.Errorf("%w: %w", errAgain, err)
	}
	if len(b) > maxAnswer {
		return nil, 0, fmt.Errorf("%s answered with more than %d bytes", c.base(), maxAnswer)
	}
	return b, 0, nil
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxAnswer+1))
	if err == nil && len(b) > maxAnswer {
		err = fmt.Errorf("%s: more than %d bytes", path, maxAnswer)
	}
	return b, err
}
