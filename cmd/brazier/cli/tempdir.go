package cli

import "os"

// RemoveInUse removes a directory that this process may still be writing files into.
func RemoveInUse(dir string) {
	for range 100 {
		if os.RemoveAll(dir) == nil {
			return
		}
	}
}
