package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"omega/init/internal/devices"
	"omega/init/internal/netcfg"
)

// frontAddress is the platform's only listener.
const frontAddress = "0.0.0.0:8443"

// deployTimeout bounds one deployment: pulling, checking and starting it.
const deployTimeout = 5 * time.Minute

// sys is /sys.
func (g *guest) sys() fs.FS {
	sub, err := fs.Sub(g.root1, "sys")
	if err != nil { // only for a name that is no path
		return g.root1
	}
	return sub
}

// network sets up the loopback and the one virtio interface.
func (g *guest) network(ctx context.Context) error {
	if _, err := netcfg.Up("lo"); err != nil {
		return err
	}
	name, err := devices.Network(g.sys())
	switch {
	case err != nil:
		return err
	case g.config.DHCP && name == "" && g.digest != ([32]byte{}):
		return fail("no network device", errNoDevice)
	case !g.config.DHCP || name == "":
		return nil
	}
	hw, err := netcfg.Up(name)
	if err != nil {
		return err
	}
	socket, err := netcfg.DHCPSocket(ctx, name)
	if err != nil {
		return err
	}
	var l lease
	if err := g.call(ctx, "config", opLease, leaseRequest{MAC: hw}, &l, socket); err != nil {
		return fail("no DHCP lease", err)
	}
	return g.setAddress(name, l)
}

func (g *guest) setAddress(name string, l lease) error {
	addr, err := netip.ParsePrefix(l.Address)
	if err != nil {
		return fmt.Errorf("lease: %w", err)
	}
	var router netip.Addr
	if l.Router != "" {
		if router, err = netip.ParseAddr(l.Router); err != nil {
			return fmt.Errorf("lease: %w", err)
		}
	}
	return netcfg.Address(name, addr, router)
}

// startFront ends the config child, whose work is done, and serves evidence.
func (g *guest) startFront(ctx context.Context) error {
	_ = g.clients["config"].Close()
	delete(g.clients, "config")
	l, err := g.listen(ctx)
	if err != nil {
		return err
	}
	if err := g.call(ctx, "front", opStart, frontStart{Releases: g.config.Releases}, nil, l); err != nil {
		return err
	}
	// Evidence names a checkpoint, so there is none before the first entry.
	if err := g.recordBoot(ctx); err != nil {
		return err
	}
	g.console.Mark("serving")
	return nil
}

// listen opens the platform's only listener.
func (g *guest) listen(ctx context.Context) (*os.File, error) {
	if g.dev != nil {
		return g.dev.listener, nil
	}
	return netcfg.Listener(ctx, frontAddress)
}

// startGateway starts the gateway, and beside it those that the next phase talks to.
func (g *guest) startGateway(ctx context.Context) error {
	if err := g.start("gateway", "sandboxd", "fetcher"); err != nil {
		return err
	}
	req := gatewayStart{BootID: g.bootID, PolicyDigest: g.policy.Digest, Dial: g.config.Dial}
	return g.call(ctx, "gateway", opStart, req, nil)
}

// startAgents readies what runs agents, then deploys. A refused deployment is a
// result; only a child that fails is an error.
func (g *guest) startAgents(ctx context.Context) error {
	quickly, cancel := context.WithTimeout(ctx, quick)
	defer cancel()
	if err := g.call(quickly, "sandboxd", opStart, sandboxdStart{PolicyDigest: g.policy.Digest, Cgroup: g.sandboxGroup()}, nil); err != nil {
		return err
	}
	fetch := fetcherStart{PolicyDigest: g.policy.Digest, BootID: g.bootID, Mirror: g.config.Mirror, Dial: g.config.Dial,
		Revocations: g.config.Revocations}
	disk, err := g.layoutDisk()
	if err != nil {
		return err
	}
	if err := g.call(quickly, "fetcher", opStart, fetch, nil, disk...); err != nil {
		return err
	}
	for _, d := range g.config.Deployments {
		if err := g.deploy(ctx, deployRequest{Deployment: d}); err != nil {
			return err
		}
	}
	return nil
}

// layoutDisk opens the disk with bundles, if there is one. The fetcher reads it.
func (g *guest) layoutDisk() ([]*os.File, error) {
	name, err := devices.Disk(g.sys(), devices.SerialLayout)
	if err != nil || name == "" {
		return nil, err
	}
	f, err := os.Open(filepath.Join("/dev", name))
	if err != nil {
		return nil, fail("layout disk unusable", err)
	}
	return []*os.File{f}, nil
}

func (g *guest) deploy(ctx context.Context, req deployRequest) error {
	ctx, cancel := context.WithTimeout(ctx, deployTimeout)
	defer cancel()
	var reply deployReply
	err := g.call(ctx, "fetcher", opDeploy, req, &reply)
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		g.console.Agent("", "refused", "timed out")
	case err != nil:
		return err
	case !reply.Started:
		g.console.Agent(reply.Instance, "refused", reply.Reason)
	default:
		g.console.Agent(reply.Instance, "admitted", "")
		g.console.Agent(reply.Instance, "started", "")
	}
	return nil
}

func (g *guest) ready(ctx context.Context) error {
	if err := g.call(ctx, "front", opReady, nothing{}, nil); err != nil {
		return err
	}
	g.console.Mark("ready")
	return nil
}

// watchAgents prints the end of each agent, for as long as the machine runs.
func (g *guest) watchAgents(ctx context.Context) {
	for {
		var reply exitsReply
		if err := g.call(ctx, "sandboxd", opExits, nothing{}, &reply); err != nil {
			g.log.Error("waiting for agents", "error", err)
			return // sandboxd is gone: the reaper powers off
		}
		for _, e := range reply.Exits {
			g.console.Agent(e.Instance, "exited", strconv.Itoa(e.Code))
			if err := g.call(ctx, "fetcher", opEnded, endedRequest{Instance: e.Instance}, nil); err != nil {
				g.log.Error("giving up what an agent used", "error", err)
			}
		}
	}
}

// watchPower powers off when the host writes to the power port. The host could
// pull the plug as well; this way the log is whole and the disk is written.
func (g *guest) watchPower() {
	var port string
	for ; port == ""; time.Sleep(200 * time.Millisecond) {
		port, _ = devices.Port(g.sys(), devices.PortPower) // two of them: no clean power-off
	}
	f, err := os.Open(filepath.Join("/dev", port))
	if err != nil {
		g.log.Warn("power port", "error", err)
		return
	}
	b := make([]byte, 1)
	for {
		if n, _ := f.Read(b); n > 0 {
			g.powerOff("asked by the host")
		}
		time.Sleep(100 * time.Millisecond) // the host's end is closed
	}
}
