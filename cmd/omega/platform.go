package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"omega/attest"
)

// platformEvery is how long a verification holds for a verb that goes on asking.
const platformEvery = 10 * time.Minute

// maxAPIAnswer bounds an answer of the platform's API.
const maxAPIAnswer = 4 << 20

// A platformClient asks one platform, which it has verified: each connection
// ends at the key that the evidence names. Close it.
type platformClient struct {
	channel *channel
	client  *http.Client
	// verification is the first one's outcome.
	verification *verification
}

// openPlatform verifies the platform that o names and returns a client for its
// API. In words it says what the verification came to, where that is less than
// verified.
func openPlatform(ctx context.Context, e *env, o verifyOptions) (*platformClient, error) {
	target, err := (&connectOptions{verify: o, listen: "127.0.0.1:0", every: platformEvery}).check()
	if err != nil {
		return nil, err
	}
	p := &platformClient{}
	p.channel, err = newCallersChannel(target, platformEvery, o, func(ctx context.Context, o verifyOptions) (*verification, error) {
		v, err := verifyPlatform(ctx, e, o)
		if p.verification == nil {
			p.verification = v
		}
		return v, err
	})
	if err != nil {
		return nil, err
	}
	p.client = &http.Client{Transport: p.channel.speaks(), CheckRedirect: func(*http.Request, []*http.Request) error { return errors.New("redirect refused") }}
	if err := p.channel.ensure(ctx); err != nil {
		p.close()
		return nil, err
	}
	if p.channel.verdict == attest.VerdictEmulated {
		e.sayf("An emulated PSP signed this platform's report. It proves the path of evidence, no hardware.")
	}
	return p, nil
}

func (p *platformClient) close() { p.channel.close() }

// get asks for the resource at path and reads the JSON answer into out.
func (p *platformClient) get(ctx context.Context, path string, out any) error {
	return p.call(ctx, http.MethodGet, path, nil, out)
}

// post hands in a body of JSON and reads the JSON answer into out.
func (p *platformClient) post(ctx context.Context, path string, body []byte, out any) error {
	return p.call(ctx, http.MethodPost, path, body, out)
}

func (p *platformClient) call(ctx context.Context, method, path string, body []byte, out any) error {
	if err := p.channel.ensure(ctx); err != nil {
		return err
	}
	u := (&url.URL{Scheme: "https", Host: p.channel.target.Host}).JoinPath(path)
	req, err := http.NewRequestWithContext(ctx, method, u.String(), bytes.NewReader(body))
	if err != nil {
		return err
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := p.client.Do(req)
	if err != nil {
		return fmt.Errorf("asking %s: %w", u.Host, err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxAPIAnswer+1))
	if err != nil {
		return fmt.Errorf("answer of %s: %w", u.Host, err)
	}
	if len(b) > maxAPIAnswer {
		return fmt.Errorf("answer of %s: more than %d bytes", u.Host, maxAPIAnswer)
	}
	if resp.StatusCode/100 != 2 {
		return apiRefusal(resp, b)
	}
	if err := json.Unmarshal(b, out); err != nil {
		return fmt.Errorf("answer of %s: %w", u.Host, err)
	}
	return nil
}

// apiRefusal is what the platform said instead of doing what it was asked, with
// the exit code for it.
func apiRefusal(resp *http.Response, b []byte) error {
	var said struct {
		Error struct{ Code, Message, Next string }
	}
	if json.Unmarshal(b, &said) != nil || said.Error.Message == "" {
		return fmt.Errorf("the platform answered %s", resp.Status)
	}
	err := fmt.Errorf("the platform refuses: %s; next: %s", said.Error.Message, said.Error.Next)
	switch {
	case said.Error.Code == "signature" || said.Error.Code == "expired":
		return exit(exitSignature, err)
	case resp.StatusCode/100 == 4 && resp.StatusCode != http.StatusTooManyRequests:
		return exit(exitMismatch, err)
	}
	return err
}
