package sandbox

import (
	"errors"
	"net"
	"net/http"
	"sync"
	"time"
)

// server is an http.Server that knows when its last goroutine is done.
type server struct {
	http   *http.Server
	listen net.Listener
	addr   string
	conns  sync.WaitGroup // connections that have not been closed
	served chan struct{}  // closed when Serve has returned
}

func newServer(l net.Listener, h http.Handler) *server {
	s := &server{listen: l, addr: l.Addr().String(), served: make(chan struct{})}
	s.http = &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		ConnState:         s.connState,
	}
	return s
}

// start serves until close.
func (s *server) start() {
	go func() {
		defer close(s.served)
		if err := s.http.Serve(s.listen); !errors.Is(err, http.ErrServerClosed) {
			// The listener failed under us. Nothing can be done here; callers will see refused connections.
			s.listen.Close()
		}
	}()
}

// connState counts connections. Who hijacks one calls conns.Done when done with it.
func (s *server) connState(_ net.Conn, state http.ConnState) {
	switch state {
	case http.StateNew:
		s.conns.Add(1)
	case http.StateClosed:
		s.conns.Done()
	}
}

// close cuts all connections and waits until they are gone.
func (s *server) close() error {
	err := s.http.Close()
	<-s.served
	// A connection accepted while Close ran may have escaped it; now there can be no more.
	s.http.Close()
	s.conns.Wait()
	return err
}
