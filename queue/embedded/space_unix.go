//go:build linux || darwin || freebsd

package embedded

import "syscall"

func measure(dir string) space {
	var fs syscall.Statfs_t
	if err := syscall.Statfs(dir, &fs); err != nil {
		return space{}
	}
	block := int64(fs.Bsize)
	return space{free: int64(fs.Bavail) * block, total: int64(fs.Blocks) * block}
}
