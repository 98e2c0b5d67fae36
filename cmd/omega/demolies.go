package main

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"omega/attest"
)

// A lie is good evidence after somebody changed it, and how it must be refused.
type lie struct {
	what   string
	change func(e *attest.Evidence)
	nonce  attest.Bytes32 // that the verifier asked with
	code   int
	words  string // which the refusal must have
}

// demoLies are what may be done to the evidence for nonce on its way.
func demoLies(e *attest.Evidence, nonce attest.Bytes32) (out []lie) {
	for i, agent := range e.Agents {
		for j, c := range agent.Components {
			if c.Measured() || !c.Shown() { // what agents share stands there once
				continue
			}
			out = append(out, lie{
				fmt.Sprintf("without the signature of %s %s on the %s of %s", c.Role, c.Principal, c.Kind, agent.Instance),
				func(e *attest.Evidence) { e.Agents[i].Components[j].Signatures = nil },
				nonce, exitSignature, fmt.Sprintf("principal %q has not signed it", c.Principal),
			})
		}
	}
	yesterday := nonce
	yesterday[0]++
	return append(out,
		lie{"with two agents' models swapped", swapModels, nonce, exitMismatch, "swapped with another agent's"},
		lie{"as the answer to another nonce", func(*attest.Evidence) {}, yesterday, exitMismatch, "it is old, or somebody replays it"})
}

// swapModels gives the first two agents each other's model.
func swapModels(e *attest.Evidence) {
	isModel := func(c attest.Component) bool { return c.Kind == "model" }
	one, two := slices.IndexFunc(e.Agents[0].Components, isModel), slices.IndexFunc(e.Agents[1].Components, isModel)
	if one < 0 || two < 0 {
		return
	}
	a, b := &e.Agents[0].Components[one], &e.Agents[1].Components[two]
	*a, *b = *b, *a
}

// refuse shows that what the relying party has just believed is refused as soon
// as somebody changes it, replays it or relays it.
func (d *demo) refuse(ctx context.Context) error {
	var nonce attest.Bytes32
	if _, err := rand.Read(nonce[:]); err != nil {
		return err
	}
	ask := attest.Request{Version: attest.RequestVersion, Nonce: nonce}
	raw, _, err := askPlatform(ctx, d.e, d.url(), ask, caller{})
	if err != nil {
		return err
	}
	good, err := attest.ParseEvidence(raw)
	if err != nil {
		return err
	}
	told := map[string]bool{}
	all := demoLies(good, nonce)
	for _, l := range append([]lie{{"as it came", func(*attest.Evidence) {}, nonce, exitOK, ""}}, all...) {
		words, err := d.lie(ctx, l, raw)
		if err != nil {
			return err
		}
		if !told[l.words] { // each principal once
			d.sayf("%s: %s", l.what, words)
		}
		told[l.words] = true
	}
	d.sayf("%d changes of it, each of the signatures left out once: all refused", len(all))
	return d.relay(ctx)
}

// lie has the verifier look at evidence after somebody changed it, and returns
// what it said.
func (d *demo) lie(ctx context.Context, l lie, raw []byte) (string, error) {
	e, err := attest.ParseEvidence(raw)
	if err != nil {
		return "", err
	}
	l.change(e)
	b, err := json.Marshal(e)
	if err != nil {
		return "", err
	}
	path := filepath.Join(d.run, "evidence.json")
	if err := os.WriteFile(path, b, 0o600); err != nil {
		return "", err
	}
	return d.appraised(ctx, verifyOptions{Source: path, Nonce: l.nonce.String()}, l)
}

// appraised verifies as o says and holds the outcome against what it must be. It
// returns the verdict, or which refusal it was.
func (d *demo) appraised(ctx context.Context, o verifyOptions, l lie) (string, error) {
	o.Manifest, o.Unsigned, o.Offline, o.Emulated = d.artifacts.Manifest, true, true, d.machine.Root
	v, err := verifyPlatform(ctx, &env{Stdin: strings.NewReader(""), Stdout: io.Discard, Stderr: io.Discard}, o)
	switch {
	case exitCode(err) != l.code || err != nil && !strings.Contains(err.Error(), l.words):
		return "", fmt.Errorf("evidence %s ended with %d: %w", l.what, exitCode(err), err)
	case err == nil:
		return v.Verdict, nil
	}
	return fmt.Sprintf("refused, exit code %d: %s", l.code, l.words), nil
}

// relay stands between the verifier and the platform, as somebody would who has
// a key of his own and lets the platform answer for him.
func (d *demo) relay(ctx context.Context) error {
	cert, err := relayCertificate()
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS13}}}
	server := &http.Server{
		ReadHeaderTimeout: 10 * time.Second, ErrorLog: log.New(io.Discard, "", 0),
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			req, err := http.NewRequestWithContext(r.Context(), r.Method, d.url()+r.URL.RequestURI(), r.Body)
			if err != nil {
				return
			}
			resp, err := client.Do(req)
			if err != nil {
				return
			}
			defer resp.Body.Close()
			_, _ = io.Copy(w, resp.Body) // the verifier judges what arrives
		}),
	}
	served := make(chan error, 1)
	go func() {
		served <- server.Serve(tls.NewListener(listener, &tls.Config{Certificates: []tls.Certificate{cert}}))
	}()
	l := lie{what: "relayed by somebody with another key", code: exitMismatch, words: "relays another platform's evidence"}
	words, err := d.appraised(ctx, verifyOptions{Source: "https://" + listener.Addr().String()}, l)
	if err := errors.Join(err, server.Close()); err != nil {
		return err
	}
	<-served
	d.sayf("%s: %s", l.what, words)
	return nil
}

// relayCertificate is one that anybody can make.
func relayCertificate() (tls.Certificate, error) {
	text, err := authorityKey()
	if err != nil {
		return tls.Certificate{}, err
	}
	key, err := parseCallerKey(text)
	if err != nil {
		return tls.Certificate{}, err
	}
	cert, err := authorityCertificate(key)
	if err != nil {
		return tls.Certificate{}, err
	}
	return tls.X509KeyPair(cert, text)
}
