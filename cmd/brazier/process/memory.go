package process

import (
	"io/fs"
	"math"
	"os"
	"path"
	"runtime/debug"
	"strconv"
	"strings"
)

// memoryShare is the part of a container's memory that Go may use before it collects garbage more often. The rest is for what the kernel
// counts too: the buffers of connections and the pages of the binary. With more the kernel kills a busy ingress that Go thinks is small
// enough; with less the collector runs all the time where most of the memory is in use.
const memoryShare = 0.8

// limitMemory tells Go how much memory the container or the systemd unit may use, which Go does not ask by itself, and returns what Go
// keeps to in bytes, 0 for no limit. GOMEMLIMIT of the environment takes precedence. It bounds garbage alone: what is in use may be more.
func limitMemory(root fs.FS) int64 {
	if limit := cgroupLimit(root); limit > 0 && os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(int64(float64(limit) * memoryShare))
	}
	if limit := debug.SetMemoryLimit(-1); limit < math.MaxInt64 {
		return limit
	}
	return 0
}

// cgroupLimit returns the lowest limit in bytes of the control groups that this process is in, 0 if there is none. root is the root
// directory of the system. In a container the path of the group is often the host's, which is not there: the limit is then at the top.
func cgroupLimit(root fs.FS) int64 {
	groups, err := fs.ReadFile(root, "proc/self/cgroup")
	if err != nil { // not Linux
		return 0
	}
	lowest := int64(0)
	for line := range strings.Lines(string(groups)) {
		fields := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(fields) < 3 {
			continue
		}
		mount, file := "sys/fs/cgroup", "memory.max"
		if fields[1] == "memory" { // version 1
			mount, file = "sys/fs/cgroup/memory", "memory.limit_in_bytes"
		} else if fields[1] != "" { // another controller of version 1
			continue
		}
		for group := path.Join("/", fields[2]); ; group = path.Dir(group) {
			if limit := readLimit(root, path.Join(mount, group, file)); limit > 0 && (lowest == 0 || limit < lowest) {
				lowest = limit
			}
			if group == "/" {
				break
			}
		}
	}
	return lowest
}

// noLimit is the least number that version 1 of control groups writes for "none": the largest number of whole pages.
const noLimit = math.MaxInt64 - 64<<10

// readLimit returns the number in a file, 0 where it has none.
func readLimit(root fs.FS, name string) int64 {
	b, err := fs.ReadFile(root, name)
	if err != nil {
		return 0
	}
	limit, err := strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64)
	if err != nil || limit >= noLimit { // "max" in version 2
		return 0
	}
	return limit
}
