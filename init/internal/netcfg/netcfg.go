// Package netcfg sets up the guest's interfaces with netlink and makes the
// sockets that need PID 1's rights. It takes addresses that are already parsed.
package netcfg

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Up brings an interface up and returns its hardware address.
func Up(name string) (net.HardwareAddr, error) {
	l, err := netlink.LinkByName(name)
	if err != nil {
		return nil, fmt.Errorf("interface %s: %w", name, err)
	}
	if err := netlink.LinkSetUp(l); err != nil {
		return nil, fmt.Errorf("interface %s up: %w", name, err)
	}
	return l.Attrs().HardwareAddr, nil
}

// Address gives an interface its address and, if router is valid, the default
// route through it.
func Address(name string, addr netip.Prefix, router netip.Addr) error {
	l, err := netlink.LinkByName(name)
	if err != nil {
		return fmt.Errorf("interface %s: %w", name, err)
	}
	ip := &net.IPNet{IP: addr.Addr().AsSlice(), Mask: net.CIDRMask(addr.Bits(), addr.Addr().BitLen())}
	if err := netlink.AddrAdd(l, &netlink.Addr{IPNet: ip}); err != nil {
		return fmt.Errorf("interface %s address: %w", name, err)
	}
	if !router.IsValid() {
		return nil
	}
	route := &netlink.Route{LinkIndex: l.Attrs().Index, Gw: router.AsSlice()}
	if err := netlink.RouteAdd(route); err != nil {
		return fmt.Errorf("default route: %w", err)
	}
	return nil
}

// DHCPSocket is a UDP socket on port 68 of one interface that may broadcast.
func DHCPSocket(ctx context.Context, name string) (*os.File, error) {
	lc := net.ListenConfig{Control: func(_, _ string, rc syscall.RawConn) error {
		var err error
		ctl := rc.Control(func(fd uintptr) {
			if err = unix.BindToDevice(int(fd), name); err == nil {
				err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_BROADCAST, 1)
			}
		})
		if ctl != nil {
			return ctl
		}
		return err
	}}
	pc, err := lc.ListenPacket(ctx, "udp4", "0.0.0.0:68")
	if err != nil {
		return nil, fmt.Errorf("DHCP socket: %w", err)
	}
	defer pc.Close()
	return pc.(*net.UDPConn).File()
}

// Listener is a listening TCP socket, to hand to the child that serves it.
func Listener(ctx context.Context, address string) (*os.File, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp4", address)
	if err != nil {
		return nil, fmt.Errorf("listening: %w", err)
	}
	defer l.Close()
	return l.(*net.TCPListener).File()
}
