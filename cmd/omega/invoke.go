package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"time"
	"unicode/utf8"

	"omega/attest"
	"omega/attest/verifier"
)

// invokeUsage is the one line of `omega invoke`'s arguments.
const invokeUsage = "URL AGENT [--input F|-] [--statement F] [--type T] [--session S] [--json] and the flags of verify"

// Bounds of what is sent to an agent, what it answers, and how long it may take:
// the platform gives up before.
const (
	maxInvoke      = 1 << 20
	invokePatience = 12 * time.Minute
)

// invokeOptions say whom is asked what.
type invokeOptions struct {
	verify    verifyOptions
	agent     string
	input     string // file; - is stdin
	kind      string // content type
	session   string
	statement string // file to write the invocation statement to
	json      bool
}

// agentAnswer is what an agent said, with the statement about it.
type agentAnswer struct {
	Instance  string             `json:"instance"`
	Labels    []string           `json:"labels"`
	Verdict   string             `json:"verdict"`
	Shown     bool               `json:"agent_shown"` // whether evidence shows the agent to this caller
	Statement *attest.Invocation `json:"statement"`
	Output    string             `json:"output,omitempty"`
	Base64    []byte             `json:"output_base64,omitempty"` // where it is no text

	output []byte
	signed *attest.SignedInvocation
	raw    []byte
}

// runInvoke is `omega invoke`: one request to an agent of a verified platform,
// and one answer with the platform's statement that this agent gave it.
func runInvoke(ctx context.Context, e *env, args []string) error {
	var o invokeOptions
	fs := e.flags("invoke")
	o.verify.flags(fs)
	fs.StringVar(&o.input, "input", "-", "file with what the agent is asked; - is standard input")
	fs.StringVar(&o.kind, "type", "text/plain", "content type: text/plain, application/json or application/octet-stream")
	fs.StringVar(&o.session, "session", "", "name of a session: letters, digits, dots and hyphens")
	fs.StringVar(&o.statement, "statement", "", "write the invocation statement to this `file`, for omega verify --invocation")
	fs.BoolVar(&o.json, "json", false, "print JSON")
	rest, err := parseMixed(fs, args)
	if err != nil {
		return err
	}
	if len(rest) != 2 {
		return fmt.Errorf("invoke: want %s", invokeUsage)
	}
	o.verify.Source, o.agent = rest[0], rest[1]
	input, err := readInput(e, o.input)
	if err != nil {
		return err
	}
	answer, err := invoke(ctx, e, o, input)
	if err != nil {
		return err
	}
	if o.statement != "" {
		if err := os.WriteFile(o.statement, answer.raw, 0o644); err != nil {
			return err
		}
	}
	return answer.print(e, o.json)
}

func readInput(e *env, name string) ([]byte, error) {
	if name != "-" {
		return readBounded(name, maxInvoke)
	}
	b, err := io.ReadAll(io.LimitReader(e.Stdin, maxInvoke+1))
	if err == nil && len(b) > maxInvoke {
		err = fmt.Errorf("input: more than %d bytes", maxInvoke)
	}
	return b, err
}

// invoke verifies the platform, asks, and checks that the statement is about
// this question, this answer and this boot. Nothing of an answer that it is not
// about is printed.
func invoke(ctx context.Context, e *env, o invokeOptions, input []byte) (*agentAnswer, error) {
	p, err := openPlatform(ctx, e, o.verify)
	if err != nil {
		return nil, err
	}
	defer p.close()
	p.channel.proxy.ResponseHeaderTimeout = invokePatience
	bar := e.progress("asking " + o.agent)
	a, err := p.ask(ctx, o, input)
	bar.Done()
	if err != nil {
		return nil, err
	}
	a.Verdict = p.channel.verdict
	if err := a.about(input); err != nil {
		return nil, err
	}
	v, err := verifyPlatform(ctx, e, o.verify) // whose log holds the entry by now
	if err != nil {
		return nil, err
	}
	a.Shown, err = vouched(a.signed, v.Evidence)
	return a, err
}

// ask hands the request in and reads the answer.
func (p *platformClient) ask(ctx context.Context, o invokeOptions, input []byte) (*agentAnswer, error) {
	u := (&url.URL{Scheme: "https", Host: p.channel.target.Host}).JoinPath("/v1/invoke", url.PathEscape(o.agent))
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, u.String(), bytes.NewReader(input))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", o.kind)
	if o.session != "" {
		req.Header.Set("Omega-Session", o.session)
	}
	resp, err := p.client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("asking %s: %w", u.Host, err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxInvoke+1))
	if err != nil {
		return nil, fmt.Errorf("answer of %s: %w", u.Host, err)
	}
	if len(b) > maxInvoke {
		return nil, fmt.Errorf("answer of %s: more than %d bytes", u.Host, maxInvoke)
	}
	if resp.StatusCode != http.StatusOK {
		return nil, apiRefusal(resp, b)
	}
	return readAnswer(resp.Header, b)
}

// readAnswer takes an answer apart.
func readAnswer(h http.Header, body []byte) (*agentAnswer, error) {
	a := &agentAnswer{Instance: h.Get("Omega-Instance"), Labels: []string{}, output: body}
	text := h.Get("Omega-Invocation")
	if text == "" {
		return nil, exit(exitMismatch, errors.New("the answer came without an invocation statement; next: ask again, or look at the platform's log"))
	}
	raw, err := base64.StdEncoding.DecodeString(text)
	if err == nil {
		a.raw = raw
		a.signed, err = attest.ParseInvocation(raw)
	}
	if err != nil {
		return nil, exit(exitSignature, fmt.Errorf("invocation statement: %w", err))
	}
	a.Statement = &a.signed.Statement
	a.Labels = append(a.Labels, a.Statement.Labels...)
	return a, nil
}

// about holds the statement against what was sent and what came back.
func (a *agentAnswer) about(input []byte) error {
	s := a.signed
	for _, c := range []struct {
		what        string
		want, found attest.Bytes32
	}{
		{"input", attest.CommitInput(s.InputSalt, input), s.Statement.Input},
		{"output", attest.CommitOutput(s.OutputSalt, a.output), s.Statement.Output},
	} {
		if c.want != c.found {
			return exit(exitMismatch, fmt.Errorf("invocation statement: it is about another %s: expected %s, found %s; next: trust nothing of this answer", c.what, c.want, c.found))
		}
	}
	if s.Statement.Instance != a.Instance {
		return exit(exitMismatch, fmt.Errorf("invocation statement: it is about instance %q, the answer says %q", s.Statement.Instance, a.Instance))
	}
	return nil
}

// vouched holds the statement against the platform's evidence. A caller who may
// not see the agent in evidence learns that this boot's key signed it, and not
// which agent it is about.
func vouched(s *attest.SignedInvocation, e *attest.Evidence) (shown bool, err error) {
	err = verifier.Invocation(s, e)
	if err == nil {
		return true, nil
	}
	hidden := false
	for i := range e.Agents {
		hidden = hidden || !e.Agents[i].Hidden.IsZero()
	}
	if hidden && errors.Is(err, attest.ErrMismatch) && s.SignedBy(e.Boot.AttestationKey) && s.Statement.Platform == attest.Bytes32(e.Boot.Digest()) {
		return false, nil
	}
	return false, verifyExit(err)
}

func (a *agentAnswer) print(e *env, asJSON bool) error {
	if asJSON {
		if utf8.Valid(a.output) {
			a.Output = string(a.output)
		} else {
			a.Base64 = a.output
		}
		enc := json.NewEncoder(e.Stdout)
		enc.SetIndent("", "  ")
		return enc.Encode(a)
	}
	who := fmt.Sprintf("agent %s, identity %.16s…", a.Instance, a.Statement.Identity)
	if !a.Shown {
		who = fmt.Sprintf("agent %s, whose parts evidence does not show to you", a.Instance)
	}
	e.sayf("%s: %s gave this answer to this question; entry %d of its log%s", a.Verdict, who, a.Statement.LogIndex, labelled(a.Labels))
	_, err := e.Stdout.Write(a.output)
	return err
}
