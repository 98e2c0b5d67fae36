package netcfg

import (
	"context"
	"net"
	"net/netip"
	"os"
	"runtime"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// ownNetwork gives the test a network namespace; its thread is never reused.
func ownNetwork(t *testing.T) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("not root: no network namespace")
	}
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Skipf("no network namespace: %v", err)
	}
}

func TestAnInterfaceGetsItsAddressAndRoute(t *testing.T) {
	ownNetwork(t)
	if _, err := Up("lo"); err != nil {
		t.Fatal(err)
	}
	if _, err := Up("eth9"); err == nil {
		t.Error("an interface that is not there came up")
	}
	err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "eth0"}, PeerName: "eth1"})
	if err != nil {
		t.Skipf("no virtual Ethernet here: %v", err)
	}
	hw, err := Up("eth0")
	if err != nil || len(hw) != 6 {
		t.Fatalf("hardware address %v, %v", hw, err)
	}
	if _, err := Up("eth1"); err != nil {
		t.Fatal(err)
	}
	addr, router := netip.MustParsePrefix("10.0.2.15/24"), netip.MustParseAddr("10.0.2.2")
	if err := Address("eth0", addr, router); err != nil {
		t.Fatal(err)
	}
	routes, err := netlink.RouteGet(net.IPv4(192, 0, 2, 1))
	if err != nil || len(routes) != 1 || !routes[0].Gw.Equal(net.IPv4(10, 0, 2, 2)) || !routes[0].Src.Equal(net.IPv4(10, 0, 2, 15)) {
		t.Errorf("route %v, %v", routes, err)
	}
}

func TestTheDHCPSocketMayBroadcastOnOneInterface(t *testing.T) {
	ownNetwork(t)
	if _, err := Up("lo"); err != nil {
		t.Fatal(err)
	}
	f, err := DHCPSocket(context.Background(), "lo")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if v, err := unix.GetsockoptInt(int(f.Fd()), unix.SOL_SOCKET, unix.SO_BROADCAST); err != nil || v != 1 {
		t.Errorf("broadcast %d, %v", v, err)
	}
	if name, err := unix.GetsockoptString(int(f.Fd()), unix.SOL_SOCKET, unix.SO_BINDTODEVICE); err != nil || name != "lo" {
		t.Errorf("bound to %q, %v", name, err)
	}
}
