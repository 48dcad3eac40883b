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
	hooks   *hooks
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
	attempted map[messageKey]bool // messages whose first attempt failed by the special behaviour of the person
	changed   chan struct{}       // closed at the next call; nil if no caller waits
}

// page is a Page with its state. Guarded by Sandbox.mu.
type page struct {
	Page
	origin     string        // the first ID, for the keys of its messages
	unnamed    bool          // no path has named its id so far
	calls      slidingSecond // all, for MaxInSecond
	limits     *limiter
	tally      tally
	restricted *graphError // nil: may send

	fields       []string // of the webhook that the page is subscribed to, sorted; none: no webhooks
	failing      bool     // no webhook of the page was delivered since failingSince
	failingSince time.Duration
}

// token is a page access token. Dead tokens are kept, since calls with them have an answer of their own.
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
	s.hooks.running.Go(s.dispatch)
	return s, nil
}

// newSandbox makes a sandbox that does not listen yet, from a configuration that is resolved.
func newSandbox(c Config) *Sandbox {
	s := &Sandbox{
		cfg: c, seed: cmp.Or(c.Seed, rand.Uint64()), start: time.Now(), latency: c.Latency, jitter: c.Jitter,
		done: make(chan struct{}), pages: map[string]*page{}, tokens: map[string]*token{},
		record: newRecord(c.RecordLimit), attempted: map[messageKey]bool{},
	}
	s.hooks = newHooks(c.Webhook)
	s.clock = func() time.Duration { return time.Since(s.start) }
	for _, p := range c.Pages {
		s.addPage(p)
	}
	return s
}

// Close cuts all connections, also of calls that hang, and returns when no goroutine of the sandbox is left. The record can still
// be read afterwards. A second Close does nothing.
func (s *Sandbox) Close() error {
	s.close.Do(func() {
		close(s.done)
		s.hooks.close()
		s.closed = s.graph.close()
		if s.control != nil {
			s.closed = errors.Join(s.closed, s.control.close())
		}
	})
	return s.closed
}

// URL returns the URL of the simulated Graph API, as http://host:port.
func (s *Sandbox) URL() string { return "http://" + s.graph.addr }

// ControlURL returns the URL of the control listener, empty if there is none.
func (s *Sandbox) ControlURL() string {
	if s.control == nil {
		return ""
	}
	return "http://" + s.control.addr
}

// RefuseConnections makes the simulated Graph API refuse connections and cuts the open ones, until it is called with false. The
// address stays the same, and the control listener is not affected. Calls that were under way are in the record.
func (s *Sandbox) RefuseConnections(refuse bool) error {
	if err := s.graph.refuse(refuse); err != nil {
		return fmt.Errorf("sandbox: refuse connections: %w", err)
	}
	return nil
}

// Seed returns the seed in use, with which a run can be repeated.
func (s *Sandbox) Seed() uint64 { return s.seed }

// setLatency changes Config.Latency and Config.Jitter for calls to come.
func (s *Sandbox) setLatency(latency, jitter time.Duration) error {
	if err := checkLatency(latency, jitter); err != nil {
		return fmt.Errorf("sandbox: set latency: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.latency, s.jitter = latency, jitter
	return nil
}
