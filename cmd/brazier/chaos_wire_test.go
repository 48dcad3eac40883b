package main

import (
	"io"
	"net"
	"sync"
	"testing"
)

// wire carries connections between two processes, and can be cut.
type wire struct {
	target   string
	listener net.Listener
	carrying sync.WaitGroup

	mu     sync.Mutex
	closed bool
	ends   map[*net.TCPConn]bool
}

// newWire listens on a loopback port of its own and connects whoever comes there with target.
func newWire(t *testing.T, target string) *wire {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &wire{target: target, listener: l, ends: map[*net.TCPConn]bool{}}
	w.carrying.Go(w.accept)
	t.Cleanup(func() {
		w.mu.Lock()
		w.closed = true
		w.mu.Unlock()
		l.Close()
		w.cut()
		w.carrying.Wait()
	})
	return w
}

func (w *wire) address() string { return w.listener.Addr().String() }

func (w *wire) accept() {
	for {
		near, err := w.listener.Accept()
		if err != nil {
			return
		}
		w.carrying.Go(func() { w.carry(near.(*net.TCPConn)) })
	}
}

func (w *wire) carry(near *net.TCPConn) {
	conn, err := net.Dial("tcp", w.target)
	if err != nil {
		near.Close()
		return
	}
	far := conn.(*net.TCPConn)
	if !w.hold(near, far) {
		return
	}
	defer w.letGo(near, far)
	var ways sync.WaitGroup
	pipe := func(to, from *net.TCPConn) {
		_, _ = io.Copy(to, from)
		to.Close() // the other way ends, too
		from.Close()
	}
	ways.Go(func() { pipe(near, far) })
	ways.Go(func() { pipe(far, near) })
	ways.Wait()
}

func (w *wire) hold(ends ...*net.TCPConn) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range ends {
		if w.closed {
			c.Close()
		} else {
			w.ends[c] = true
		}
	}
	return !w.closed
}

func (w *wire) letGo(ends ...*net.TCPConn) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range ends {
		delete(w.ends, c)
	}
}

// cut breaks every connection that the wire carries now, at both ends and without a farewell. New ones are carried.
func (w *wire) cut() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for c := range w.ends {
		_ = c.SetLinger(0) // a reset, as when a machine or a path is gone
		c.Close()
	}
}
