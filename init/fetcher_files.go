package main

import (
	"context"
	"path/filepath"

	"omega/agentloader"
	"omega/attest"
	"omega/attest/kbs"
	"omega/policy"
	"omega/policy/gateway"
)

// onDisk asks sandboxd, which may look at disks, whether one holds a file.
func (f *fetcher) onDisk(ctx context.Context, root agentloader.Digest, size int64) (bool, error) {
	var reply diskReply
	_, err := f.sandboxd.Call(ctx, opDisk, diskRequest{Root: attest.Bytes32(root), Size: size}, &reply)
	return reply.Found, err
}

// runFiles are the files of an admitted agent, in sandboxd's words.
func runFiles(a *agentloader.Admitted) []runFile {
	var out []runFile
	for _, f := range a.Files {
		own := runFile{Kind: f.Kind, Name: f.Name, Size: f.Size, Root: attest.Bytes32(f.Root)}
		if f.Path != "" {
			own.File = filepath.Base(f.Path)
		}
		out = append(out, own)
	}
	return out
}

// layerKeys asks the policy's key broker, with the signer's evidence, for the
// keys of encrypted layers. Without a broker there are none.
func (f *fetcher) layerKeys(d *policy.Document, dial map[string]string) (func(context.Context, string) ([]byte, error), error) {
	if d.Broker == nil {
		return nil, nil
	}
	signer, err := f.c.client("signer")
	if err != nil {
		return nil, err
	}
	roots, err := measuredRoots()
	if err != nil {
		return nil, err
	}
	client, err := kbs.New(d.Broker.URL, gateway.Transport(roots, dial, d.Broker.Private, d.Broker.Key), brokerAttester{signer})
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context, resource string) ([]byte, error) {
		ctx, cancel := context.WithTimeout(ctx, secretTime)
		defer cancel()
		return client.Get(ctx, resource)
	}, nil
}

// keep notes what a started agent uses, until it has ended.
func (f *fetcher) keep(a *agentloader.Admitted) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.inUse == nil {
		f.inUse = map[string]*agentloader.Admitted{}
	}
	f.inUse[a.Instance] = a
}

// ended gives up what an agent used that has ended for good.
func (f *fetcher) ended(_ context.Context, req endedRequest) (nothing, error) {
	f.mu.Lock()
	a, loader := f.inUse[req.Instance], f.loader
	delete(f.inUse, req.Instance)
	f.mu.Unlock()
	if a != nil {
		loader.Release(a)
	}
	return nothing{}, nil
}
