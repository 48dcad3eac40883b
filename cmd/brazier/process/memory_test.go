package process

import (
	"testing"
	"testing/fstest"
)

func TestCgroupLimit(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		files map[string]string
		want  int64
	}{
		"another system":       {nil, 0},
		"version 2, container": {map[string]string{"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "268435456\n"}, 256 << 20},
		"version 2, none":      {map[string]string{"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "max\n"}, 0},
		"version 2, a slice above the unit has less": {map[string]string{"proc/self/cgroup": "0::/system.slice/brazier.service\n",
			"sys/fs/cgroup/system.slice/brazier.service/memory.max": "536870912\n", "sys/fs/cgroup/system.slice/memory.max": "268435456\n"}, 256 << 20},
		"version 1, the host's path": {map[string]string{"proc/self/cgroup": "9:name=systemd:/\n4:memory:/docker/0a1b\n1:cpu:/\n",
			"sys/fs/cgroup/memory/memory.limit_in_bytes": "268435456\n"}, 256 << 20},
		"version 1, none": {map[string]string{"proc/self/cgroup": "4:memory:/\n0::/\n", "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n"}, 0},
		"version 1, its own path": {map[string]string{"proc/self/cgroup": "4:memory:/unit\n", "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
			"sys/fs/cgroup/memory/unit/memory.limit_in_bytes": "1048576\n"}, 1 << 20},
		"something else": {map[string]string{"proc/self/cgroup": "nothing\n::\n0::../..\n", "sys/fs/cgroup/memory.max": "many\n"}, 0},
	} {
		root := fstest.MapFS{}
		for path, content := range c.files {
			root[path] = &fstest.MapFile{Data: []byte(content)}
		}
		if got := cgroupLimit(root); got != c.want {
			t.Errorf("%s: %d, want %d", name, got, c.want)
		}
	}
}
