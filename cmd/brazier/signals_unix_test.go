//go:build unix

package main

import "syscall"

// Signals that Windows lacks.
const (
	pauseSignal    = syscall.SIGSTOP
	continueSignal = syscall.SIGCONT
	lameDuckSignal = syscall.SIGUSR2 // nats-server's
)

// pauseProcess stops a process that is no child of this one from running.
func pauseProcess(pid int) error { return syscall.Kill(pid, pauseSignal) }
