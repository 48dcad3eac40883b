package main

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"sync"
	"sync/atomic"
	"time"
)

// benchLoad posts numbered messages over connections that stay open. It speaks HTTP by itself: it shares the machine with what
// it measures, and net/http's client would take several times as much of it.
type benchLoad struct {
	benchCommand
	door     *url.URL
	requests []*benchRequest // by page
	conns    []*benchConn
	start    time.Time
	ended    time.Time // of posting

	next                                     atomic.Int64 // number of the next message
	accepted, duplicate, refused, unanswered atomic.Int64
	broken                                   atomic.Pointer[error] // why the first of those was not answered
	outcomes                                 []outcome             // by message; each belongs to the connection that posts it
	latencies                                []time.Duration       // the same, of those that were answered
}

// outcome is what the door said of a message.
type outcome uint8

const (
	notPosted outcome = iota
	wasAccepted
	wasDuplicate
	wasRefused    // 429 or 5xx, which Braze repeats and this load does not
	wasUnanswered // the connection broke, or no answer came in time
)

// benchTimeout is how long an answer is waited for: as long as Braze waits.
const benchTimeout = 90 * time.Second

func newBenchLoad(c benchCommand) (*benchLoad, error) {
	l := &benchLoad{benchCommand: c, outcomes: make([]outcome, c.Messages), latencies: make([]time.Duration, c.Messages)}
	var err error
	if l.door, err = url.Parse(c.URL); err != nil {
		return nil, errors.New("--url: it is not an address")
	}
	run := newBenchRun()
	for _, key := range c.Keys {
		l.requests = append(l.requests, newBenchRequest(l.door, key, run))
	}
	return l, nil
}

// open connects. After it the clock runs.
func (l *benchLoad) open(ctx context.Context) error {
	for range l.Connections {
		c := &benchConn{load: l}
		if err := c.dial(ctx); err != nil {
			l.close()
			return err
		}
		l.conns = append(l.conns, c)
	}
	l.start = time.Now()
	return nil
}

func (l *benchLoad) close() {
	for _, c := range l.conns {
		c.conn.Close()
	}
}

// run posts until all is posted, the time is up, the door is gone, or ctx ends.
func (l *benchLoad) run(ctx context.Context) error {
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	var posting sync.WaitGroup
	for _, c := range l.conns {
		posting.Go(func() {
			defer func() { c.conn.Close() }()
			if err := c.run(ctx); err != nil {
				fail(err)
			}
		})
	}
	posting.Wait()
	l.ended = time.Now()
	return context.Cause(ctx)
}

// due returns when message n is to be posted.
func (l *benchLoad) due(n int64) time.Time {
	if l.Rate == 0 {
		return time.Now()
	}
	return l.start.Add(time.Duration(float64(n) / l.Rate * float64(time.Second)))
}

// benchConn is one connection. It belongs to one goroutine.
type benchConn struct {
	load   *benchLoad
	conn   net.Conn
	answer *bufio.Reader
	buffer []byte
}

// dial connects. After an error the connection is what it was.
func (c *benchConn) dial(ctx context.Context) error {
	door := c.load.door
	dialer := &net.Dialer{Timeout: 10 * time.Second}
	dial, port := dialer.DialContext, "80"
	if door.Scheme == "https" {
		dial, port = (&tls.Dialer{NetDialer: dialer}).DialContext, "443"
	}
	conn, err := dial(ctx, "tcp", net.JoinHostPort(door.Hostname(), cmp.Or(door.Port(), port)))
	if err != nil {
		return err
	}
	c.conn, c.answer = conn, bufio.NewReader(conn)
	return nil
}

// run posts one message after the other. An error ends the whole load.
func (c *benchConn) run(ctx context.Context) error {
	l := c.load
	for ctx.Err() == nil {
		n := l.next.Add(1) - 1
		if n >= int64(l.Messages) {
			return nil
		}
		due := l.due(n)
		if l.Duration > 0 && due.Sub(l.start) >= l.Duration {
			return nil
		}
		if !sleepUntil(ctx, due) {
			return nil
		}
		got, err := c.post(ctx, n)
		l.latencies[n] = time.Since(due) // not from when it was posted: a wait for a free connection is part of it
		if err := l.note(n, got, err); err != nil {
			return err
		}
		if err == nil && !got.closes {
			continue
		}
		c.conn.Close()
		if err := c.dial(ctx); err != nil && ctx.Err() == nil {
			return fmt.Errorf("the door is gone: %w", err)
		}
	}
	return nil
}

// sleepUntil reports false if ctx ended first.
func sleepUntil(ctx context.Context, due time.Time) bool {
	wait := time.Until(due)
	if wait <= 0 {
		return true
	}
	if wait < time.Second { // the end of ctx can wait that long, and a plain sleep costs less
		time.Sleep(wait)
		return true
	}
	select {
	case <-time.After(wait):
		return true
	case <-ctx.Done():
		return false
	}
}

func (c *benchConn) post(ctx context.Context, n int64) (benchAnswer, error) {
	l := c.load
	c.buffer = l.requests[n%int64(len(l.requests))].append(c.buffer[:0], n)
	conn := c.conn
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	if err := conn.SetDeadline(time.Now().Add(benchTimeout)); err != nil {
		return benchAnswer{}, err
	}
	if _, err := conn.Write(c.buffer); err != nil {
		return benchAnswer{}, err
	}
	return readBenchAnswer(c.answer)
}

// note counts an answer, or that none came. A refusal that would come again for every message is an error.
func (l *benchLoad) note(n int64, got benchAnswer, missing error) error {
	switch {
	case missing != nil:
		l.outcomes[n] = wasUnanswered
		l.unanswered.Add(1)
		l.broken.CompareAndSwap(nil, &missing)
	case got.status == 202 && bytes.Contains(got.body, []byte(`"duplicate"`)):
		l.outcomes[n] = wasDuplicate
		l.duplicate.Add(1)
	case got.status == 202:
		l.outcomes[n] = wasAccepted
		l.accepted.Add(1)
	case got.status == 429 || got.status >= 500:
		l.outcomes[n] = wasRefused
		l.refused.Add(1)
	default:
		return fmt.Errorf("the door answers %d: %.200s", got.status, bytes.TrimSpace(got.body))
	}
	return nil
}
