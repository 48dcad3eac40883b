package bench

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

// load posts numbered messages over connections that stay open. It speaks HTTP by itself: it shares the machine with what
// it measures, and net/http's client would take several times as much of it.
type load struct {
	Command
	target   *url.URL
	requests []*request // by page
	conns    []*connection
	start    time.Time
	ended    time.Time // of posting

	next                                     atomic.Int64 // number of the next message
	accepted, duplicate, refused, unanswered atomic.Int64
	broken                                   atomic.Pointer[error] // why the first of those was not answered
	outcomes                                 []outcome             // by message; each belongs to the connection that posts it
	latencies                                []time.Duration       // the same, of those that were answered
}

// outcome is what the ingress answered to a message.
type outcome uint8

const (
	notPosted outcome = iota
	wasAccepted
	wasDuplicate
	wasRefused    // 429 or 5xx, which Braze repeats and this load does not
	wasUnanswered // the connection broke, or no answer came in time
)

// answerTimeout is how long an answer is waited for: as long as Braze waits.
const answerTimeout = 90 * time.Second

func newLoad(c Command) (*load, error) {
	l := &load{Command: c, outcomes: make([]outcome, c.Messages), latencies: make([]time.Duration, c.Messages)}
	var err error
	if l.target, err = url.Parse(c.URL); err != nil {
		return nil, errors.New("--url: it is not an address")
	}
	run := newRunID()
	for _, key := range c.Keys {
		l.requests = append(l.requests, newRequest(l.target, key, run))
	}
	return l, nil
}

// open connects. After it the clock runs.
func (l *load) open(ctx context.Context) error {
	for range l.Connections {
		c := &connection{load: l}
		if err := c.dial(ctx); err != nil {
			l.close()
			return err
		}
		l.conns = append(l.conns, c)
	}
	l.start = time.Now()
	return nil
}

func (l *load) close() {
	for _, c := range l.conns {
		c.conn.Close()
	}
}

// run posts until all is posted, the time is up, the ingress is gone, or ctx ends.
func (l *load) run(ctx context.Context) error {
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
func (l *load) due(n int64) time.Time {
	if l.Rate == 0 {
		return time.Now()
	}
	return l.start.Add(time.Duration(float64(n) / l.Rate * float64(time.Second)))
}

// connection is one connection. It belongs to one goroutine.
type connection struct {
	load   *load
	conn   net.Conn
	answer *bufio.Reader
	buffer []byte
}

// dial connects. After an error the connection is what it was.
func (c *connection) dial(ctx context.Context) error {
	target := c.load.target
	dialer := &net.Dialer{Timeout: 10 * time.Second}
	dial, port := dialer.DialContext, "80"
	if target.Scheme == "https" {
		dial, port = (&tls.Dialer{NetDialer: dialer}).DialContext, "443"
	}
	conn, err := dial(ctx, "tcp", net.JoinHostPort(target.Hostname(), cmp.Or(target.Port(), port)))
	if err != nil {
		return err
	}
	c.conn, c.answer = conn, bufio.NewReader(conn)
	return nil
}

// run posts one message after the other. An error ends the whole load.
func (c *connection) run(ctx context.Context) error {
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
			return fmt.Errorf("the ingress is gone: %w", err)
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

func (c *connection) post(ctx context.Context, n int64) (answer, error) {
	l := c.load
	c.buffer = l.requests[n%int64(len(l.requests))].append(c.buffer[:0], n)
	conn := c.conn
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	if err := conn.SetDeadline(time.Now().Add(answerTimeout)); err != nil {
		return answer{}, err
	}
	if _, err := conn.Write(c.buffer); err != nil {
		return answer{}, err
	}
	return readAnswer(c.answer)
}

// note counts an answer, or that none came. A refusal that would come again for every message is an error.
func (l *load) note(n int64, got answer, missing error) error {
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
		return fmt.Errorf("the ingress answers %d: %.200s", got.status, bytes.TrimSpace(got.body))
	}
	return nil
}
