package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// cpuOf returns the CPU time that processes have used, where the system tells (Linux); else 0.
func cpuOf(processes []*proc) (used time.Duration) {
	const perSecond = 100 // USER_HZ, which is the same everywhere that matters
	for _, p := range processes {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
		if err != nil {
			continue
		}
		_, rest, _ := strings.Cut(string(stat), ") ") // the name may hold anything
		fields := strings.Fields(rest)
		for _, i := range []int{11, 12} { // utime and stime
			if i < len(fields) {
				ticks, _ := strconv.Atoi(fields[i])
				used += time.Duration(ticks) * time.Second / perSecond
			}
		}
	}
	return used
}

// rssOf returns the memory that a process has in use, in bytes, where the system tells (Linux).
func rssOf(p *proc) int64 {
	statm, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", p.cmd.Process.Pid))
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(statm))
	pages, _ := strconv.ParseInt(fields[1], 10, 64)
	return pages * int64(os.Getpagesize())
}
