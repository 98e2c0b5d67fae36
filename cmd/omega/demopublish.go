package main

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/google/go-containerregistry/pkg/name"

	"omega/agentloader/bundle"
)

// demoAudience is the platform that the demo's policy names.
const demoAudience = "demo"

// publish starts the world outside, fills its registry, and writes the launch
// config.
func (d *demo) publish(ctx context.Context) error {
	var err error
	if d.world, err = startWorld(ctx, d.keys, d.programs(), d.run); err != nil {
		return err
	}
	d.sayf("outside, on loopback: an OCI registry at %s, two MCP tool servers, and a scripted language model", d.world.registry)
	var deployments []json.RawMessage
	for i, agent := range demoAgents {
		ref, err := d.publishAgent(ctx, agent)
		if err != nil {
			return fmt.Errorf("agent %s: %w", agent.instance, err)
		}
		if agent.network {
			d.second = ref
			continue
		}
		// Later runs have later serials: one is never accepted twice.
		deployment, err := bundle.SignDeployment(d.keys.signers["deployer"], bundle.Deployment{
			Bundle: ref.digest, Repository: ref.repo.Name(), Instance: agent.instance, Audience: demoAudience,
			Serial: uint64(time.Now().UnixMilli()) + uint64(i), Expires: time.Now().Add(time.Hour),
		})
		if err != nil {
			return err
		}
		deployments = append(deployments, deployment)
	}
	return d.writeConfig(deployments)
}

// publishAgent packs one agent with the tools that it pins and has everybody
// sign their part.
func (d *demo) publishAgent(ctx context.Context, agent demoAgent) (bundleRef, error) {
	repo, err := parseRepo(d.world.registry+"/"+agent.instance, false)
	if err != nil {
		return bundleRef{}, err
	}
	manifest := bundle.Manifest{
		Name: agent.name, Command: []string{"/" + agent.name}, Env: map[string]string{"AGENT_MODEL": "scripted"},
		Models: []string{"scripted"}, Limits: bundle.Limits{MemoryBytes: 512 << 20, CPUMillis: 2000, Processes: 256},
	}
	if agent.network {
		manifest.Env["AGENT_STAY"] = "1"
	}
	for _, p := range demoProviders {
		for _, server := range agent.servers {
			if p.name != server {
				continue
			}
			digest, err := d.publishTools(ctx, repo, p)
			if err != nil {
				return bundleRef{}, fmt.Errorf("tools of %s: %w", p.name, err)
			}
			manifest.Tools = append(manifest.Tools, bundle.Tool{Server: server, Descriptors: digest})
		}
	}
	if agent.weights() != "" {
		if manifest.Model, err = d.publishWeights(ctx, repo, agent); err != nil {
			return bundleRef{}, fmt.Errorf("model: %w", err)
		}
		manifest.Env["AGENT_WEIGHTS"] = "/models/" + manifest.Model.Name
	}
	ref, err := packBundle(ctx, repo, manifest, filepath.Dir(programIn(d.programs(), agent.name)))
	if err != nil {
		return bundleRef{}, err
	}
	d.sayf("agent %s: %s, signed as workshop's by the key of the %s", agent.instance, ref, agent.author)
	err = signRef(ctx, ref, d.keys.signers[agent.author], bundle.Vouch{Role: "author", Principal: "workshop"})
	if err != nil || agent.author != "author" {
		return ref, err // the operator signs nothing of a stranger's
	}
	return ref, signRef(ctx, ref, d.keys.signers["operator"], bundle.Vouch{Role: "operator", Principal: "operator"})
}

// weightsSize is that of the demo's models: enough for several blocks of verity.
const weightsSize = 64 << 10

// publishWeights pushes an agent's model, a file of made-up numbers, signed by
// the owner of models.
func (d *demo) publishWeights(ctx context.Context, repo name.Repository, agent demoAgent) (*bundle.File, error) {
	path := filepath.Join(d.run, agent.weights())
	numbers := make([]byte, weightsSize)
	rand.NewChaCha8(sha256.Sum256([]byte(agent.name))).Read(numbers)
	if err := os.WriteFile(path, numbers, 0o600); err != nil {
		return nil, err
	}
	ref, file, err := pushFile(ctx, repo, bundle.FileConfig{Kind: bundle.KindModel, Name: agent.weights()}, path)
	if err != nil {
		return nil, err
	}
	return &file, signRef(ctx, ref, d.keys.signers["model-owner"], bundle.Vouch{Role: "model", Principal: "foundry"})
}

// publishTools pushes the tool descriptors of a provider, signed by its owner.
func (d *demo) publishTools(ctx context.Context, repo name.Repository, p provider) (bundle.Digest, error) {
	raw, err := exec.CommandContext(ctx, programIn(d.programs(), p.name), "-descriptors").Output()
	if err != nil {
		return bundle.Digest{}, fmt.Errorf("descriptors: %w", err)
	}
	list, err := bundle.ParseDescriptors(raw)
	if err != nil {
		return bundle.Digest{}, err
	}
	ref, err := pushDescriptors(ctx, repo, list)
	if err != nil {
		return bundle.Digest{}, err
	}
	return ref.digest, signRef(ctx, ref, d.keys.signers[p.key], bundle.Vouch{Role: "tool", Principal: p.owner})
}

// writeConfig writes the launch config: untrusted input to the guest, which
// acts on it only as far as the measured policy allows.
func (d *demo) writeConfig(deployments []json.RawMessage) error {
	text, err := json.Marshal(map[string]any{
		"version":     "omega/launch/v1",
		"network":     map[string]any{"dhcp": true},
		"registry":    map[string]any{"mirror": "http://" + d.world.registryForGuest()},
		"dial":        d.world.dial,
		"deployments": deployments,
	})
	if err != nil {
		return err
	}
	d.config = filepath.Join(d.run, "launch.json")
	d.sayf("launch config: %s", d.config)
	return os.WriteFile(d.config, text, 0o600)
}
