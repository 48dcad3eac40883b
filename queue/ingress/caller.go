package ingress

import (
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// caller returns the address that a request comes from, the zero Addr if it is unknown. It is the address of the peer,
// unless the peer is a trusted proxy. Then X-Forwarded-For decides: each proxy appends the address that called it, so the
// header is read from the right, past the trusted proxies, to the first address that is not one. The caller may have
// invented everything to the left of that address.
func (s *Server) caller(r *http.Request) netip.Addr {
	peer := parseAddr(r.RemoteAddr)
	if !within(s.cfg.TrustedProxies, peer) {
		return peer
	}
	caller := peer
	forwarded := r.Header.Values("X-Forwarded-For")
	for _, line := range slices.Backward(forwarded) {
		for line != "" {
			cut := strings.LastIndexByte(line, ',')
			caller = parseAddr(strings.TrimSpace(line[cut+1:]))
			if !within(s.cfg.TrustedProxies, caller) {
				return caller
			}
			line = line[:max(cut, 0)]
		}
	}
	return caller
}

// allowed reports whether AllowFrom has the address of a caller.
func (s *Server) allowed(caller netip.Addr) bool {
	return len(s.cfg.AllowFrom) == 0 || within(s.cfg.AllowFrom, caller)
}

// parseAddr parses an address with or without a port. An IPv4 address that is mapped to IPv6 is returned as IPv4. The zero
// Addr stands for a text that is no address.
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

// unmapped returns networks with IPv4 networks that are mapped to IPv6 as IPv4, as parseAddr returns addresses.
func unmapped(networks []netip.Prefix) []netip.Prefix {
	plain := make([]netip.Prefix, len(networks))
	for i, n := range networks {
		if n.Addr().Is4In6() && n.Bits() >= 96 {
			n = netip.PrefixFrom(n.Addr().Unmap(), n.Bits()-96)
		}
		plain[i] = n
	}
	return plain
}

func within(networks []netip.Prefix, addr netip.Addr) bool {
	return slices.ContainsFunc(networks, func(n netip.Prefix) bool { return n.Contains(addr) })
}
