//go:build !unix

package sandbox

// occupy does nothing: on this system the port is not reserved while the sandbox refuses connections.
func occupy(string) (vacate func()) { return func() {} }
