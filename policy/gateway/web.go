package gateway

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"

	"omega/internal/strictjson"
	"omega/policy"
)

const (
	// maxWebBody bounds a request to the web, which is held in memory.
	maxWebBody = 1 << 20
	// maxURL bounds path and query, which stand in the log.
	maxURL = 8 << 10
)

var webMethods = []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}

// hopHeaders are between neighbours (RFC 9110 section 7.6.1), or say who asks
// on whose behalf, which the gateway does not pass on.
var hopHeaders = []string{
	"Connection", "Keep-Alive", "Proxy-Authenticate", "Proxy-Authorization", "Proxy-Connection", "Te", "Trailer",
	"Transfer-Encoding", "Upgrade", "Expect", "Host", "Content-Length", "Forwarded", "Via", "Accept-Encoding",
	"X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Real-Ip",
}

// site is where a request goes.
type site struct {
	scheme, host string
	port         int
}

func (s site) String() string { return net.JoinHostPort(s.host, strconv.Itoa(s.port)) }

// parseSite reads "host:port". A host is a name in lower case or an address in
// its one usual form: other notations of an address are read differently by
// different programs.
func parseSite(scheme, hostport string) (site, error) {
	host, text, err := net.SplitHostPort(hostport)
	if err != nil {
		host, text = strings.Trim(hostport, "[]"), map[string]string{"http": "80", "https": "443"}[scheme]
	}
	port, err := strconv.Atoi(text)
	host = strings.ToLower(host)
	if err != nil || port < 1 || port > 65535 || !plainHost(host) {
		return site{}, fmt.Errorf("%q is not a plain host and port", clip(hostport, 200))
	}
	return site{scheme, host, port}, nil
}

// web finds the group of hosts whose permit covers a site.
func (l *link) web(s site, action string) (policy.Web, bool) {
	for _, w := range l.g.cfg.Document.Web {
		if covers(w, s) && l.permits(action, w.Name) {
			return w, true
		}
	}
	return policy.Web{}, false
}

// serveWeb is one request to the web, from a proxy's client or out of an opened
// tunnel.
func (l *link) serveWeb(w http.ResponseWriter, r *http.Request, to site) {
	what := clip(r.Method+" "+to.scheme+"://"+to.String()+r.URL.Path, 300)
	group, ok := l.web(to, policy.ActionHTTP)
	if !ok || to.scheme == "http" && !group.Plain {
		l.refuseWeb(w, r, what, "the policy does not let this agent ask "+to.scheme+"://"+to.String()+l.webHint())
		return
	}
	q, err := readWeb(r, to)
	if err != nil {
		l.refuseWeb(w, r, what, err.Error())
		return
	}
	d, in, err := l.authorize(r.Context(), policy.ActionHTTP, group.Name, q.args)
	switch {
	case err != nil:
		l.unrecorded(w, err)
	case in == nil:
		replyError(w, http.StatusForbidden, "policy_denied", denial(what, d.Reasons))
	default:
		l.fetch(w, r, group, q, in)
	}
}

func (l *link) refuseWeb(w http.ResponseWriter, r *http.Request, what, reason string) {
	if err := l.recordRefusal(r.Context(), policy.ActionHTTP, what, reason); err != nil {
		l.unrecorded(w, err)
		return
	}
	replyError(w, http.StatusForbidden, "policy_denied", clip(reason, 600))
}

// webHint names what the agent may ask instead.
func (l *link) webHint() string {
	var hosts []string
	for _, w := range l.g.cfg.Document.Web {
		if l.permits(policy.ActionHTTP, w.Name) || l.permits(policy.ActionConnect, w.Name) {
			hosts = append(hosts, w.Hosts...)
		}
	}
	if len(hosts) == 0 {
		return "; it may ask no host of the web"
	}
	return "; it may ask " + strings.Join(hosts, ", ")
}

// webRequest is a request in the form that was decided and will be sent.
type webRequest struct {
	method string
	url    url.URL
	header http.Header
	body   []byte
	args   json.RawMessage
}

// readWeb reads a request strictly and states it for the policy.
func readWeb(r *http.Request, to site) (*webRequest, error) {
	if !slices.Contains(webMethods, r.Method) {
		return nil, fmt.Errorf("the method %q is not passed", clip(r.Method, 40))
	}
	u := url.URL{Scheme: to.scheme, Host: to.String(), Path: r.URL.Path, RawQuery: r.URL.RawQuery}
	if to.scheme == "https" && to.port == 443 || to.scheme == "http" && to.port == 80 {
		u.Host = to.host
	}
	if err := plainURL(r.URL); err != nil {
		return nil, err
	}
	body, err := readAll(r.Context(), r.Body, maxWebBody)
	if err != nil {
		return nil, fmt.Errorf("request body: %w", err)
	}
	q := &webRequest{method: r.Method, url: u, header: http.Header{}, body: body}
	names := []string{}
	for name, values := range r.Header {
		if slices.Contains(hopHeaders, name) || slices.Contains(traceHeaders, name) || strings.HasPrefix(name, "Sec-") || strings.HasPrefix(name, "Proxy-") {
			continue
		}
		q.header[name] = slices.Clone(values)
		names = append(names, strings.ToLower(name))
	}
	sort.Strings(names)
	kind, _, _ := strings.Cut(r.Header.Get("Content-Type"), ";")
	sum := sha256.Sum256(body)
	q.args, err = strictjson.Canonical(map[string]any{
		"method": r.Method, "host": to.host, "port": to.port, "path": r.URL.Path, "query": r.URL.RawQuery,
		"bytes": len(body), "body_sha256": hex.EncodeToString(sum[:]), "content_type": strings.TrimSpace(kind), "header_names": names,
	})
	return q, err
}

// plainURL refuses paths that different servers read differently, so that the
// path that was decided is the one that is served.
func plainURL(u *url.URL) error {
	switch {
	case len(u.Path)+len(u.RawQuery) > maxURL:
		return errors.New("path and query are longer than the limit")
	case u.RawPath != "" || !strings.HasPrefix(u.Path, "/"):
		return errors.New("the path has escapes that can be read in two ways")
	case u.User != nil || u.Fragment != "":
		return errors.New("a URL here has neither user nor fragment")
	}
	for _, part := range strings.Split(u.Path, "/")[1:] {
		if strings.Trim(part, ". ") == "" && part != "" || strings.ContainsAny(part, "\\;%") || strings.ContainsFunc(part, control) {
			return errors.New(`the path has "..", a backslash or another part that can be read in two ways`)
		}
	}
	if strings.Contains(u.Path, "//") || strings.ContainsFunc(u.RawQuery, control) {
		return errors.New("the path has an empty part, or the query a control character")
	}
	return nil
}

func control(r rune) bool { return r < 0x20 || r == 0x7f || r >= 0x80 && r < 0xa0 }

// fetch carries out a permitted request.
func (l *link) fetch(w http.ResponseWriter, r *http.Request, group policy.Web, q *webRequest, in *intent) {
	ctx, cancel := context.WithCancelCause(r.Context())
	defer cancel(nil)
	idle := time.AfterFunc(l.g.cfg.Timeout, func() { cancel(context.DeadlineExceeded) })
	defer idle.Stop()
	resp, err := l.exchangeWeb(ctx, group, q)
	if err == nil {
		defer resp.Body.Close()
		s := &webStream{link: l, in: in, resp: resp, scan: newLeakScan(l.g.leakForms(group.Secrets), resp.ContentLength >= 0), idle: idle}
		var whole bool
		if whole, err = s.begin(ctx); err == nil && !whole {
			s.serve(ctx, w, r)
			return
		}
		if err == nil {
			l.giveWeb(w, r, q, in, s)
			return
		}
	}
	if cause := context.Cause(ctx); errors.Is(cause, context.DeadlineExceeded) {
		err = fmt.Errorf("%w: %w", cause, err)
	}
	if rec := in.outcome(r.Context(), failed("error", err.Error())); rec != nil {
		l.unrecorded(w, rec)
		return
	}
	replyError(w, http.StatusBadGateway, "upstream_error", q.url.Host+" did not answer: "+outward(err)+".")
}

// giveWeb enters an answer that is here as a whole and hands it out.
func (l *link) giveWeb(w http.ResponseWriter, r *http.Request, q *webRequest, in *intent, s *webStream) {
	if err := in.settle(r.Context(), delivered(s.head)); err != nil {
		l.unrecorded(w, err)
		return
	}
	webHeaders(w, s.resp)
	if q.method != http.MethodHead {
		w.Header().Set("Content-Length", strconv.Itoa(len(s.head)))
	}
	w.WriteHeader(s.resp.StatusCode)
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(2 * bodyTime))
	_, _ = w.Write(s.head) // the agent has gone if this fails
}

// webHeaders hands on the headers of an answer that are for the agent.
func webHeaders(w http.ResponseWriter, resp *http.Response) {
	for name, values := range resp.Header {
		if !slices.Contains(hopHeaders, name) && name != "Alt-Svc" && name != "Strict-Transport-Security" {
			w.Header()[name] = values
		}
	}
}

func (l *link) exchangeWeb(ctx context.Context, group policy.Web, q *webRequest) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, q.method, q.url.String(), bytes.NewReader(q.body))
	if err != nil {
		return nil, err
	}
	req.Header = q.header.Clone()
	if req.Header.Get("User-Agent") == "" {
		req.Header.Set("User-Agent", "omega-gateway")
	}
	if err := l.g.addSecrets(req.Header, group.Secrets); err != nil {
		return nil, err
	}
	resp, err := l.g.clients["web "+group.Name].Do(req)
	if err != nil {
		return nil, err
	}
	if l.g.leaksHeader(group.Secrets, resp.Header) {
		return nil, errors.Join(errLeak, resp.Body.Close())
	}
	return resp, nil
}
