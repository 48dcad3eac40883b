//go:build !unix

package sandbox

// occupy does nothing: the port is not reserved while nobody listens.
func occupy(string) (vacate func()) { return func() {} }
