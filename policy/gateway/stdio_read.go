package gateway

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"

	"omega/internal/strictjson"
)

// maxNoise bounds the lines of a process that are no messages: some programs
// greet people on their standard output.
const maxNoise = 100

// read takes what the process says, line by line, until it ends or breaks the
// protocol. One reader serves all: who does not read holds back only calls of
// the same agent.
func (p *process) read() error {
	lines := bufio.NewScanner(p.in)
	lines.Buffer(make([]byte, 0, 4096), maxAnswer)
	for noise := 0; lines.Scan(); {
		line := bytes.TrimSpace(lines.Bytes())
		if len(line) == 0 {
			continue
		}
		if line[0] != '{' {
			if noise++; noise > maxNoise {
				return fmt.Errorf("%w: output that is no message: %w", errEnded, errTooOdd)
			}
			continue
		}
		if err := p.take(line); err != nil {
			return fmt.Errorf("%w: %w", errEnded, err)
		}
		p.in.settle()
	}
	switch err := lines.Err(); {
	case errors.Is(err, bufio.ErrTooLong):
		return fmt.Errorf("%w: %w", errEnded, errTooLong)
	case err != nil:
		return fmt.Errorf("%w: %w", errEnded, err)
	}
	return errEnded
}

// take brings one message to whom it is for.
func (p *process) take(line []byte) error {
	a, err := parseAnswer(line)
	if err != nil {
		return fmt.Errorf("%w: %w", errTooOdd, err)
	}
	p.after()
	switch {
	case a.Method == "":
		return p.takeAnswer(a, line)
	case a.Method == "notifications/progress":
		return p.takeProgress(a, line)
	case len(a.ID) == 0:
		p.tell(p.listener(), line)
		return nil
	case a.Method == "ping":
		return p.reply(a.ID, "result", "{}")
	case !p.tell(p.listener(), line):
		return p.reply(a.ID, "error", `{"code":-32601,"message":"nobody is there to be asked"}`)
	}
	return nil
}

// reply answers the process without asking anybody.
func (p *process) reply(id json.RawMessage, key, value string) error {
	return p.write(map[string]json.RawMessage{"jsonrpc": json.RawMessage(`"2.0"`), "id": id, key: json.RawMessage(value)})
}

// takeAnswer ends the stream of the request that it answers.
func (p *process) takeAnswer(a *answer, line []byte) error {
	n, err := strconv.Atoi(string(a.ID))
	if err != nil {
		return fmt.Errorf("answer to another request: %w", errTooOdd)
	}
	w := p.drop(n)
	if w == nil {
		return nil // to a request that was cancelled meanwhile
	}
	b, err := replace(line, "id", w.id)
	if err != nil {
		return err
	}
	p.tell(w, b)
	_ = w.body.Close()
	return nil
}

// takeProgress brings a report to the request that it is about.
func (p *process) takeProgress(a *answer, line []byte) error {
	fields, err := object(a.Params)
	if err != nil {
		return err
	}
	n, err := strconv.Atoi(string(fields["progressToken"]))
	if err != nil {
		return nil // of no request of ours
	}
	p.mu.Lock()
	w := p.waiting[n]
	p.mu.Unlock()
	if w == nil {
		return nil
	}
	fields["progressToken"] = w.id
	params, err := strictjson.Canonical(fields)
	if err != nil {
		return err
	}
	b, err := replace(line, "params", params)
	if err == nil {
		p.tell(w, b)
	}
	return err
}

// listener is who hears what belongs to no request: whoever listens, or else
// the request that was made last, as servers say such things while they work.
func (p *process) listener() *waiter {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.hearer != nil {
		return p.hearer
	}
	last := 0
	for n, w := range p.waiting {
		if w.hears {
			last = max(last, n)
		}
	}
	return p.waiting[last] // none has the number 0
}

// tell writes one event; false if nobody takes it.
func (p *process) tell(w *waiter, message []byte) bool {
	if w == nil {
		return false
	}
	_, err := w.body.Write(append(append([]byte("data: "), message...), "\n\n"...))
	return err == nil
}

// replace puts a value in the place of another in a message.
func replace(message []byte, key string, value json.RawMessage) ([]byte, error) {
	fields := map[string]json.RawMessage{}
	limits := strictjson.Limits{MaxBytes: maxAnswer, MaxDepth: maxAnswerDepth}
	if err := strictjson.Decode(message, &fields, limits); err != nil {
		return nil, err
	}
	fields[key] = value
	return strictjson.Canonical(fields)
}
