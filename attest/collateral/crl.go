package collateral

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"omega/attest"
	"omega/attest/snp"
)

// listAge is how old a kept list may be before a newer one is asked for. AMD's
// lists are good for months, and what was revoked meanwhile stands in newer ones.
const listAge = 24 * time.Hour

// Revocations is a revocation list and where it is from.
type Revocations struct {
	CRL  *snp.CRL
	From string
}

// Revocations gets AMD's revocation list for the keys of that kind of the
// product of a root, valid at now. Every error is an attest.ErrCollateral.
func (c *Client) Revocations(ctx context.Context, kind snp.SigningKey, root *snp.Root, now time.Time) (*Revocations, error) {
	out, err := c.revocations(ctx, kind, root, now)
	if err != nil {
		return nil, fmt.Errorf("%w: revocation list: %w", attest.ErrCollateral, err)
	}
	return out, nil
}

func (c *Client) revocations(ctx context.Context, kind snp.SigningKey, root *snp.Root, now time.Time) (*Revocations, error) {
	folder := map[snp.SigningKey]string{snp.VCEK: "vcek", snp.VLEK: "vlek"}[kind]
	if folder == "" {
		return nil, fmt.Errorf("%s has none", kind)
	}
	path, name := "/"+folder+"/v1/"+string(root.Product)+"/crl", "crl-"+folder+"-"+string(root.Product)
	kept, age := c.keptList(name, root, now)
	if kept != nil && (c.Offline || age < listAge) {
		return kept, nil
	}
	if c.Offline {
		return nil, fmt.Errorf("none in the cache that is good today, and no network may be used: run once without --offline, or put the answer of %s into %s", c.base()+path, c.file(name))
	}
	b, err := c.get(ctx, path)
	if err == nil {
		var list *snp.CRL
		if list, err = snp.ParseCRL(b); err == nil {
			err = list.Valid(root.ARK, now)
		}
		if err == nil {
			c.keepList(name, b)
			return &Revocations{list, c.base()}, nil
		}
		err = fmt.Errorf("answer of %s: %w", c.base(), err)
	}
	if kept != nil { // still good: an older list is better than none
		return kept, nil
	}
	return nil, err
}

// KeptRevocations is the list in the cache, nil where there is none that is
// good at now. It asks nobody.
func (c *Client) KeptRevocations(kind snp.SigningKey, root *snp.Root, now time.Time) *Revocations {
	offline := *c
	offline.Offline = true
	out, err := offline.Revocations(context.Background(), kind, root, now)
	if err != nil {
		return nil
	}
	return out
}

func (c *Client) keptList(name string, root *snp.Root, now time.Time) (*Revocations, time.Duration) {
	if c.Dir == "" {
		return nil, 0
	}
	b, err := readFile(c.file(name))
	if err != nil {
		return nil, 0
	}
	info, err := os.Stat(c.file(name))
	list, parsed := snp.ParseCRL(b)
	if errors.Join(err, parsed) != nil || list.Valid(root.ARK, now) != nil {
		return nil, 0
	}
	return &Revocations{list, c.file(name)}, now.Sub(info.ModTime())
}

func (c *Client) keepList(name string, b []byte) {
	if c.Dir != "" && os.MkdirAll(c.Dir, 0o755) == nil {
		_ = replace(c.file(name), b) // it may fail: the list is then asked for again
	}
}
