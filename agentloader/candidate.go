package agentloader

import (
	"context"
	"io"
	"maps"
	"os"
	"strconv"

	"omega/agentloader/bundle"
)

// A source is where a bundle's parts lie. What it gives has the digest that was asked for.
type source interface {
	bundle.Source
	BlobTo(ctx context.Context, d bundle.OCIDescriptor, max int64, f *os.File) error
	BlobThrough(ctx context.Context, d bundle.OCIDescriptor, max int64, f *os.File, through func() io.Writer) error
}

// open finds the bundle in the layout, or else opens its repository.
func (l *Loader) open(ctx context.Context, d *bundle.Deployment) (source, error) {
	if l.layout != nil && l.layout.Has(d.Bundle) {
		return l.layout, nil
	}
	return l.registry.Open(ctx, d.Repository)
}

// Release says that an admitted agent has ended for good: what it alone used may go.
func (l *Loader) Release(a *Admitted) {
	for _, name := range a.held {
		l.store.release(name)
	}
	a.held = nil
}

// pull brings the image and the files of a checked bundle. What it holds in the store it gives up again if
// anything is missing.
func (c *candidate) pull(ctx context.Context, instance string) (*Admitted, error) {
	done := false
	defer func() {
		c.forgetKeys()
		if !done {
			for _, name := range c.held {
				c.loader.store.release(name)
			}
		}
	}()
	if err := c.readImage(ctx); err != nil {
		return nil, err
	}
	if err := c.readFiles(ctx); err != nil {
		return nil, err
	}
	done = true
	return c.admitted(instance), nil
}

func (c *candidate) admitted(instance string) *Admitted {
	env := maps.Clone(c.image.env)
	maps.Copy(env, c.checked.Manifest.Env)
	if s := c.checked.Manifest.Serve; s != nil {
		env["PORT"] = strconv.Itoa(s.Port)
	}
	return &Admitted{
		Instance:   instance,
		Name:       c.checked.Manifest.Name,
		Bundle:     c.checked.Bundle,
		Manifest:   c.checked.Manifest,
		ImagePath:  c.image.path,
		Env:        env,
		Dir:        c.image.dir,
		Tools:      c.checked.Tools,
		Files:      c.files,
		Components: c.checked.Components,
		held:       c.held,
	}
}
