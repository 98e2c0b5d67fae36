package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/name"

	"omega/agentloader/bundle"
	"omega/internal/strictjson"
	"omega/policy"
)

// A devFolder is an agent that somebody writes:
//
//	agent.json         the agent manifest; image and tool descriptors are filled in
//	root/              what becomes its image
//	tools/SERVER.json  the descriptors of a tool server that it uses
//	files/KIND/NAME    a model, adapter or data set that agent.json names without a digest
type devFolder struct{ dir string }

// mark changes with every file of the folder: its newest time, how many files
// there are, and their bytes.
func (f devFolder) mark() (string, error) {
	var newest time.Time
	var files, size int64
	err := filepath.WalkDir(f.dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if info.ModTime().After(newest) {
			newest = info.ModTime()
		}
		files++
		size += info.Size()
		return nil
	})
	return fmt.Sprintf("%d %d %d", newest.UnixNano(), files, size), err
}

// manifest reads agent.json.
func (f devFolder) manifest() (bundle.Manifest, error) {
	var m bundle.Manifest
	path := filepath.Join(f.dir, "agent.json")
	raw, err := readBounded(path, bundle.MaxManifest)
	if err == nil {
		err = strictjson.Decode(raw, &m, strictjson.Limits{MaxBytes: bundle.MaxManifest})
	}
	if err != nil {
		return m, fmt.Errorf("agent folder: %s: %w", path, err)
	}
	if !bundle.ValidName(m.Name) {
		return m, fmt.Errorf("agent folder: %s: %q is no agent's name", path, m.Name)
	}
	return m, nil
}

// devPublisher packs agents into a registry and signs for everybody.
type devPublisher struct {
	registry string // host:port
	keys     *devKeys
	document *policy.Document
	serial   uint64
	engines  map[string]bundle.Digest // by name, those of folders before
}

// publish makes a bundle of a folder and returns the signed deployment of it as
// an instance.
func (p *devPublisher) publish(ctx context.Context, f devFolder, instance string) (json.RawMessage, error) {
	m, err := f.manifest()
	if err != nil {
		return nil, err
	}
	if _, ok := p.document.Agent(m.Name); !ok {
		return nil, fmt.Errorf("agent folder: the policy names no agent %q", m.Name)
	}
	where := m.Name
	if m.Inference != nil {
		where = m.Inference.Engine // all that it is made of lies in one repository
	}
	repo, err := parseRepo(p.registry+"/"+where, true)
	if err != nil {
		return nil, err
	}
	if err := p.peers(&m); err != nil {
		return nil, err
	}
	onBundle, on := p.keys.vouchers(p.document, &m)
	if err := p.tools(ctx, f, repo, &m, on[bundle.RoleTool]); err != nil {
		return nil, err
	}
	if err := p.files(ctx, f, repo, &m, on); err != nil {
		return nil, err
	}
	if err := p.inference(ctx, repo, &m, on[bundle.RoleEngine]); err != nil {
		return nil, err
	}
	ref, err := packBundle(ctx, repo, m, filepath.Join(f.dir, "root"))
	if err != nil {
		return nil, err
	}
	if err := p.sign(ctx, ref, onBundle); err != nil {
		return nil, err
	}
	if m.Engine != nil {
		p.engines[m.Name] = ref.digest
	}
	p.serial++
	return bundle.SignDeployment(p.keys.deployer, bundle.Deployment{
		Bundle: ref.digest, Repository: repo.Name(), Instance: instance, Audience: p.keys.audience,
		Serial: uint64(time.Now().UnixMilli())<<8 + p.serial, Expires: time.Now().Add(time.Hour),
	})
}

// peers fills in who signs those peers that run here too and are named by neither
// bundle nor key: the keys are made on this machine.
func (p *devPublisher) peers(m *bundle.Manifest) error {
	for i, peer := range m.Peers {
		if peer.Key != "" || peer.Bundle != (bundle.Digest{}) {
			continue
		}
		at, _ := p.document.Peer(peer.Name)
		if _, ok := p.document.Agent(at.Agent); !ok {
			return fmt.Errorf("agent folder: %s: peer %q is no agent of the policy; name its bundle or a key that signed it", m.Name, peer.Name)
		}
		signers, _ := p.keys.vouchers(p.document, &bundle.Manifest{Name: at.Agent})
		if len(signers) == 0 {
			return fmt.Errorf("agent folder: %s: nobody signs peer %q", m.Name, peer.Name)
		}
		public, err := p.keys.principals[signers[0].Principal][0].Public()
		if err != nil {
			return err
		}
		m.Peers[i].Key = public.ID
	}
	return nil
}

// tools pushes the descriptors that lie in the folder and has their owners sign.
func (p *devPublisher) tools(ctx context.Context, f devFolder, repo name.Repository, m *bundle.Manifest, vouchers []bundle.Vouch) error {
	for i, t := range m.Tools {
		path := filepath.Join(f.dir, "tools", t.Server+".json")
		raw, err := readBounded(path, bundle.MaxTools)
		if errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("agent folder: %s uses the tool server %s: its descriptors are missing in %s", m.Name, t.Server, path)
		}
		if err != nil {
			return err
		}
		list, err := bundle.ParseDescriptors(raw)
		if err != nil {
			return fmt.Errorf("agent folder: %s: %w", path, err)
		}
		ref, err := pushDescriptors(ctx, repo, list)
		if err != nil {
			return err
		}
		m.Tools[i].Descriptors = ref.digest
		server, _ := p.document.Server(t.Server)
		var owners []bundle.Vouch
		for _, v := range vouchers {
			if server.Principal == "" || v.Principal == server.Principal {
				owners = append(owners, v)
			}
		}
		if err := p.sign(ctx, ref, owners); err != nil {
			return err
		}
	}
	return nil
}

func (p *devPublisher) sign(ctx context.Context, ref bundleRef, vouchers []bundle.Vouch) error {
	for _, v := range vouchers {
		for _, key := range p.keys.principals[v.Principal] {
			if err := signRef(ctx, ref, key, v); err != nil {
				return err
			}
		}
	}
	return nil
}

// devInstance names the n-th start of an agent: an instance is never used twice
// within a boot.
func devInstance(agent string, n int) string {
	if n == 1 {
		return agent
	}
	return fmt.Sprintf("%s-%d", strings.TrimRight(agent[:min(len(agent), 56)], "-."), n)
}

// devFolders are the folders that the command line names.
func devFolders(args []string) ([]devFolder, error) {
	var out []devFolder
	for _, dir := range args {
		f := devFolder{dir}
		if _, err := f.manifest(); err != nil {
			return nil, err
		}
		if info, err := os.Stat(filepath.Join(dir, "root")); err != nil || !info.IsDir() {
			return nil, fmt.Errorf("agent folder: %s has no folder root, which becomes the agent's image", dir)
		}
		out = append(out, f)
	}
	return out, nil
}
