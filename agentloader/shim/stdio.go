package main

import (
	"errors"
	"io"
	"net/http"
	"os"
	"sync/atomic"
)

// stdioPath is what the gateway asks for when it talks to a server over the
// server's standard input and output (gateway.StdioPath is the same).
const stdioPath = "/.omega/stdio"

// takeStdio is takeInbound for an MCP server that speaks over stdio. It returns
// the ends that the server gets; the gateway's request is joined to the others.
func takeStdio() (server []*os.File, err error) {
	conn, err := take(inboundVariable)
	if err != nil {
		return nil, err
	}
	if err := os.Unsetenv(portVariable); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	in, toServer, err := os.Pipe()
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	fromServer, out, err := os.Pipe()
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	go serveInbound(conn, &stdio{in: toServer, out: fromServer})
	return []*os.File{in, out}, nil
}

// closeOwn closes the shim's copies of the server's ends, so that the server's
// end of output is the end of the stream.
func closeOwn(stdio []*os.File) {
	for _, f := range stdio {
		if f != os.Stdin && f != os.Stdout {
			_ = f.Close()
		}
	}
}

// stdio is a server's standard input and output as one request and its answer.
// There is one conversation: who comes second would hear half of the first's.
type stdio struct {
	in, out *os.File
	taken   atomic.Bool
}

// ServeHTTP copies both ways until the server's output or the request ends; then
// the server sees the end of its input.
func (s *stdio) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.Method != http.MethodPost || r.URL.Path != stdioPath:
		http.Error(w, "only POST "+stdioPath, http.StatusNotFound)
		return
	case s.taken.Swap(true):
		http.Error(w, "somebody talks to this server already", http.StatusConflict)
		return
	}
	w.WriteHeader(http.StatusOK)
	control := http.NewResponseController(w)
	if err := control.Flush(); err != nil {
		return
	}
	go func() {
		_, _ = io.Copy(s.in, r.Body) // ends with the request
		_ = s.in.Close()
	}()
	b := make([]byte, 32<<10)
	for {
		n, err := s.out.Read(b)
		if _, failed := w.Write(b[:n]); failed != nil || err != nil {
			return
		}
		if control.Flush() != nil {
			return
		}
	}
}
