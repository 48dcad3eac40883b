package process

import (
	"fmt"
	"net/netip"
	"strings"
)

// networks is a list of addresses and networks, as flags have them.
type networks []netip.Prefix

// UnmarshalText reads the whole list, so that a flag replaces what its variable says.
func (n *networks) UnmarshalText(text []byte) error {
	var list networks
	for item := range strings.SplitSeq(string(text), ",") {
		if item = strings.TrimSpace(item); item == "" {
			continue
		}
		network, err := netip.ParsePrefix(item)
		if addr, errAddr := netip.ParseAddr(item); errAddr == nil && addr.Zone() == "" {
			network, err = addr.Prefix(addr.BitLen())
		}
		if err != nil {
			return fmt.Errorf("must be addresses and networks such as 203.0.113.7 or 203.0.113.0/24, separated by commas (got %q)", item)
		}
		list = append(list, network)
	}
	*n = list
	return nil
}

func (n networks) String() string {
	items := make([]string, len(n))
	for i, network := range n {
		items[i] = network.String()
	}
	return strings.Join(items, ",")
}
