package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"omega/attest"
	"omega/init/internal/cgroup"
	"omega/init/internal/devices"
	"omega/init/internal/launch"
	"omega/policy/provenance"
)

// devicePatience is how long the host's virtio devices may take to appear.
const devicePatience = 10 * time.Second

// keys starts the signer with the report device, and beside it those that the
// next phases talk to. From here on children live.
func (g *guest) keys(ctx context.Context) error {
	if err := g.openNursery(); err != nil {
		return err
	}
	if err := g.start("signer", "log", "config", "front"); err != nil {
		return err
	}
	device, kind, err := g.openReportDevice(ctx)
	if err != nil {
		return fail("no report device", err)
	}
	var started signerStarted
	req := signerStart{BootID: g.bootID, Device: kind}
	if err := g.call(ctx, "signer", opStart, req, &started, device); err != nil {
		return err
	}
	g.origin, g.logKey = started.LogOrigin, started.LogKey
	var h hostData
	if err := g.call(ctx, "signer", opHostData, nothing{}, &h); err != nil {
		return fail("no attestation report", err)
	}
	g.hostData = h.HostData
	return nil
}

func (g *guest) openNursery() error {
	ch, err := newChannels()
	if err != nil {
		return err
	}
	g.nursery = &nursery{channels: ch, pids: map[int]string{}, verbose: g.verbose()}
	if g.dev == nil {
		tree := cgroup.Tree{Dir: cgroupDir}
		g.nursery.cgroup = func(s *spec) (*os.File, error) { return tree.Make(s.name, s.memory, s.pids) }
		g.nursery.protect = protect
	}
	g.startReaper()
	return nil
}

// openReportDevice opens what makes attestation reports: the hardware's device
// where SNP is active, and the emulated PSP's port only where it is not.
func (g *guest) openReportDevice(ctx context.Context) (*os.File, string, error) {
	if g.dev != nil {
		return g.dev.psp, devicePSP, nil
	}
	if devices.SNP(g.root1) {
		f, err := os.OpenFile("/dev/sev-guest", os.O_RDWR, 0)
		return f, deviceSNP, err
	}
	ctx, cancel := context.WithTimeout(ctx, devicePatience)
	defer cancel()
	for {
		port, err := devices.Port(g.sys(), devices.PortPSP)
		if err != nil {
			return nil, "", err
		}
		if port != "" {
			f, err := os.OpenFile(filepath.Join("/dev", port), os.O_RDWR, 0)
			return f, devicePSP, err
		}
		select {
		case <-ctx.Done():
			return nil, "", fmt.Errorf("port %s: %w", devices.PortPSP, errNoDevice)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// startLog starts the provenance log, on the host's disk if there is one.
func (g *guest) startLog(ctx context.Context) error {
	disk := ""
	if g.dev == nil { // else a disk of that name is somebody else's
		var err error
		if disk, err = devices.Disk(g.sys(), devices.SerialLog); err != nil {
			return err
		}
	}
	req := logStart{Origin: g.origin, LogKey: g.logKey, PolicyDigest: g.policy.Digest, Disk: disk != ""}
	var files []*os.File
	if disk != "" {
		f, err := os.OpenFile(filepath.Join("/dev", disk), os.O_RDWR, 0)
		if err != nil {
			return fail("log disk unusable", err)
		}
		files = append(files, f)
	}
	return g.call(ctx, "log", opStart, req, nil, files...)
}

// loadConfig reads the launch config's bytes, holds them against HOST_DATA, and
// has the config child parse them. No disk: no deployments.
func (g *guest) loadConfig(ctx context.Context) error {
	text, err := g.readConfig()
	if err != nil {
		return err
	}
	if text == nil {
		g.log.Info("no launch config")
		if g.hostData != ([32]byte{}) {
			return fail("launch config does not match HOST_DATA", errNoDevice)
		}
		g.config.DHCP = true
		return nil
	}
	g.digest = sha256.Sum256(text)
	if g.hostData != ([32]byte{}) && g.hostData != g.digest {
		return fail("launch config does not match HOST_DATA", fmt.Errorf("digest %x, HOST_DATA %x", g.digest, g.hostData))
	}
	if err := g.call(ctx, "config", opParse, parseRequest{Config: text}, &g.config); err != nil {
		return fail("launch config malformed", err)
	}
	return nil
}

// readConfig returns the text on the config disk, nil without such a disk.
func (g *guest) readConfig() ([]byte, error) {
	if g.dev != nil {
		return g.dev.text()
	}
	disk, err := devices.Disk(g.sys(), devices.SerialConfig)
	if err != nil || disk == "" {
		return nil, err
	}
	f, err := os.Open(filepath.Join("/dev", disk))
	if err != nil {
		return nil, fail("launch config unreadable", err)
	}
	defer f.Close()
	// A block device is read in whole blocks, whatever the frame says.
	b, err := io.ReadAll(io.LimitReader(f, launch.MaxConfig+4096))
	if err != nil {
		return nil, fail("launch config unreadable", err)
	}
	text, err := launch.ReadFrame(bytes.NewReader(b))
	if err != nil {
		return nil, fail("launch config malformed", err)
	}
	return text, nil
}

// gpu looks for a GPU and completes the boot claims. This image has no driver
// for one, so a GPU that is there is refused, not used; a display of any other
// kind ends the boot.
func (g *guest) gpu(ctx context.Context) error {
	present, err := devices.GPU(g.sys())
	if errors.Is(err, devices.ErrUnexpected) {
		return fail("unexpected display device", err)
	}
	if err != nil {
		return err
	}
	state := attest.GPUAbsent
	if present {
		state = attest.GPURefused
	}
	if g.policy.Document.GPU == "required" {
		return fail("the policy requires a GPU", fmt.Errorf("GPU %s", state))
	}
	return g.claim(ctx, state)
}

// claim completes the boot claims with what became of the GPU.
func (g *guest) claim(ctx context.Context, state string) error {
	claims := attest.BootClaims{
		Version: attest.BootVersion, BootID: g.bootID, PolicyDigest: g.policy.Digest, ConfigDigest: g.digest,
		Profile: g.image.Profile, SVN: g.image.SVN, GPU: state,
	}
	return g.call(ctx, "signer", opBootClaims, bootClaims{Claims: claims}, nil)
}

// recordBoot writes the boot entry, the log's first: the claims with all keys,
// as evidence has them.
func (g *guest) recordBoot(ctx context.Context) error {
	var whole bootClaims
	if err := g.call(ctx, "signer", opClaims, nothing{}, &whole); err != nil {
		return err
	}
	result, err := json.Marshal(whole.Claims)
	if err != nil {
		return err
	}
	entry := provenance.Entry{Kind: provenance.KindBoot, Time: time.Now().UTC(), Result: result, PolicyDigest: g.policy.Digest}
	return g.call(ctx, "log", opAppend, appendRequest{Entry: entry}, &appendReply{})
}
