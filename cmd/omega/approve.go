package main

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"omega/attest"
	"omega/internal/strictjson"
	"omega/policy"
)

// approveUsage is the one line of `omega approve`'s arguments.
const approveUsage = "URL [QUESTION] [--key F]… [--expires 10m] [--yes] [--json] and the flags of verify"

// question is what waits for a person, as the platform tells it.
type question struct {
	Entry     uint64          `json:"entry"`
	Agent     string          `json:"agent"`
	Instance  string          `json:"instance"`
	Boot      string          `json:"boot"`
	Action    string          `json:"action"`
	Resource  string          `json:"resource"`
	Arguments json.RawMessage `json:"arguments,omitempty"`
	Widen     []string        `json:"widen,omitempty"`
	Digest    string          `json:"digest"`
	Asked     time.Time       `json:"asked"`
	Until     *time.Time      `json:"until,omitempty"`
	Approvers []approver      `json:"approvers"`
}

// approver is a principal who can answer.
type approver struct {
	Name      string   `json:"name"`
	Threshold int      `json:"threshold"`
	Keys      []string `json:"keys"`
}

// approveOptions say what is approved, and by which keys.
type approveOptions struct {
	verify  verifyOptions
	entry   string
	keys    []string
	expires time.Duration
	yes     bool
	json    bool
}

// runApprove is `omega approve`: it shows what agents ask people, and signs the
// answer to one question.
func runApprove(ctx context.Context, e *env, args []string) error {
	var o approveOptions
	fs := e.flags("approve")
	o.verify.flags(fs)
	fs.Func("key", "private key (PEM, P-256) of the principal that approves; as many as the policy demands", appendTo(&o.keys))
	fs.DurationVar(&o.expires, "expires", 10*time.Minute, "how long the approval is good for, 24h at most")
	fs.BoolVar(&o.yes, "yes", false, "sign without asking; YES=1 does not: it is for packages, not for a signature")
	fs.BoolVar(&o.json, "json", false, "print JSON")
	rest, err := parseMixed(fs, args)
	if err != nil {
		return err
	}
	if len(rest) < 1 || len(rest) > 2 || len(rest) == 2 && len(o.keys) == 0 {
		return fmt.Errorf("approve: want %s", approveUsage)
	}
	o.verify.Source = rest[0]
	if len(rest) == 2 {
		o.entry = rest[1]
	}
	p, err := openPlatform(ctx, e, o.verify)
	if err != nil {
		return err
	}
	defer p.close()
	var list struct {
		Approvals []question `json:"approvals"`
	}
	if err := p.get(ctx, "/v1/approvals", &list); err != nil {
		return err
	}
	if o.entry == "" {
		return printQuestions(e, list.Approvals, o.json)
	}
	q, err := pick(list.Approvals, o.entry)
	if err != nil {
		return err
	}
	return approve(ctx, e, o, p, q)
}

// pick finds a question by its entry.
func pick(list []question, entry string) (*question, error) {
	n, err := strconv.ParseUint(entry, 10, 64)
	if err != nil {
		return nil, fmt.Errorf("%.40q is no entry of the log", entry)
	}
	i := slices.IndexFunc(list, func(q question) bool { return q.Entry == n })
	if i < 0 {
		return nil, exit(exitMismatch, fmt.Errorf("entry %d is no open question, or none that is yours to answer; next: omega approve URL lists them", n))
	}
	return &list[i], nil
}

// approve shows one question, has it answered, and hands the answer in.
func approve(ctx context.Context, e *env, o approveOptions, p *platformClient, q *question) error {
	a, err := q.answer(p.channel.boot.BootID)
	if err != nil {
		return err
	}
	if o.expires <= 0 || o.expires > 24*time.Hour {
		return fmt.Errorf("--expires %s: want up to 24h", o.expires)
	}
	a.Expires = time.Now().Add(o.expires)
	keys, err := readKeys(o.keys)
	if err != nil {
		return err
	}
	if a.Principal, err = q.principal(keys); err != nil {
		return err
	}
	e.sayf("%s", q.words())
	if !o.yes && !e.agrees(fmt.Sprintf("Approve this once, as %s, until %s?", a.Principal, a.Expires.Format(time.DateTime))) {
		return exit(exitMismatch, errors.New("not approved"))
	}
	statement, err := policy.SignApproval(*a, keys...)
	if err != nil {
		return err
	}
	var reply struct {
		Entry uint64 `json:"entry"`
	}
	if err := p.post(ctx, "/v1/approve", statement, &reply); err != nil {
		return err
	}
	e.sayf("approved: entry %d of the platform's log", reply.Entry)
	return json.NewEncoder(e.Stdout).Encode(reply)
}

// answer is what would be signed: this question, of the boot that was verified.
// The digest is of what is shown here, whatever the platform says it is.
func (q *question) answer(boot attest.Bytes16) (*policy.Approval, error) {
	if q.Boot != boot.String() {
		return nil, exit(exitMismatch, fmt.Errorf("the question is of boot %.40s, the platform that was verified is boot %s", q.Boot, boot))
	}
	a := &policy.Approval{Instance: q.Instance, Boot: boot, Entry: q.Entry, Widen: q.Widen}
	if len(q.Widen) > 0 {
		a.Digest = policy.RulesDigest(q.Instance, q.Widen)
	} else {
		var err error
		a.Digest, err = policy.ArgumentsDigest(policy.Input{Agent: policy.InputAgent{Name: q.Agent, Instance: q.Instance},
			Action: q.Action, Resource: q.Resource, Args: q.Arguments})
		if err != nil {
			return nil, exit(exitMismatch, fmt.Errorf("the question's arguments: %w", err))
		}
	}
	if found := hex.EncodeToString(a.Digest[:]); found != q.Digest {
		return nil, exit(exitMismatch, fmt.Errorf("the question's digest is not of what it shows: expected %s, found %.64s; next: sign nothing", found, q.Digest))
	}
	return a, nil
}

// principal is whose keys these are.
func (q *question) principal(keys []*ecdsa.PrivateKey) (string, error) {
	var names []string
	for _, a := range q.Approvers {
		mine := map[string]bool{}
		for _, k := range keys {
			if der, err := x509.MarshalPKIXPublicKey(k.Public()); err == nil {
				sum := sha256.Sum256(der)
				if id := hex.EncodeToString(sum[:]); slices.Contains(a.Keys, id) {
					mine[id] = true
				}
			}
		}
		if len(mine) >= a.Threshold {
			return a.Name, nil
		}
		names = append(names, fmt.Sprintf("%s (%d of %d keys given)", a.Name, len(mine), a.Threshold))
	}
	return "", exit(exitMismatch, fmt.Errorf("no key of who can answer this: %s; next: give --key as often as is needed", strings.Join(names, ", ")))
}

func readKeys(files []string) (keys []*ecdsa.PrivateKey, err error) {
	for _, f := range files {
		b, err := readBounded(f, 16<<10)
		if err != nil {
			return nil, err
		}
		key, err := parseCallerKey(b)
		if err != nil {
			return nil, fmt.Errorf("--key %s: %w", f, err)
		}
		keys = append(keys, key)
	}
	return keys, nil
}

// words show a question to a person. What an agent wrote stands in quotes and in
// ASCII: nothing in it can look like something else.
func (q *question) words() string {
	var b strings.Builder
	fmt.Fprintf(&b, "question %d, asked %s\n  agent     %s, instance %s\n", q.Entry, q.Asked.Format(time.RFC3339), strconv.QuoteToASCII(q.Agent), strconv.QuoteToASCII(q.Instance))
	if len(q.Widen) > 0 {
		fmt.Fprintf(&b, "  give back %s, lost when it used %s on %s\n", strings.Join(q.Widen, ", "), strconv.QuoteToASCII(q.Action), strconv.QuoteToASCII(q.Resource))
		return b.String()
	}
	fmt.Fprintf(&b, "  wants     %s on %s\n  digest    %s\n", strconv.QuoteToASCII(q.Action), strconv.QuoteToASCII(q.Resource), strconv.QuoteToASCII(q.Digest))
	for _, l := range argumentLines(q.Arguments) {
		fmt.Fprintf(&b, "  %s\n", l)
	}
	if q.Until != nil {
		fmt.Fprintf(&b, "  open until %s\n", q.Until.Format(time.RFC3339))
	}
	return b.String()
}

// argumentLines are a call's arguments, one a line, in the order of their names.
func argumentLines(raw json.RawMessage) []string {
	var args map[string]json.RawMessage
	if err := strictjson.Decode(raw, &args, strictjson.Limits{}); err != nil {
		return []string{"arguments " + strconv.QuoteToASCII(string(raw))}
	}
	var out []string
	for name, value := range args {
		text := string(value)
		var s string
		if json.Unmarshal(value, &s) == nil {
			text = s
		}
		out = append(out, strconv.QuoteToASCII(name)+" = "+strconv.QuoteToASCII(text))
	}
	slices.Sort(out)
	return out
}

func printQuestions(e *env, list []question, asJSON bool) error {
	if asJSON {
		enc := json.NewEncoder(e.Stdout)
		enc.SetIndent("", "  ")
		return enc.Encode(list)
	}
	if len(list) == 0 {
		e.sayf("no question is open")
	}
	for i := range list {
		if _, err := fmt.Fprint(e.Stdout, list[i].words()); err != nil {
			return err
		}
	}
	return nil
}

// agrees asks a person, who must write yes.
func (e *env) agrees(text string) bool {
	fmt.Fprintf(e.Stderr, "%s Write yes: ", text)
	line, _ := bufio.NewReader(e.Stdin).ReadString('\n')
	return strings.TrimSpace(line) == "yes"
}
