package main

import (
	"errors"
	"syscall"
)

// Windows has no such signals: the tests that send them fail there.
const (
	pauseSignal    = syscall.Signal(-1)
	continueSignal = syscall.Signal(-1)
	lameDuckSignal = syscall.Signal(-1)
)

func pauseProcess(int) error { return errors.ErrUnsupported }
