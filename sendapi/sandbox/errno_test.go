package sandbox

import (
	"errors"
	"runtime"
	"syscall"
)

// Windows reports refused and reset connections by numbers of Winsock, for which package syscall has no names.
const (
	winsockReset   syscall.Errno = 10054
	winsockRefused syscall.Errno = 10061
)

func isReset(err error) bool { return isErrno(err, syscall.ECONNRESET, winsockReset) }

func isRefused(err error) bool { return isErrno(err, syscall.ECONNREFUSED, winsockRefused) }

func isErrno(err error, unix, windows syscall.Errno) bool {
	if runtime.GOOS == "windows" {
		return errors.Is(err, windows)
	}
	return errors.Is(err, unix)
}
