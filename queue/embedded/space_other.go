//go:build !(linux || darwin || freebsd)

package embedded

// measure does not know. Without it new messages are taken until the disk refuses them.
func measure(string) space { return space{} }
