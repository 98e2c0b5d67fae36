// Package collateral gets the certificates that a report needs and did not
// bring, from a cache folder or from AMD's key distribution service (KDS). It
// decides nothing: what it returns is verified like certificates from anywhere.
package collateral

import (
	"context"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"omega/attest"
	"omega/attest/snp"
)

// KDS is where AMD serves certificates (publication 57230).
const KDS = "https://kdsintf.amd.com"

// Client gets certificates. The zero value asks AMD's KDS and keeps nothing.
type Client struct {
	// Base is the URL of the KDS or of a mirror of it.
	Base string
	// Dir is the cache folder; none if it is empty.
	Dir string
	// Offline makes the cache folder the only source.
	Offline bool
	// Wait waits between two requests; nil waits on the clock.
	Wait func(context.Context, time.Duration) error
	// Transport sends requests; nil is the default one.
	Transport http.RoundTripper
}

// Endorsement is the certificates that were got, in DER, and from where.
type Endorsement struct {
	VCEK []byte
	// ASK is given only where it is none of the known ones.
	ASK  []byte
	From string
}

// Endorse gets the certificate of the VCEK that signed the report. It is one
// that leads to one of the roots; whether it signed the report is not checked.
// Every error is an attest.ErrCollateral that says what can be done.
func (c *Client) Endorse(ctx context.Context, r *snp.Report, roots []snp.Root) (*Endorsement, error) {
	out, err := c.endorse(ctx, r, roots)
	if err != nil {
		return nil, fmt.Errorf("%w: certificate of the chip's key: %w", attest.ErrCollateral, err)
	}
	return out, nil
}

func (c *Client) endorse(ctx context.Context, r *snp.Report, roots []snp.Root) (*Endorsement, error) {
	if r.SigningKey != snp.VCEK {
		return nil, fmt.Errorf("a %s signed the report, and only the cloud provider has its certificate: it must come with the evidence", r.SigningKey)
	}
	product, err := r.Product()
	if err != nil {
		return nil, fmt.Errorf("%w: the certificate must come with the evidence", err)
	}
	query, err := vcekPath(product, r)
	if err != nil {
		return nil, fmt.Errorf("%w: the certificate must come with the evidence", err)
	}
	var root *snp.Root
	for i := range roots {
		if roots[i].Product == product {
			root = &roots[i]
		}
	}
	if root == nil {
		return nil, fmt.Errorf("no root of %s is trusted", product)
	}
	name := fmt.Sprintf("vcek-%s-%x-%016x", product, r.ChipID[:], uint64(r.ReportedTCB))
	if e := c.cached(name, root); e != nil {
		return e, nil
	}
	if c.Offline {
		return nil, fmt.Errorf("not in the cache, and no network may be used: run once without --offline, or put the answer of %s into %s", c.base()+query, c.file(name))
	}
	return c.fetch(ctx, name, query, product, root)
}

// fetch asks the KDS and keeps what leads to the root.
func (c *Client) fetch(ctx context.Context, name, query string, product snp.Product, root *snp.Root) (*Endorsement, error) {
	der, err := c.get(ctx, query)
	if err != nil {
		return nil, err
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("answer of %s: %w", c.base(), err)
	}
	e := &Endorsement{VCEK: der, From: c.base()}
	if !signedByAny(leaf, root.Intermediates) {
		if e.ASK, err = c.newASK(ctx, leaf, product, root); err != nil {
			return nil, err
		}
	}
	c.keep(name, e)
	return e, nil
}

// newASK asks for the chain where no known ASK signed the leaf.
func (c *Client) newASK(ctx context.Context, leaf *x509.Certificate, product snp.Product, root *snp.Root) ([]byte, error) {
	b, err := c.get(ctx, "/vcek/v1/"+string(product)+"/cert_chain")
	if err != nil {
		return nil, err
	}
	chain, err := snp.ParseCertificates(b)
	if err != nil {
		return nil, fmt.Errorf("chain from %s: %w", c.base(), err)
	}
	ask := chain[0]
	if ask.CheckSignatureFrom(root.ARK) != nil || leaf.CheckSignatureFrom(ask) != nil {
		return nil, fmt.Errorf("%s answered with a certificate that does not lead to AMD's root of %s: try again, or another network", c.base(), product)
	}
	return ask.Raw, nil
}

func signedByAny(leaf *x509.Certificate, parents []*x509.Certificate) bool {
	for _, p := range parents {
		if leaf.CheckSignatureFrom(p) == nil {
			return true
		}
	}
	return false
}

// vcekPath is the request for a VCEK's certificate. Turin's has one version
// number more, and a shorter HWID.
func vcekPath(p snp.Product, r *snp.Report) (string, error) {
	id, err := r.HWID()
	if err != nil {
		return "", err
	}
	parts, err := r.ReportedTCB.Parts(p)
	if err != nil {
		return "", err
	}
	query := fmt.Sprintf("blSPL=%02d&teeSPL=%02d&snpSPL=%02d&ucodeSPL=%02d", parts["bl"], parts["tee"], parts["snp"], parts["microcode"])
	if fmc, ok := parts["fmc"]; ok {
		query = fmt.Sprintf("fmcSPL=%02d&", fmc) + query
	}
	return "/vcek/v1/" + url.PathEscape(string(p)) + "/" + hex.EncodeToString(id) + "?" + query, nil
}

func (c *Client) base() string {
	if c.Base == "" {
		return KDS
	}
	return c.Base
}

func (c *Client) file(name string) string { return filepath.Join(c.Dir, name+".der") }

// cached reads the cache. What is there and does not lead to the root is as
// good as not there.
func (c *Client) cached(name string, root *snp.Root) *Endorsement {
	if c.Dir == "" {
		return nil
	}
	der, err := readFile(c.file(name))
	if err != nil {
		return nil
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil
	}
	e := &Endorsement{VCEK: der, From: c.file(name)}
	if signedByAny(leaf, root.Intermediates) {
		return e
	}
	raw, err := readFile(c.file(name + "-ask"))
	if err != nil {
		return nil
	}
	ask, err := x509.ParseCertificate(raw)
	if err != nil || ask.CheckSignatureFrom(root.ARK) != nil || leaf.CheckSignatureFrom(ask) != nil {
		return nil
	}
	e.ASK = raw
	return e
}

// keep writes the cache. It may fail: the certificate is then asked for again.
func (c *Client) keep(name string, e *Endorsement) {
	if c.Dir == "" || os.MkdirAll(c.Dir, 0o755) != nil {
		return
	}
	if e.ASK != nil && replace(c.file(name+"-ask"), e.ASK) != nil {
		return
	}
	_ = replace(c.file(name), e.VCEK)
}

// replace puts b at path in one step.
func replace(path string, b []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name())
	}
	return err
}
