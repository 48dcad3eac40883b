// Package cli is what every command of brazier shares with the person or the program that started it: what it reads and
// writes, exit codes, signals, the log, the progress line, and how times and sizes are written.
//
// A command returns an error and never exits by itself: ExitCode turns the error into the process's code. Nothing here
// knows of queues, pages or Facebook.
package cli

import (
	"errors"
	"fmt"
	"io"
)

// Exit codes. Scripts and orchestrators rely on them.
const (
	ExitOK        = 0 // stopped as asked, nothing left in flight; or the command did what it says
	ExitFailed    = 1 // something went wrong while it ran, or check found a fault
	ExitUsage     = 2 // the command line, the environment or the page file is wrong; nothing was started
	ExitUndrained = 3 // ended at once by a later signal, or out of the shutdown budget: what was in flight may be sent again
)

// Stdio is what a command reads and writes: answers go to out, logs and errors to err.
type Stdio struct {
	Out, Err  io.Writer
	In        io.Reader // nil: no person is there to answer questions
	Signals   *Signals  // nil: there are none
	Variables Variables // of all commands
}

// usageError is a wrong setting: nothing was started.
type usageError struct{ cause error }

func (e usageError) Error() string { return e.cause.Error() }
func (e usageError) Unwrap() error { return e.cause }

// Usage returns err as an error of the command line, the environment or the page file: the process exits with ExitUsage.
func Usage(err error) error { return usageError{err} }

// Usagef is Usage of a new error.
func Usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// silentError is an error that the user has been told already.
type silentError struct{ cause error }

func (e silentError) Error() string { return e.cause.Error() }
func (e silentError) Unwrap() error { return e.cause }

// Silent returns err as one that the command has printed: the process exits with its code and prints nothing more.
func Silent(err error) error { return silentError{err} }

var (
	// ErrUndrained is the end of a process that left messages in flight.
	ErrUndrained = errors.New("stopped before everything was drained: what was in flight may be sent again")
	// ErrSecondSignal is the end of a process that was told twice to stop.
	ErrSecondSignal = fmt.Errorf("%w: a second signal ended it at once", ErrUndrained)
)

// Report prints a command's error, unless it is nil or silent.
func Report(err error, stderr io.Writer) {
	if err != nil && !errors.As(err, new(silentError)) {
		fmt.Fprintf(stderr, "brazier: %v\n", err)
	}
}

// ExitCode returns the code of a process that ends with err.
func ExitCode(err error) int {
	switch {
	case err == nil:
		return ExitOK
	case errors.As(err, new(usageError)):
		return ExitUsage
	case errors.Is(err, ErrUndrained):
		return ExitUndrained
	}
	return ExitFailed
}

// FlagError is a flag whose value cannot be used.
type FlagError struct {
	Flag  string // such as "--max-body"
	Fault string // what is allowed and what was given
}

func (e *FlagError) Error() string { return e.Flag + ": " + e.Fault }
