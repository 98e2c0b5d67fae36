package gateway

import (
	"net/netip"
	"regexp"
	"slices"
	"strings"

	"omega/policy"
)

// hostForm is a DNS name in lower case; the last label of a name is no number.
var hostForm = regexp.MustCompile(`^([a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9])?\.)*[a-z]([a-z0-9-]{0,61}[a-z0-9])?$`)

// plainHost accepts a name, or an address in the form that its own text has.
func plainHost(host string) bool {
	if ip, err := netip.ParseAddr(host); err == nil {
		return ip.String() == host && ip.Zone() == "" && !ip.Is4In6()
	}
	return len(host) <= 253 && hostForm.MatchString(host)
}

// covers says whether a group of the policy has a site in it.
func covers(w policy.Web, s site) bool {
	ports := w.Ports
	if len(ports) == 0 {
		ports = []int{443}
	}
	if !slices.Contains(ports, s.port) {
		return false
	}
	return slices.ContainsFunc(w.Hosts, func(host string) bool {
		suffix, wild := strings.CutPrefix(host, "*.")
		return host == s.host || wild && strings.HasSuffix(s.host, "."+suffix)
	})
}
