//go:build !(linux || darwin || freebsd)

package embedded

// measure knows of no way to ask this system. New messages are then accepted until a write fails.
func measure(string) space { return space{} }
