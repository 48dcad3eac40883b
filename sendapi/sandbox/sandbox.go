package sandbox

import (
	"cmp"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"time"
)

// Sandbox is a running simulation. Its methods may be called from any goroutine.
type Sandbox struct {
	cfg     Config
	seed    uint64
	start   time.Time
	clock   func() time.Duration // since start, never going back
	graph   *server
	control *server // nil if off
	done    chan struct{}
	close   sync.Once
	closed  error

	mu        sync.Mutex // guards what follows
	latency   time.Duration
	jitter    time.Duration
	seq       int64 // of the last call
	pages     map[string]*page
	tokens    map[string]*token
	faults    []*armed
	faultIDs  int
	record    record
	attempted map[key]bool  // messages whose first attempt failed, because the person is like that
	changed   chan struct{} // closed at the next call if somebody waits; else nil
}

// page is a Page with what changes. Guarded by Sandbox.mu.
type page struct {
	Page
	origin     string // the first ID, for the keys of its messages
	unnamed    bool   // no path has named its id so far
	calls      window // all, for MaxInSecond
	limits     *limiter
	tally      tally
	restricted *graphError // nil: may send
}

// token is a page access token. Dead ones are kept, since they have an answer of their own.
type token struct {
	page *page
	dead int // 190's subcode; 0 is alive
}

// New starts a sandbox. Errors name the field of Config that is at fault. The caller must Close it.
func New(c Config) (*Sandbox, error) {
	c, err := c.resolved()
	if err != nil {
		return nil, fmt.Errorf("sandbox: %w", err)
	}
	s := newSandbox(c)
	graph, err := net.Listen("tcp", c.Listen)
	if err != nil {
		return nil, fmt.Errorf("sandbox: Listen: %w", err)
	}
	var control net.Listener
	if c.Control != controlOff {
		if control, err = net.Listen("tcp", c.Control); err != nil {
			graph.Close()
			return nil, fmt.Errorf("sandbox: Control: %w", err)
		}
	}
	s.graph = newServer(graph, graphHandler{s})
	if control != nil {
		s.control = newServer(control, s.controlHandler())
		s.control.start(control)
	}
	s.graph.start(graph)
	return s, nil
}

// newSandbox makes a sandbox that does not listen yet, from a configuration that is resolved.
func newSandbox(c Config) *Sandbox {
	s := &Sandbox{
		cfg: c, seed: cmp.Or(c.Seed, rand.Uint64()), start: time.Now(), latency: c.Latency, jitter: c.Jitter,
		done: make(chan struct{}), pages: map[string]*page{}, tokens: map[string]*token{},
		record: newRecord(c.RecordLimit), attempted: map[key]bool{},
	}
	s.clock = func() time.Duration { return time.Since(s.start) }
	for _, p := range c.Pages {
		s.addPage(p)
	}
	return s
}

// Close cuts all connections, calls that hang included, and returns when no goroutine of the sandbox is left. The record can
// still be read afterwards. Calls after the first do nothing.
func (s *Sandbox) Close() error {
	s.close.Do(func() {
		close(s.done)
		s.closed = s.graph.close()
		if s.control != nil {
			s.closed = errors.Join(s.closed, s.control.close())
		}
	})
	return s.closed
}

// URL is where the simulated Graph API is, as http://host:port.
func (s *Sandbox) URL() string { return "http://" + s.graph.addr }

// ControlURL is where the control listener is; empty if there is none.
func (s *Sandbox) ControlURL() string {
	if s.control == nil {
		return ""
	}
	return "http://" + s.control.addr
}

// RefuseConnections makes the simulated Graph API one that nobody listens at: connections that are open are cut and new ones
// refused, until it is called with false. The address stays the same, and the control listener is not touched. Calls whose
// answer was under way are in the record, with what became of them.
func (s *Sandbox) RefuseConnections(refuse bool) error {
	if err := s.graph.refuse(refuse); err != nil {
		return fmt.Errorf("sandbox: refuse connections: %w", err)
	}
	return nil
}

// Seed is the seed in use, to repeat a run with.
func (s *Sandbox) Seed() uint64 { return s.seed }

// SetLatency changes Config.Latency and Config.Jitter for calls to come.
func (s *Sandbox) SetLatency(latency, jitter time.Duration) error {
	if err := checkLatency(latency, jitter); err != nil {
		return fmt.Errorf("sandbox: set latency: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.latency, s.jitter = latency, jitter
	return nil
}
