//go:build unix

package sandbox

import (
	"net/netip"
	"syscall"
)

// occupy binds a socket to an address without listening, so that connections to the address are refused and no other process can
// get its port. The socket does not prevent the sandbox from listening there again. If the address cannot be bound, it is not
// reserved.
func occupy(addr string) (vacate func()) {
	at, err := netip.ParseAddrPort(addr)
	if err != nil {
		return func() {}
	}
	family, sa := syscall.AF_INET6, syscall.Sockaddr(&syscall.SockaddrInet6{Port: int(at.Port()), Addr: at.Addr().As16()})
	if ip := at.Addr().Unmap(); ip.Is4() {
		family, sa = syscall.AF_INET, &syscall.SockaddrInet4{Port: int(at.Port()), Addr: ip.As4()}
	}
	syscall.ForkLock.RLock()
	fd, err := syscall.Socket(family, syscall.SOCK_STREAM, 0)
	if err == nil {
		syscall.CloseOnExec(fd)
	}
	syscall.ForkLock.RUnlock()
	if err != nil {
		return func() {}
	}
	// If either fails, the port is merely not reserved.
	_ = syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1)
	_ = syscall.Bind(fd, sa)
	return func() { _ = syscall.Close(fd) }
}
