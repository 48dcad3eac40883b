package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"
)

// Who closes the terminal ends bench and demo, which nobody sees any more. SIGHUP alone does not.
func TestClosedTerminal(t *testing.T) {
	if err := build(); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"demo", "--messages=2000"}, {"demo", "--messages=20"}, {"bench", "--messages=1000000", "--rate=200", "--connections=4", "--page-count=1"}} {
		t.Run(strings.Join(args[:2], " "), func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			if args[0] == "bench" {
				args = append(args, "--dir="+dir)
			}
			window, terminal := openTerminal(t)
			var seen transcript
			reading := make(chan struct{})
			go func() { defer close(reading); _, _ = io.Copy(&seen, window) }()
			cmd := commandIn(dir, args...)
			cmd.Stdin, cmd.Stdout, cmd.Stderr = terminal, terminal, terminal
			cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			_ = terminal.Close() // the process has it
			done := make(chan struct{})
			go func() { _ = cmd.Wait(); close(done) }()
			t.Cleanup(func() { _ = cmd.Process.Kill(); <-done })

			wanted := "accepted"
			if args[1] == "--messages=20" {
				wanted = "Everything stays up" // and nothing is written any more
			}
			eventually(t, wanted, func() bool { return strings.Contains(seen.String(), wanted) })
			_ = cmd.Process.Signal(syscall.SIGHUP)
			select {
			case <-done:
				t.Error("SIGHUP ended it")
			case <-time.After(500 * time.Millisecond): // a process that took it for its end would need less
			}
			_ = window.Close()
			<-reading
			select {
			case <-done:
			case <-time.After(time.Minute):
				t.Fatal("it does not end")
			}
			if left := listDir(t, dir); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
			if left := processesOf(dir, 0); len(left) > 0 {
				t.Errorf("processes left behind: %v", left)
			}
		})
	}
}

// openTerminal returns a terminal and the window that shows it: both ends of a pseudoterminal, as on Linux.
func openTerminal(t *testing.T) (window, terminal *os.File) {
	t.Helper()
	window, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = window.Close() })
	conn, err := window.SyscallConn() // Fd would make it blocking, and Close would wait for a reader
	if err != nil {
		t.Fatal(err)
	}
	const unlock, number = 0x40045431, 0x80045430 // TIOCSPTLCK, TIOCGPTN
	var locked, n int32
	err = conn.Control(func(fd uintptr) {
		for request, value := range map[uintptr]*int32{unlock: &locked, number: &n} {
			if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, fd, request, uintptr(unsafe.Pointer(value))); errno != 0 {
				t.Error(errno)
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	terminal, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	return window, terminal
}
