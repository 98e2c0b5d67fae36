package gateway

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"syscall"
	"time"
)

const dialTime = 10 * time.Second

// neverDial are addresses that no policy opens: link-local ones, and where
// clouds serve machine credentials.
var neverDial = []netip.Prefix{
	netip.MustParsePrefix("169.254.0.0/16"),     // link-local, AWS/GCP/Azure metadata
	netip.MustParsePrefix("fe80::/10"),          // link-local
	netip.MustParsePrefix("fd00:ec2::/32"),      // AWS metadata over IPv6
	netip.MustParsePrefix("100.100.100.200/32"), // Alibaba metadata
	netip.MustParsePrefix("192.0.0.192/32"),     // Oracle metadata
	netip.MustParsePrefix("168.63.129.16/32"),   // Azure's platform channel
	netip.MustParsePrefix("fd20:ce::/32"),       // GCP metadata over IPv6
	netip.MustParsePrefix("0.0.0.0/8"),          // this host (RFC 791)
	netip.MustParsePrefix("::/128"),             // unspecified
	netip.MustParsePrefix("224.0.0.0/4"),        // multicast
	netip.MustParsePrefix("240.0.0.0/4"),        // reserved, broadcast
	netip.MustParsePrefix("ff00::/8"),           // multicast
	netip.MustParsePrefix("64:ff9b::/96"),       // NAT64 (RFC 6052) reaches any IPv4 address
	netip.MustParsePrefix("64:ff9b:1::/48"),     // local NAT64 (RFC 8215)
	netip.MustParsePrefix("2002::/16"),          // 6to4 (RFC 3056) likewise
	netip.MustParsePrefix("2001::/32"),          // Teredo (RFC 4380) likewise
}

// privateDial are addresses that a server or model has only with `private`.
var privateDial = []netip.Prefix{
	netip.MustParsePrefix("10.0.0.0/8"),
	netip.MustParsePrefix("172.16.0.0/12"),
	netip.MustParsePrefix("192.168.0.0/16"),
	netip.MustParsePrefix("127.0.0.0/8"),
	netip.MustParsePrefix("100.64.0.0/10"), // carrier-grade NAT (RFC 6598)
	netip.MustParsePrefix("192.0.0.0/24"),  // protocol assignments (RFC 6890)
	netip.MustParsePrefix("198.18.0.0/15"), // benchmarks (RFC 2544)
	netip.MustParsePrefix("::1/128"),
	netip.MustParsePrefix("fc00::/7"),
	netip.MustParsePrefix("fec0::/10"), // site-local (RFC 3879)
}

var errAddress = errors.New("address is not allowed")

// allowed says whether an upstream may have this address.
func allowed(ip netip.Addr, private bool) error {
	ip = ip.Unmap().WithZone("")
	for _, p := range neverDial {
		if p.Contains(ip) {
			return fmt.Errorf("%w: %s is never an upstream", errAddress, ip)
		}
	}
	if private {
		return nil
	}
	for _, p := range privateDial {
		if p.Contains(ip) {
			return fmt.Errorf("%w: %s is private, and the policy does not say private", errAddress, ip)
		}
	}
	return nil
}

// dial connects to an upstream and checks the address that it really connects
// to, so that no answer of a name server leads elsewhere.
func (g *Gateway) dial(ctx context.Context, private bool, address string) (net.Conn, error) {
	if to, ok := g.cfg.Dial[address]; ok {
		if _, err := netip.ParseAddrPort(to); err != nil {
			return nil, fmt.Errorf("dial %s: %w", address, err)
		}
		address = to
	}
	dialer := &net.Dialer{
		Timeout: dialTime,
		Control: func(_, address string, _ syscall.RawConn) error {
			ap, err := netip.ParseAddrPort(address)
			if err != nil {
				return fmt.Errorf("%w: %s", errAddress, address)
			}
			return allowed(ap.Addr(), private)
		},
	}
	return dialer.DialContext(ctx, "tcp", address)
}

// addClient makes the HTTP client of one upstream. It follows no redirects,
// keeps no cookies and uses no proxy. Hosts of the web have no breaker: an agent
// that may ask many could make one of them rest for others.
func (g *Gateway) addClient(name string, private, breaks bool) {
	var transport http.RoundTripper = &http.Transport{
		DialContext: func(ctx context.Context, _, address string) (net.Conn, error) {
			return g.dial(ctx, private, address)
		},
		TLSClientConfig:        &tls.Config{RootCAs: g.cfg.Roots, MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout:    dialTime,
		ForceAttemptHTTP2:      true,
		DisableCompression:     true,
		MaxResponseHeaderBytes: 64 << 10,
		MaxIdleConns:           1024,
		MaxIdleConnsPerHost:    8 * maxStreams, // an upstream is every agent's
		IdleConnTimeout:        time.Minute,
	}
	if breaks {
		g.guards[name] = &guard{now: g.cfg.Now, next: transport}
		transport = g.guards[name]
	}
	g.clients[name] = &http.Client{
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport:     transport,
	}
}
