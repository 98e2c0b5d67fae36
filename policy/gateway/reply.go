package gateway

import (
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"omega/internal/strictjson"
)

// What an agent may send in one request. A tool call is entered in the log, so
// it is small (maxInput) and the rest of the message is envelope; a chat brings
// images along. The number of values bounds what parsing takes: 16 requests at
// once (maxStreams) of small objects would otherwise fill the gateway's memory.
const (
	maxCall       = 128 << 10
	maxChat       = 1 << 20
	maxChatValues = 32 << 10
)

// maxAnswer bounds what an upstream sends in one answer.
const maxAnswer = 4 << 20

// maxAnswerDepth is wider than for requests: results nest JSON of the tool's.
const maxAnswerDepth = 64

var errTooLong = errors.New("longer than the limit")

// readBody reads an agent's request.
func readBody(r *http.Request, most int64) ([]byte, error) {
	if kind, _, _ := strings.Cut(r.Header.Get("Content-Type"), ";"); strings.TrimSpace(kind) != "application/json" {
		return nil, errors.New("content type is not application/json")
	}
	if r.Header.Get("Content-Encoding") != "" {
		return nil, errors.New("encoded bodies are not read")
	}
	return readAll(r.Context(), r.Body, most)
}

func readAll(ctx context.Context, r io.Reader, most int64) ([]byte, error) {
	from := charge(ctx, io.LimitReader(r, most+1))
	// io.ReadAll grows by a quarter, and would copy a message of a megabyte four times.
	for b := make([]byte, 0, firstRead); ; b = slices.Grow(b, len(b)) {
		for len(b) < cap(b) {
			n, err := from.Read(b[len(b):cap(b)])
			b = b[:len(b)+n]
			switch {
			case int64(len(b)) > most:
				return nil, errTooLong
			case err == io.EOF:
				return b, nil
			case err != nil:
				return nil, err
			}
		}
	}
}

// firstRead holds most messages.
const firstRead = 4 << 10

// reply writes v as canonical JSON.
func reply(w http.ResponseWriter, status int, v any) {
	b, err := strictjson.Canonical(v)
	if err != nil {
		status, b = http.StatusInternalServerError, []byte(`{"error":{"message":"answer has no JSON form"}}`)
	}
	replyBytes(w, status, b)
}

// smallAnswer is what net/http holds of an answer anyway until its handler ends:
// a deadline for it costs more than it.
const smallAnswer = 4 << 10

func replyBytes(w http.ResponseWriter, status int, b []byte) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(b))) // or the shim would have to send it in chunks
	w.WriteHeader(status)
	if len(b) > smallAnswer {
		// Who does not read must not make the gateway hold it for ever.
		_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(bodyTime))
	}
	_, _ = w.Write(b) // the agent has gone if this fails
}

// replyError writes an error in the form that OpenAI's clients show to people.
func replyError(w http.ResponseWriter, status int, code, message string) {
	reply(w, status, map[string]any{"error": map[string]any{
		"message": message, "type": code, "code": code, "param": nil,
	}})
}

// clip keeps foreign text short and valid.
func clip(s string, most int) string {
	s = strings.ToValidUTF8(s, "?")
	if len(s) <= most {
		return s
	}
	for most > 0 && !utf8.RuneStart(s[most]) {
		most--
	}
	return s[:most] + "…"
}
