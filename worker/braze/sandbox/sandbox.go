package sandbox

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"
)

// Sandbox is a simulated Braze workspace. Its methods may be called from any goroutine.
type Sandbox struct {
	cfg     Config
	api     http.Handler
	control http.Handler
	done    chan struct{}
	close   sync.Once

	mu       sync.Mutex // guards what follows
	rnd      *rand.Rand
	latency  time.Duration
	jitter   time.Duration
	reorder  bool
	profiles profiles
	types    map[string]Type
	limits   limits
	flights  []*flight
	faults   []*armed
	faultIDs int
	record   record
	changed  chan struct{} // closed at the next call if somebody waits; else nil
}

// New returns a sandbox, or an error that names the field of Config at fault.
func New(c Config) (*Sandbox, error) {
	c, err := c.resolved()
	if err != nil {
		return nil, fmt.Errorf("sandbox: %w", err)
	}
	s := &Sandbox{
		cfg: c, done: make(chan struct{}), rnd: rand.New(rand.NewPCG(cmp.Or(c.Seed, rand.Uint64()), 1)),
		latency: c.Latency, jitter: c.Jitter, reorder: c.Reorder, profiles: newProfiles(), types: map[string]Type{},
		limits: limits{hourly: window{limit: c.Hourly, length: time.Hour}, burst: window{limit: c.Burst, length: burstWindow}},
		record: newRecord(c.RecordLimit),
	}
	maps.Copy(s.types, c.Types)
	s.api, s.control = s.apiHandler(), s.controlHandler()
	return s, nil
}

// ServeHTTP serves the simulated API, and the control path beside it under /control/.
func (s *Sandbox) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if isControl(r.URL.Path) {
		s.control.ServeHTTP(w, r)
		return
	}
	s.api.ServeHTTP(w, r)
}

// API is the simulated API alone, Control the control path alone, for listeners of their own.
func (s *Sandbox) API() http.Handler { return s.api }

// Control is the control path alone. See API.
func (s *Sandbox) Control() http.Handler { return s.control }

// Close ends all pauses and calls that hang. What was written and recorded can still be read. Calls after the first do nothing.
func (s *Sandbox) Close() { s.close.Do(func() { close(s.done) }) }

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

// SetReorder changes Config.Reorder for calls to come.
func (s *Sandbox) SetReorder(on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reorder = on
}

// Reset forgets the record and the script. Profiles stay.
func (s *Sandbox) Reset() {
	s.Clear()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.record = newRecord(s.cfg.RecordLimit)
}

// Wait returns when the summary is as wanted, or with the context's error. It looks at each call that ends.
func (s *Sandbox) Wait(ctx context.Context, wanted func(Summary) bool) error {
	for {
		s.mu.Lock()
		sum := s.summary()
		if s.changed == nil {
			s.changed = make(chan struct{})
		}
		changed := s.changed
		s.mu.Unlock()
		if wanted(sum) {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// wake tells who waits that something has changed. Needs mu.
func (s *Sandbox) wake() {
	if s.changed != nil {
		close(s.changed)
		s.changed = nil
	}
}
