package ingress

import (
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// caller returns the address that a request comes from. X-Forwarded-For counts only where the peer is a proxy that we
// trust: each proxy appends the address it was called from, so it is read from the right, past the proxies that are
// trusted, up to the first address that is not. What stands left of that one, the caller may have made up. The address is
// the zero Addr where nobody can tell.
func (d *Door) caller(r *http.Request) netip.Addr {
	peer := parseAddr(r.RemoteAddr)
	if !within(d.cfg.TrustedProxies, peer) {
		return peer
	}
	caller := peer
	forwarded := r.Header.Values("X-Forwarded-For")
	for _, line := range slices.Backward(forwarded) {
		for line != "" {
			cut := strings.LastIndexByte(line, ',')
			caller = parseAddr(strings.TrimSpace(line[cut+1:]))
			if !within(d.cfg.TrustedProxies, caller) {
				return caller
			}
			line = line[:max(cut, 0)]
		}
	}
	return caller
}

// allowed reports whether the door is open to a caller.
func (d *Door) allowed(caller netip.Addr) bool {
	return len(d.cfg.AllowFrom) == 0 || within(d.cfg.AllowFrom, caller)
}

// parseAddr reads an address with or without a port, and IPv4 in IPv6's clothes as IPv4. It returns the zero Addr for
// what is no address.
func parseAddr(s string) netip.Addr {
	addr, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(s, "["), "]"))
	if err != nil {
		withPort, err := netip.ParseAddrPort(s)
		if err != nil {
			return netip.Addr{}
		}
		addr = withPort.Addr()
	}
	return addr.Unmap().WithZone("")
}

// plain returns networks as [within] compares them.
func plain(networks []netip.Prefix) []netip.Prefix {
	unmapped := make([]netip.Prefix, len(networks))
	for i, n := range networks {
		if n.Addr().Is4In6() && n.Bits() >= 96 {
			n = netip.PrefixFrom(n.Addr().Unmap(), n.Bits()-96)
		}
		unmapped[i] = n
	}
	return unmapped
}

func within(networks []netip.Prefix, addr netip.Addr) bool {
	return slices.ContainsFunc(networks, func(n netip.Prefix) bool { return n.Contains(addr) })
}
