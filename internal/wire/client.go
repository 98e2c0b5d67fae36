package wire

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
)

// RemoteError is the peer's refusal, in its own words.
type RemoteError struct {
	Op   string
	Text string
}

// Error gives the operation and the peer's words.
func (e *RemoteError) Error() string { return e.Op + ": " + e.Text }

// Client calls operations on the other end. It is safe for concurrent use.
type Client struct {
	conn *Conn
	done chan struct{}

	mu      sync.Mutex // guards all below
	last    uint64     // newest id given out
	pending map[uint64]chan result
	err     error // why the connection is of no more use
}

type result struct {
	frame *frame
	files []*os.File
}

// NewClient reads replies from c until it is closed. The connection is the
// client's from here on.
func NewClient(c *Conn) *Client {
	cl := &Client{conn: c, done: make(chan struct{}), pending: map[uint64]chan result{}}
	go cl.readReplies()
	return cl
}

// Close ends the connection; open calls return an error.
func (c *Client) Close() error {
	err := c.conn.Close()
	<-c.done
	return err
}

// Done is closed when the connection is of no more use, because the peer has
// gone or either side has closed it.
func (c *Client) Done() <-chan struct{} { return c.done }

// Call sends req with files and decodes the answer into reply (nil: the answer
// has no body). The files sent stay the caller's; those returned become its own.
func (c *Client) Call(ctx context.Context, op string, req, reply any, files ...*os.File) ([]*os.File, error) {
	p, err := c.Begin(op, req, files...)
	if err != nil {
		return nil, err
	}
	return p.Wait(ctx, reply)
}

// A Pending is a call that has been sent. Wait is to be called once.
type Pending struct {
	client *Client
	op     string
	id     uint64
	answer chan result
}

// Begin sends req as Call does and returns at once; requests arrive in the order
// in which they were begun.
func (c *Client) Begin(op string, req any, files ...*os.File) (*Pending, error) {
	id, ch, err := c.register()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", op, err)
	}
	msg, err := (&frame{ID: id, Op: op}).encode(req)
	if err == nil {
		err = c.conn.send(msg, files)
	}
	if err != nil {
		c.forget(id)
		return nil, fmt.Errorf("%s: %w", op, err)
	}
	return &Pending{client: c, op: op, id: id, answer: ch}, nil
}

// Wait returns what Call does.
func (p *Pending) Wait(ctx context.Context, reply any) ([]*os.File, error) {
	defer p.client.forget(p.id)
	select {
	case <-ctx.Done():
		return nil, fmt.Errorf("%s: %w", p.op, ctx.Err())
	case r, ok := <-p.answer:
		if !ok {
			return nil, fmt.Errorf("%s: %w", p.op, p.client.failure())
		}
		return r.decode(p.op, reply)
	}
}

// decode fills reply, or closes what came with an answer that is of no use.
func (r result) decode(op string, reply any) ([]*os.File, error) {
	if r.frame.Error != "" {
		closeAll(r.files)
		return nil, &RemoteError{Op: op, Text: strings.ToValidUTF8(r.frame.Error, "?")}
	}
	if reply == nil {
		return r.files, nil
	}
	if len(r.frame.Body) == 0 {
		closeAll(r.files)
		return nil, fmt.Errorf("%s: answer has no body", op)
	}
	if err := strict(r.frame.Body, reply); err != nil {
		closeAll(r.files)
		return nil, fmt.Errorf("%s: answer: %w", op, err)
	}
	return r.files, nil
}

func (c *Client) register() (uint64, chan result, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return 0, nil, c.err
	}
	c.last++
	ch := make(chan result, 1)
	c.pending[c.last] = ch
	return c.last, ch, nil
}

// forget drops a call; an answer that lies unread in its channel is closed.
func (c *Client) forget(id uint64) {
	c.mu.Lock()
	ch := c.pending[id]
	delete(c.pending, id)
	c.mu.Unlock()
	select {
	case r, ok := <-ch:
		if ok {
			closeAll(r.files)
		}
	default:
	}
}

func (c *Client) failure() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// readReplies hands answers to their callers until the connection ends.
func (c *Client) readReplies() {
	err := error(nil)
	for err == nil {
		err = c.readReply()
	}
	_ = c.conn.Close()
	defer close(c.done)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.err = err
	for id, ch := range c.pending {
		close(ch)
		delete(c.pending, id)
	}
}

func (c *Client) readReply() error {
	msg, files, err := c.conn.receive()
	if err != nil {
		return err
	}
	f, err := parseFrame(msg)
	if err == nil && f.Op != "" {
		err = fmt.Errorf("%w: request instead of reply", ErrProtocol)
	}
	if err != nil {
		closeAll(files)
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if f.ID > c.last {
		closeAll(files)
		return fmt.Errorf("%w: answer to a call never made", ErrProtocol)
	}
	ch := c.pending[f.ID]
	if ch == nil { // given up by its caller
		closeAll(files)
		return nil
	}
	select {
	case ch <- result{frame: f, files: files}:
		return nil
	default:
		closeAll(files)
		return fmt.Errorf("%w: second answer to one call", ErrProtocol)
	}
}
