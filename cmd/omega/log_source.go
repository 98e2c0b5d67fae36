package main

import (
	"context"
	"crypto/ecdh"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"omega/attest"
	"omega/policy/provenance"
)

// errUnreachable reports a platform that does not serve its log.
var errUnreachable = errors.New("log is not reachable")

// Where a platform serves evidence, and where an export keeps it.
const (
	evidencePath = "/.well-known/omega/evidence"
	evidenceFile = "evidence.json"
)

// logSource opens a folder, a log disk or a URL. A URL without a path is a
// platform's; of a disk it is the log with that origin, or the last one.
func logSource(ctx context.Context, from, origin string, by caller) (provenance.Source, error) {
	base, err := logURL(from)
	if err != nil {
		return nil, err
	}
	if base == nil {
		info, err := os.Stat(from)
		if err != nil {
			return nil, err
		}
		if info.IsDir() {
			return provenance.Dir(os.DirFS(from)), nil
		}
		return diskSource(ctx, from, origin)
	}
	client := logClient(by)
	return provenance.SourceFunc(func(ctx context.Context, path string) ([]byte, error) {
		return fetch(ctx, client, base.JoinPath(path).String(), provenance.MaxFile)
	}), nil
}

func diskSource(ctx context.Context, path, origin string) (provenance.Source, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	d, err := provenance.OpenDisk(ctx, f, origin)
	if err != nil {
		return nil, fmt.Errorf("log disk %s: %w", path, err)
	}
	return d, nil
}

// logURL is where the log lies below a URL, nil where from is a folder.
func logURL(from string) (*url.URL, error) {
	if !strings.HasPrefix(from, "https://") && !strings.HasPrefix(from, "http://") {
		return nil, nil
	}
	u, err := url.Parse(from)
	if err != nil {
		return nil, err
	}
	if u.Path == "" || u.Path == "/" {
		u = u.JoinPath("log")
	}
	return u, nil
}

// logClient reads from a platform whose certificate nobody vouches for: what
// it serves is ciphertext below a signature, and that signature is checked.
func logClient(by caller) *http.Client {
	return &http.Client{
		Timeout:       time.Minute,
		Transport:     by.over(&http.Transport{TLSClientConfig: by.tls(), ForceAttemptHTTP2: true}),
		CheckRedirect: func(*http.Request, []*http.Request) error { return errors.New("redirect refused") },
	}
}

// fetch reads one bounded answer.
func fetch(ctx context.Context, c *http.Client, where string, limit int64) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, where, nil)
	if err != nil {
		return nil, err
	}
	resp, err := c.Do(req)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errUnreachable, err)
	}
	defer resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusOK:
	case http.StatusUnauthorized, http.StatusForbidden:
		return nil, fmt.Errorf("%w: %s answered %s: the log is for callers whom the platform's policy names; next: give --caller-key or --token", errUnreachable, where, resp.Status)
	case http.StatusNotFound:
		return nil, fmt.Errorf("%s: %w", where, fs.ErrNotExist)
	default:
		return nil, fmt.Errorf("%w: %s answered %s", errUnreachable, where, resp.Status)
	}
	b, err := io.ReadAll(io.LimitReader(resp.Body, limit+1))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errUnreachable, err)
	}
	if int64(len(b)) > limit {
		return nil, fmt.Errorf("%s: more than %d bytes", where, limit)
	}
	return b, nil
}

// fetchEvidence asks the platform that serves a log for fresh evidence. It is
// stored, not judged: `omega verify` does that.
func fetchEvidence(ctx context.Context, base *url.URL, by caller) ([]byte, error) {
	nonce := make([]byte, 32)
	rand.Read(nonce)
	u := *base
	u.Path, u.RawQuery = evidencePath, "nonce="+hex.EncodeToString(nonce)
	return fetch(ctx, logClient(by), u.String(), attest.MaxEvidence)
}

// logPlatform verifies the platform that serves a log: the caller's token may
// then be sent there, and its evidence says by what key the log is judged.
func (o verifyOptions) logPlatform(ctx context.Context, e *env, from string, by *caller) (*logEvidence, error) {
	u, err := url.Parse(from)
	if err != nil || u.Scheme != "https" || u.Host == "" {
		return nil, fmt.Errorf("--token is for platforms: %s is no https URL", from)
	}
	o.Source, o.Token = "https://"+u.Host, ""
	v, err := verifyPlatform(ctx, e, o)
	if err != nil {
		return nil, fmt.Errorf("the platform that serves the log: %w", err)
	}
	e.sayf("%s: boot %s of %s serves this log", v.Verdict, v.Evidence.Boot.BootID, o.Source)
	by.key = (*[32]byte)(&v.Evidence.Boot.TLSKey)
	return evidenceOfLog(v.Evidence), nil
}

func evidenceOfLog(ev *attest.Evidence) *logEvidence {
	return &logEvidence{key: ev.Boot.LogKey[:], origin: ev.Boot.LogOrigin, checkpoint: ev.Session.Checkpoint}
}

// besideLog is the evidence in an exported log, empty where there is none.
func besideLog(from string) string {
	path := filepath.Join(from, evidenceFile)
	if _, err := os.Stat(path); err != nil {
		return ""
	}
	return path
}

// logEvidence is what evidence says about the log.
type logEvidence struct {
	key        ed25519.PublicKey
	origin     string
	checkpoint []byte
}

func readEvidence(path string) (*logEvidence, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	ev, err := attest.ParseEvidence(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return evidenceOfLog(ev), nil
}

// readAuditorKey reads an X25519 private key: PKCS #8 in PEM.
func readAuditorKey(path string) (*ecdh.PrivateKey, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	k, err := parsePrivatePEM(b)
	if err != nil {
		return nil, fmt.Errorf("%s: private key: %w", path, err)
	}
	private, ok := k.(*ecdh.PrivateKey)
	if !ok || private.Curve() != ecdh.X25519() {
		return nil, fmt.Errorf("%s: not an X25519 key", path)
	}
	return private, nil
}

// makeAuditorKey writes a new auditor.key and auditor.pub into dir. It never
// overwrites a key.
func makeAuditorKey(dir string) error {
	private, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		return err
	}
	public, err := x509.MarshalPKIXPublicKey(private.PublicKey())
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if err := writePrivate(filepath.Join(dir, "auditor.key"), private); err != nil {
		return err
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public})
	return writeNew(filepath.Join(dir, "auditor.pub"), text, 0o644)
}

func writePrivate(path string, key *ecdh.PrivateKey) error {
	text, err := privatePEM(key)
	if err != nil {
		return err
	}
	return writeNew(path, text, 0o600)
}

func writeNew(path string, b []byte, mode os.FileMode) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	return errors.Join(err, f.Close())
}

// runLogKeygen is `omega log keygen`.
func runLogKeygen(_ context.Context, e *env, args []string) error {
	fs := e.flags("log")
	out := fs.String("out", ".", "`folder` for auditor.key and auditor.pub")
	if err := fs.Parse(args); err != nil {
		return err
	}
	if err := makeAuditorKey(*out); err != nil {
		return err
	}
	e.sayf("%s reads the log; keep it from the platform. %s goes into the policy, below auditors.",
		filepath.Join(*out, "auditor.key"), filepath.Join(*out, "auditor.pub"))
	return nil
}
