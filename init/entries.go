package main

import (
	"context"
	"encoding/json"
	"time"

	"omega/internal/wire"
	"omega/policy/provenance"
)

// appendEntry stamps e with the time and appends it to the log; it returns once
// a signed checkpoint covers it.
func appendEntry(ctx context.Context, log *wire.Client, e provenance.Entry) error {
	_, err := appendIndexed(ctx, log, e)
	return err
}

// appendIndexed is appendEntry for who needs the entry's index.
func appendIndexed(ctx context.Context, log *wire.Client, e provenance.Entry) (uint64, error) {
	if e.Time.IsZero() {
		e.Time = time.Now().UTC()
	}
	var reply appendReply
	_, err := log.Call(ctx, opAppend, appendRequest{Entry: e}, &reply)
	return reply.Index, err
}

// recorder is the gateway's provenance log.
type recorder struct{ log *wire.Client }

// Record appends one entry and returns its index.
func (r recorder) Record(ctx context.Context, e provenance.Entry) (uint64, error) {
	return appendIndexed(ctx, r.log, e)
}

// Submit sends one entry and returns what waits for its index.
func (r recorder) Submit(ctx context.Context, e provenance.Entry) (func() (uint64, error), error) {
	call, err := r.log.Begin(opAppend, appendRequest{Entry: e, Lazy: true})
	if err != nil {
		return nil, err
	}
	return func() (uint64, error) {
		var reply appendReply
		_, err := call.Wait(ctx, &reply)
		return reply.Index, err
	}, nil
}

// maxExitResult bounds the agent's words in an exit entry; escaped, a line can
// grow sixfold, and an entry that is too large would be none.
const maxExitResult = 32 << 10

// exitResult is the result of an exit entry: the code, and the last lines that
// the agent wrote, as many as fit. They are the agent's words, for the auditor.
func exitResult(code int, lines []string) (json.RawMessage, error) {
	for {
		b, err := json.Marshal(struct {
			Code  int      `json:"code"`
			Lines []string `json:"last_lines"`
		}{code, lines})
		if err != nil || len(b) <= maxExitResult || len(lines) == 0 {
			return b, err
		}
		lines = lines[1:]
	}
}
