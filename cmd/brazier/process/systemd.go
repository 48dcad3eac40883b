package process

import (
	"context"
	"net"
	"os"
	"strconv"
	"time"

	"go.uber.org/zap"
)

// systemd tells systemd what becomes of this process, where it was started by a unit of Type=notify: that it is open, that it lives,
// that it stops. Elsewhere it does nothing. The protocol is that of sd_notify(3): one datagram per message.
type systemd struct {
	socket   string        // empty: nobody asked
	watchdog time.Duration // how long it may be silent; 0: as long as it likes
	log      *zap.Logger
}

// newSystemd reads what systemd sets in the environment of a service.
func newSystemd(log *zap.Logger) systemd {
	s := systemd{socket: os.Getenv("NOTIFY_SOCKET"), log: log}
	usec, err := strconv.ParseInt(os.Getenv("WATCHDOG_USEC"), 10, 64)
	if pid := os.Getenv("WATCHDOG_PID"); err == nil && (pid == "" || pid == strconv.Itoa(os.Getpid())) {
		s.watchdog = time.Duration(usec) * time.Microsecond
	}
	return s
}

// tell sends a state such as READY=1. A failure is logged: systemd then stops or restarts the service after its own time.
func (s systemd) tell(state string) {
	if s.socket == "" {
		return
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: s.socket, Net: "unixgram"})
	if err == nil {
		_, err = conn.Write([]byte(state))
		_ = conn.Close() // nothing is buffered
	}
	if err != nil {
		s.log.Warn("systemd cannot be told of the state", zap.String("event", "systemd_error"), zap.String("state", state), zap.Error(err))
	}
}

// live tells until ctx ends that the process lives, twice in the time that it may be silent. It says nothing of NATS or Facebook: a
// restart brings neither back.
func (s systemd) live(ctx context.Context) error {
	if s.watchdog > 0 {
		every := time.NewTicker(s.watchdog / 2)
		defer every.Stop()
		for ctx.Err() == nil {
			select {
			case <-every.C:
				s.tell("WATCHDOG=1")
			case <-ctx.Done():
			}
		}
	}
	<-ctx.Done()
	return nil
}
