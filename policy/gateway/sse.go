package gateway

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
)

// events reads the data of server-sent events (WHATWG HTML, section 9.2.6).
type events struct {
	lines *bufio.Scanner
	rest  int
	from  *charged
}

func newEvents(ctx context.Context, r io.Reader, most int) *events {
	from := charge(ctx, r)
	s := bufio.NewScanner(from)
	s.Buffer(make([]byte, 0, 4096), most)
	return &events{lines: s, rest: most, from: from}
}

// next returns the data of the next event that has any.
func (e *events) next() ([]byte, error) {
	e.from.settle()
	var data []byte
	some := false
	for e.lines.Scan() {
		line := e.lines.Bytes()
		if e.rest -= len(line) + 1; e.rest < 0 {
			return nil, errTooLong
		}
		if len(line) == 0 {
			if some {
				return data, nil
			}
			continue
		}
		field, value, _ := bytes.Cut(line, []byte(":"))
		if string(field) != "data" {
			continue
		}
		if some {
			data = append(data, '\n')
		}
		data, some = append(data, bytes.TrimPrefix(value, []byte(" "))...), true
	}
	if err := e.lines.Err(); errors.Is(err, bufio.ErrTooLong) {
		return nil, errTooLong
	} else if err != nil {
		return nil, err
	}
	return nil, io.ErrUnexpectedEOF
}
