package gateway

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"omega/internal/strictjson"
	"omega/policy"
)

// maxDataFile bounds one file of a data set: it is held until its digest is
// known and its outcome entered.
const maxDataFile = 8 << 20

var (
	errNoFile = errors.New("no such file")
	errDigest = errors.New("the file is not the one that the policy names")
)

// dataCall is one request for a file: GET or PUT /data/NAME/PATH.
type dataCall struct {
	set    policy.Dataset
	path   string
	body   []byte // of a PUT
	action string
	args   json.RawMessage
}

// serveData gives and takes files of the data sets that the policy names.
func (l *link) serveData(w http.ResponseWriter, r *http.Request, rest string) {
	name, path, _ := strings.Cut(rest, "/")
	c := &dataCall{path: path, action: policy.ActionDataRead}
	set, known := l.g.cfg.Document.Dataset(name)
	c.set = set
	if r.Method == http.MethodPut {
		c.action = policy.ActionDataWrite
	}
	switch {
	case r.Method != http.MethodGet && r.Method != http.MethodPut:
		l.refuse(w, r, "data is read with GET and written with PUT")
		return
	case !known || !l.permits(c.action, name):
		l.refuse(w, r, "the policy does not let this agent do that with data of this name; it may read: "+strings.Join(l.dataNames(policy.ActionDataRead), ", ")+
			"; write: "+strings.Join(l.dataNames(policy.ActionDataWrite), ", "))
		return
	case !policy.PlainPath(path) && (path != "" || r.Method == http.MethodPut):
		l.refuse(w, r, "a file's path has letters, digits and ._-=+,@ in its parts, and none begins with a dot")
		return
	}
	if err := c.read(r); err != nil {
		l.refuse(w, r, "file: "+err.Error())
		return
	}
	d, in, err := l.authorize(r.Context(), c.action, name, c.args)
	switch {
	case err != nil:
		l.unrecorded(w, err)
	case in == nil:
		replyError(w, http.StatusForbidden, "policy_denied", denial(map[string]string{http.MethodGet: "Reading ", http.MethodPut: "Writing "}[r.Method]+rest, d.Reasons))
	default:
		l.carryData(w, r, c, in)
	}
}

// dataNames are the data sets for which some rule could permit an action.
func (l *link) dataNames(action string) (names []string) {
	for _, d := range l.g.cfg.Document.Data {
		if l.permits(action, d.Name) {
			names = append(names, d.Name)
		}
	}
	if len(names) == 0 {
		return []string{"none"}
	}
	return names
}

// read reads what is written, and states the call for the policy.
func (c *dataCall) read(r *http.Request) (err error) {
	args := map[string]any{"name": c.path}
	if sum, pinned := c.set.Files[c.path]; pinned {
		args["sha256"] = sum
	}
	if r.Method == http.MethodPut {
		if c.body, err = readAll(r.Context(), r.Body, maxDataFile); err != nil {
			return err
		}
		sum := sha256.Sum256(c.body)
		args["bytes"], args["sha256"] = len(c.body), hex.EncodeToString(sum[:])
	}
	c.args, err = strictjson.Canonical(args)
	return err
}

// carryData carries out a permitted call.
func (l *link) carryData(w http.ResponseWriter, r *http.Request, c *dataCall, in *intent) {
	ctx, cancel := context.WithTimeout(r.Context(), l.g.cfg.Timeout)
	defer cancel()
	body, labels, err := l.file(ctx, c, in)
	if err != nil {
		if rec := in.outcome(r.Context(), failed("error", err.Error())); rec != nil {
			l.unrecorded(w, rec)
			return
		}
		status, code := http.StatusBadGateway, "upstream_error"
		if errors.Is(err, errNoFile) {
			status, code = http.StatusNotFound, "not_found"
		}
		replyError(w, status, code, c.set.Name+"/"+c.path+": "+dataFault(err)+".")
		return
	}
	res := delivered(body)
	res.labels = labels
	if err := in.outcome(r.Context(), res); err != nil {
		l.unrecorded(w, err)
		return
	}
	if c.action == policy.ActionDataWrite {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(2 * bodyTime))
	_, _ = w.Write(body) // the agent has gone if this fails
}

// dataFault is what an agent learns of why there is no file.
func dataFault(err error) string {
	for _, known := range []error{errNoFile, errDigest, errFull} {
		if errors.Is(err, known) {
			return known.Error()
		}
	}
	return outward(err)
}

// file does what was permitted where the data is: here, or on its server.
func (l *link) file(ctx context.Context, c *dataCall, in *intent) (body []byte, labels []string, err error) {
	sum, pinned := c.set.Files[c.path]
	switch {
	case c.set.URL == "" && c.action == policy.ActionDataWrite:
		return nil, nil, l.g.store.put(l.agent.Name, c.set.Name, c.path, c.body, in.input.State.Labels)
	case c.set.URL == "":
		return l.g.store.get(c.set.Name, c.path)
	case len(c.set.Files) > 0 && c.path == "":
		body, err := strictjson.Canonical(map[string]any{"files": sortedKeys(c.set.Files)})
		return body, nil, err
	case len(c.set.Files) > 0 && !pinned:
		return nil, nil, errNoFile
	}
	body, err = l.askData(ctx, c)
	if err == nil && pinned {
		got := sha256.Sum256(body)
		if subtle.ConstantTimeCompare([]byte(hex.EncodeToString(got[:])), []byte(sum)) != 1 {
			return nil, nil, errDigest
		}
	}
	return body, nil, err
}

// askData asks a data set's server.
func (l *link) askData(ctx context.Context, c *dataCall) ([]byte, error) {
	method, url := http.MethodGet, c.set.URL
	if c.action == policy.ActionDataWrite {
		method = http.MethodPut
	}
	if c.path != "" {
		url += "/" + c.path
	}
	req, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader(c.body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("User-Agent", "omega-gateway")
	if method == http.MethodPut {
		req.Header.Set("Content-Type", "application/octet-stream")
	}
	if err := l.g.addSecrets(req.Header, c.set.Secrets); err != nil {
		return nil, err
	}
	resp, err := l.g.clients["data "+c.set.Name].Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := readAll(ctx, resp.Body, maxDataFile)
	switch {
	case err != nil:
		return nil, err
	case resp.StatusCode == http.StatusNotFound:
		return nil, errNoFile
	case resp.StatusCode/100 != 2:
		return nil, fmt.Errorf("%w %d", errStatus, resp.StatusCode)
	case l.g.leaks(c.set.Secrets, body):
		return nil, errLeak
	case method == http.MethodPut:
		return nil, nil // what the server says of it is nobody's data
	}
	return body, nil
}
