package main

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"

	"omega/init/internal/dhcp"
	"omega/init/internal/launch"
	"omega/internal/wire"
)

// runConfig is the config child: it reads what the host wrote (the launch
// config's text and DHCP messages) and gives PID 1 strict structs. It holds
// nothing, so that taking it over wins nothing but lies that the host could
// have told anyway.
func runConfig(ctx context.Context, c *child) error {
	return serveAll(ctx, c, map[string]map[string]wire.Handler{
		"pid1": {opParse: handle(parseConfig), opLease: handleFile(getLease)},
	})
}

func parseConfig(_ context.Context, req parseRequest) (launchConfig, error) {
	c, err := launch.Parse(req.Config)
	if err != nil {
		return launchConfig{}, err
	}
	return launchConfig{DHCP: c.Network.DHCP, Mirror: c.Registry.Mirror, Dial: c.Dial, Deployments: c.Deployments, Releases: c.Releases, Revocations: c.Revocations}, nil
}

func getLease(ctx context.Context, req leaseRequest, socket *os.File) (lease, error) {
	if socket == nil || len(req.MAC) != 6 {
		return lease{}, errors.New("lease: no socket, or no Ethernet address")
	}
	conn, err := net.FilePacketConn(socket)
	_ = socket.Close()
	if err != nil {
		return lease{}, fmt.Errorf("lease: %w", err)
	}
	defer conn.Close()
	var xid [4]byte
	if _, err := rand.Read(xid[:]); err != nil {
		return lease{}, fmt.Errorf("lease: %w", err)
	}
	got, err := dhcp.Get(ctx, conn, [6]byte(req.MAC), binary.BigEndian.Uint32(xid[:]))
	if err != nil {
		return lease{}, err
	}
	out := lease{Address: got.Address.String()}
	if got.Router.IsValid() {
		out.Router = got.Router.String()
	}
	return out, nil
}
