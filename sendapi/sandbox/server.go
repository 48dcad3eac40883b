package sandbox

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"
)

// server is an HTTP server that can stop listening and start again at the same address, and that knows when its last goroutine has
// ended.
type server struct {
	handler http.Handler
	addr    string
	conns   sync.WaitGroup // connections that have not been closed

	mu     sync.Mutex // guards what follows
	closed bool
	http   *http.Server  // nil while it does not listen
	served chan struct{} // closed when Serve of http has returned
	vacate func()        // frees the address that is reserved while the server does not listen
}

// newServer makes a server that does not serve yet.
func newServer(l net.Listener, h http.Handler) *server {
	return &server{handler: h, addr: l.Addr().String()}
}

// start serves until stop. The caller holds mu, except for the first start.
func (s *server) start(l net.Listener) {
	hs, served := &http.Server{
		Handler:           s.handler,
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		ConnState:         s.connState,
	}, make(chan struct{})
	s.http, s.served = hs, served
	go func() {
		defer close(served)
		if err := hs.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			// The listener failed. Nothing can be done here; callers will see refused connections.
			l.Close()
		}
	}()
}

// connState counts connections. Whoever hijacks one must call conns.Done after closing it.
func (s *server) connState(_ net.Conn, state http.ConnState) {
	switch state {
	case http.StateNew:
		s.conns.Add(1)
	case http.StateClosed:
		s.conns.Done()
	}
}

// stop cuts all connections and stops listening. The caller holds mu.
func (s *server) stop() error {
	if s.http == nil {
		return nil
	}
	err := s.http.Close()
	<-s.served
	// A connection accepted while Close ran may have escaped it; now there can be no more.
	s.http.Close()
	s.http = nil
	return err
}

// refuse stops listening, so that connections are refused, or starts again. The address stays reserved meanwhile, where the system
// allows that.
func (s *server) refuse(refuse bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed:
		return errors.New("the sandbox is closed")
	case refuse == (s.http == nil):
		return nil
	case refuse:
		err := s.stop()
		s.vacate = occupy(s.addr)
		return err
	}
	l, err := net.Listen("tcp", s.addr)
	if err != nil {
		return fmt.Errorf("listen again: %w", err)
	}
	s.vacate()
	s.start(l)
	return nil
}

// close cuts all connections and waits until they are gone.
func (s *server) close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	if s.http == nil {
		s.vacate()
	}
	err := s.stop()
	s.conns.Wait()
	return err
}
