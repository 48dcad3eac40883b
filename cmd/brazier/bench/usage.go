package bench

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"time"
)

// processUsage is what a process has used since its start.
type processUsage struct {
	name  string
	known bool // false where there is no /proc as on Linux
	cpu   time.Duration
	peak  int64 // bytes of resident memory
}

// usage asks the system about the children and this process.
func (b *benchmark) usage() []processUsage {
	var all []processUsage
	for i := len(b.children) - 1; i >= 0; i-- {
		all = append(all, usageOf(b.children[i].name, b.children[i].cmd.Process.Pid))
	}
	return append(all, usageOf("bench", os.Getpid()))
}

// clockTick is the unit of processor time in /proc: user space sees 100 a second whatever the kernel's own (proc(5)).
const clockTick = 10 * time.Millisecond

func usageOf(name string, pid int) processUsage {
	u := processUsage{name: name}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return u
	}
	// The second field is the program's name in parentheses, which may hold anything. utime and stime are the 14th and
	// 15th.
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	if len(fields) < 13 {
		return u
	}
	user, err := strconv.ParseInt(string(fields[11]), 10, 64)
	if err != nil {
		return u
	}
	system, err := strconv.ParseInt(string(fields[12]), 10, 64)
	if err != nil {
		return u
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return u
	}
	_, peak, _ := bytes.Cut(status, []byte("VmHWM:"))
	line, _, _ := bytes.Cut(peak, []byte("kB"))
	kilobytes, err := strconv.ParseInt(string(bytes.TrimSpace(line)), 10, 64)
	if err != nil {
		return u
	}
	return processUsage{name: name, known: true, cpu: time.Duration(user+system) * clockTick, peak: kilobytes << 10}
}
