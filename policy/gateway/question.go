package gateway

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"sort"
	"strings"

	"omega/internal/strictjson"
)

// askAgent decides whether a server may ask an agent something. The policy and
// the log see the shape of it; a prompt stays out of both. Without an intent it
// is denied, and why says so.
func (l *link) askAgent(ctx context.Context, e *endpoint, method string, raw json.RawMessage) (params map[string]json.RawMessage, in *intent, why string, err error) {
	if params, err = object(raw); err != nil {
		return nil, nil, "", err
	}
	delete(params, "_meta")
	args, err := askArgs(method, params)
	if err != nil {
		return nil, nil, "", err
	}
	d, in, err := l.authorize(ctx, "mcp."+questions[method], e.Name, args)
	if err == nil && in == nil {
		why = denial("Asking the agent for "+method, d.Reasons)
	}
	return params, in, why, err
}

// askArgs states a question for the policy.
func askArgs(method string, params map[string]json.RawMessage) (json.RawMessage, error) {
	args := map[string]any{}
	if method != "roots/list" {
		text, err := strictjson.Canonical(params)
		if err != nil {
			return nil, err
		}
		sum := sha256.Sum256(text)
		args["request_bytes"], args["request_sha256"] = len(text), hex.EncodeToString(sum[:])
	}
	limits := strictjson.Limits{MaxBytes: maxAnswer, MaxDepth: maxAnswerDepth, AllowUnknown: true}
	switch method {
	case "sampling/createMessage":
		var p struct {
			Messages  []json.RawMessage `json:"messages"`
			MaxTokens int               `json:"maxTokens"`
		}
		if err := decodeFields(params, &p, limits); err != nil {
			return nil, err
		}
		args["messages"], args["max_tokens"] = len(p.Messages), p.MaxTokens
	case "elicitation/create":
		var p struct {
			Mode   string `json:"mode"`
			URL    string `json:"url"`
			Schema struct {
				Properties map[string]json.RawMessage `json:"properties"`
			} `json:"requestedSchema"`
		}
		if err := decodeFields(params, &p, limits); err != nil {
			return nil, err
		}
		fields := []string{}
		for name := range p.Schema.Properties {
			fields = append(fields, name)
		}
		sort.Strings(fields)
		args["mode"], args["fields"] = "form", fields
		if p.Mode == "url" || p.URL != "" {
			args["mode"], args["url"] = "url", p.URL
		}
	}
	return strictjson.Canonical(args)
}

func decodeFields(fields map[string]json.RawMessage, into any, limits strictjson.Limits) error {
	b, err := strictjson.Canonical(fields)
	if err == nil {
		err = strictjson.Decode(b, into, limits)
	}
	if err != nil {
		return fmt.Errorf("%w: %w", errTooOdd, err)
	}
	return nil
}

// answerArgs states an agent's answer for the policy, and gives it anew. A
// prompt's answer is stated by digest, what a form says in full.
func answerArgs(method string, raw json.RawMessage) (args, result json.RawMessage, err error) {
	limits := strictjson.Limits{MaxBytes: maxCall, MaxDepth: maxAnswerDepth}
	switch method {
	case "sampling/createMessage":
		var r struct {
			Role       string          `json:"role"`
			Content    json.RawMessage `json:"content"`
			Model      string          `json:"model"`
			StopReason string          `json:"stopReason,omitempty"`
			Meta       json.RawMessage `json:"_meta,omitempty"`
		}
		if err := strictjson.Decode(raw, &r, limits); err != nil {
			return nil, nil, err
		}
		r.Meta = nil
		if result, err = strictjson.Canonical(r); err != nil {
			return nil, nil, err
		}
		sum := sha256.Sum256(result)
		args, err = strictjson.Canonical(map[string]any{"answer_bytes": len(result), "answer_sha256": hex.EncodeToString(sum[:])})
		return args, result, err
	case "elicitation/create":
		var r struct {
			Action  string         `json:"action"`
			Content map[string]any `json:"content,omitempty"`
			Meta    any            `json:"_meta,omitempty"`
		}
		if err := strictjson.Decode(raw, &r, limits); err != nil {
			return nil, nil, err
		}
		r.Meta = nil
		if r.Action != "accept" {
			r.Content = nil // what is declined says nothing
		}
		result, err = strictjson.Canonical(r)
		return result, result, err
	}
	var r struct {
		Roots []struct {
			URI  string `json:"uri"`
			Name string `json:"name,omitempty"`
		} `json:"roots"`
		Meta json.RawMessage `json:"_meta,omitempty"`
	}
	if err := strictjson.Decode(raw, &r, limits); err != nil {
		return nil, nil, err
	}
	r.Meta = nil
	result, err = strictjson.Canonical(r)
	return result, result, err
}

// serveAnswer takes an agent's answer to a question, decides it and sends it.
func (l *link) serveAnswer(w http.ResponseWriter, r *http.Request, e *endpoint, m *request) {
	q, ok := e.answered(strings.Trim(string(m.ID), `"`))
	if !ok {
		l.refuseRPC(w, r, e, m.ID, rpcErrorf(http.StatusBadRequest, codeInvalid, "nobody asked this, or it has been answered"))
		return
	}
	ctx := r.Context()
	if len(m.Error) > 0 {
		l.sent(w, r, e, m, q.session.reply(ctx, q.id, nil, rpcErrorf(0, codeInternal, "the client could not answer")))
		return
	}
	args, result, err := answerArgs(q.method, m.Result)
	if err != nil {
		err = q.session.reply(ctx, q.id, nil, rpcErrorf(0, codeInternal, "the client's answer has no valid form"))
		l.refuseRPC(w, r, e, m.ID, rpcErrorf(http.StatusBadRequest, codeParams, "answer to %s: no valid form (%v)", q.method, err))
		return
	}
	d, in, err := l.authorize(ctx, "mcp."+questions[q.method]+"/answer", e.Name, args)
	if err != nil {
		l.unrecorded(w, err)
		return
	}
	if in == nil {
		_ = q.session.reply(ctx, q.id, nil, rpcErrorf(0, codeInvalid, "the client's answer is denied by its policy"))
		replyRPC(w, m.ID, nil, rpcErrorf(http.StatusForbidden, codeInvalid, "%s", denial("Answering "+q.method, d.Reasons)))
		return
	}
	err = q.session.reply(ctx, q.id, result, nil)
	res := delivered(result)
	if err != nil {
		res = failed("error", err.Error())
	}
	if rec := in.outcome(ctx, res); rec != nil {
		l.unrecorded(w, rec)
		return
	}
	l.sent(w, r, e, m, err)
}

func (l *link) sent(w http.ResponseWriter, r *http.Request, e *endpoint, m *request, err error) {
	if err != nil {
		replyRPC(w, m.ID, nil, rpcErrorf(http.StatusBadGateway, codeInternal, "%s did not take the answer: %s", e.Name, outward(err)))
		return
	}
	w.WriteHeader(http.StatusAccepted)
}
