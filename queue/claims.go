package queue

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"
)

// Claims
//
// A stream with one replica is kept by one server, and that server writes down which jobs it has handed out ten times a
// second at most. Killed, it forgets the last of them, and hands them out again as if for the first time (nats-server
// 2.15.2; with replicas it tells its followers first). Their messages may have been sent.
//
// So on such a stream a worker claims a job before it begins: it appends the job's id to the stream BRAZIER_CLAIMS, which
// is flushed like any other, and looks whether another delivery of the job has claimed it since this one was taken. The
// first claim wins, the other delivery is left alone. Claims of jobs that begin together share one message.
//
// A claim made under an earlier run of the server is a delivery that was lost, unless a retry record names that claim or
// a later one. Claims are told apart by their place in the stream. The server's count of deliveries does not do: it goes
// back with what the server forgets, and one number then stands for two deliveries.
//
// What was handed out by a run of the server that is over, and not begun, is not begun any more: the next run may have
// forgotten it and hand it out again, to another worker too. It is put back. That can hit another worker in the midst of
// the job: the server looks only at the job's place in its stream, and takes a word about the old delivery for one about
// the new. It then hands the job out once more, and the retry record has it that nothing is in doubt. (So it was, when a
// server was killed again soon after its restart: a few of thousands were sent twice.) The claim of whoever has the job
// tells.

const (
	claimsSubject = "brazier.claims"
	// claimsAge is how long claims are kept: longer than a server may be away and its workers wait for it.
	claimsAge = 24 * time.Hour
	// claimsKept bounds their messages. No bound in bytes: the server would set so much disk aside for them.
	claimsKept = 1_000_000
	// forgetful is how much of its last moments a killed server may have forgotten, with a margin: ten times a second is
	// what it does unless the disk is slow.
	forgetful = 10 * time.Second
	// transientFor is the same for a server that forgets everything: the longest that a job is in hand, which is a call and
	// its settlement.
	transientFor = 150 * time.Second
	// maxClaims is how many claims go into one message.
	maxClaims = 1000
	// claimsApart is how long after one message the next begins at the earliest, so that more claims share a flush. The
	// first one after a pause goes at once.
	claimsApart = 8 * time.Millisecond
	// claimsWatched is for how long claims are compared with new ones: longer than the lease of who made them.
	claimsWatched = Lease + 15*time.Second
)

// claimed is one message of BRAZIER_CLAIMS.
type claimed struct {
	Server string   `json:"s"` // the run of the server under which the jobs were handed out
	Batch  string   `json:"b"` // tells our own claims, stored though their answer was lost, from those of others
	Jobs   []string `json:"j"` // their ids

	place uint64    // in the stream
	at    time.Time // by this process's clock
}

func (c *Config) claims() jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name:        StreamClaims,
		Description: "Deliveries that workers have begun, for the moment after a crash of the server",
		Subjects:    []string{claimsSubject},
		Discard:     jetstream.DiscardOld,
		MaxAge:      claimsAge,
		MaxMsgs:     claimsKept,
		Storage:     jetstream.FileStorage,
		AllowDirect: true,
		Replicas:    1,
	}
}

// claimer gathers claims into messages, and reads those of others. One goroutine runs it.
type claimer struct {
	q    *Queue
	in   chan *claimRequest
	stop chan struct{}
	done chan struct{}

	mu     sync.Mutex
	server string            // the run of the server for which lost was read
	lost   map[string]uint64 // by job, the place of its latest claim under earlier runs
	// By job, the claims of about the last two claimsWatched. The older half is let go as a whole.
	recent, older map[string]claims
	turned        time.Time // when the last half was let go
	read          uint64    // the place up to which claims are known
}

// claims are the last two of a job. Two, since one of them may be that of the delivery that looks.
type claims [2]*claimed

type claimRequest struct {
	server string   // the run of the server that handed the job out
	job    string   // its id
	after  uint64   // the place of the last claim that is accounted for
	tried  []string // the batches in which it was, whatever came of them
	answer chan claimAnswer
}

type claimAnswer struct {
	place uint64 // of the claim, 0 if it is not known to be stored
	err   error
}

// ErrStale says that the job may have been handed out again, and that this delivery is not to be worked on but released.
var ErrStale = errors.New("the job may have been handed out again")

// errTaken says that another delivery of the job has begun.
var errTaken = fmt.Errorf("%w: another delivery has begun", ErrStale)

func newClaimer(q *Queue) *claimer {
	return &claimer{q: q, in: make(chan *claimRequest, maxClaims), stop: make(chan struct{}), done: make(chan struct{})}
}

// claim returns once the claim is stored, with its place. It asks again until ctx ends, or with ErrStale.
func (c *claimer) claim(ctx context.Context, server, job string, after uint64) (place uint64, err error) {
	r := &claimRequest{server: server, job: job, after: after, answer: make(chan claimAnswer, 1)}
	err = insist(ctx, func() error {
		select {
		case c.in <- r:
		case <-ctx.Done():
			return ctx.Err()
		case <-c.done:
			return nats.ErrConnectionClosed
		}
		select {
		case got := <-r.answer:
			place = got.place
			return got.err
		case <-c.done:
			return nats.ErrConnectionClosed
		}
	})
	return place, err
}

func (c *claimer) run() {
	defer close(c.done)
	var next time.Time
	for {
		var batch []*claimRequest
		select {
		case r := <-c.in:
			batch = append(batch, r)
		case <-c.stop:
			return
		}
		if wait := time.Until(next); wait > 0 {
			<-time.After(wait)
		}
		next = time.Now().Add(claimsApart)
		for len(batch) < maxClaims && len(c.in) > 0 {
			batch = append(batch, <-c.in)
		}
		c.write(batch)
	}
}

// write stores the claims of jobs that this run of the server handed out, and answers all.
func (c *claimer) write(batch []*claimRequest) {
	message := &claimed{Server: c.q.nc.ConnectedServerId(), Batch: NewID()}
	current := batch[:0]
	for _, r := range batch {
		switch {
		case message.Server == "": // which run comes next is not known yet
			r.answer <- claimAnswer{err: nats.ErrDisconnected}
		case r.server != message.Server:
			r.answer <- claimAnswer{err: ErrStale}
		case slices.Contains(message.Jobs, r.job):
			r.answer <- claimAnswer{err: errTaken}
		default:
			message.Jobs = append(message.Jobs, r.job)
			r.tried = append(r.tried, message.Batch) // before it is stored: a look at the claims may find it first
			current = append(current, r)
		}
	}
	if len(current) == 0 {
		return
	}
	err := c.store(message)
	for _, r := range current {
		answer := claimAnswer{err: err}
		if err == nil {
			answer = c.judge(r, message)
		}
		r.answer <- answer
	}
	if err == nil {
		c.mu.Lock()
		c.note(message)
		c.mu.Unlock()
	}
}

// store appends a message, and reads those of others that came before it.
func (c *claimer) store(message *claimed) error {
	data, _ := json.Marshal(message) // cannot fail: strings
	ctx, cancel := context.WithTimeout(context.Background(), apiTimeout)
	defer cancel()
	ack, err := c.q.js.Publish(ctx, claimsSubject, data, jetstream.WithRetryAttempts(0))
	if err != nil {
		return err
	}
	message.place, message.at = ack.Sequence, time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.follow(ctx, message.place)
}

// judge says whether a claim that is stored is the first.
func (c *claimer) judge(r *claimRequest, message *claimed) claimAnswer {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, other := range c.of(r.job) {
		if other != nil && other.place > r.after && !slices.Contains(r.tried, other.Batch) {
			return claimAnswer{err: errTaken}
		}
	}
	if c.q.nc.ConnectedServerId() != message.Server {
		return claimAnswer{message.place, ErrStale} // perhaps it was the next run that stored it
	}
	return claimAnswer{place: message.place}
}

// of returns what is known of a job's latest claims. c.mu is held.
func (c *claimer) of(job string) claims {
	if known, ok := c.recent[job]; ok {
		return known
	}
	return c.older[job]
}

// note keeps a message's claims in mind. c.mu is held.
func (c *claimer) note(message *claimed) {
	if now := time.Now(); now.Sub(c.turned) > claimsWatched {
		c.recent, c.older, c.turned = map[string]claims{}, c.recent, now
	}
	for _, job := range message.Jobs {
		known := c.of(job)
		switch {
		case known[0] == nil || message.place > known[0].place:
			known = claims{message, known[0]}
		case message.place < known[0].place && (known[1] == nil || message.place > known[1].place):
			known[1] = message
		}
		c.recent[job] = known
	}
}

// follow reads the claims before a place that are not known yet, the latest first. Those of long ago it leaves.
// c.mu is held.
func (c *claimer) follow(ctx context.Context, before uint64) error {
	old := time.Now().Add(-claimsWatched)
	for place := before - 1; place > c.read; place-- {
		message, err := c.get(ctx, place)
		if err != nil {
			return fmt.Errorf("read claims: %w", err)
		}
		if message == nil {
			continue
		}
		if message.at.Before(old) {
			break
		}
		c.note(message)
	}
	c.read = max(c.read, before-1)
	return nil
}

// get reads one message; nil is one that is gone, or no claim.
func (c *claimer) get(ctx context.Context, place uint64) (*claimed, error) {
	msg, err := c.q.claims.GetMsg(ctx, place)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	message := &claimed{place: place, at: c.q.clock.local(msg.Time)}
	if err := json.Unmarshal(msg.Data, message); err != nil {
		c.q.log.Error("claim cannot be read", zap.String("event", "claim_error"), zap.Uint64("sequence", place), zap.Error(err))
		return nil, nil
	}
	return message, nil
}

// latest returns the place of a job's latest claim, 0 if none is known, and whether who made it may still be at work: it
// was made under this run of the server, less than a lease ago. It knows the claims of this process, and those of others
// up to the last of this one; all if told to look.
func (c *claimer) latest(ctx context.Context, job string, look bool) (place uint64, underWay bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.refresh(ctx); err != nil {
		return 0, false, err
	}
	if look {
		ctx, cancel := context.WithTimeout(ctx, apiTimeout)
		defer cancel()
		info, err := c.q.claims.Info(ctx)
		if err == nil {
			err = c.follow(ctx, info.State.LastSeq+1)
		}
		if err != nil {
			return 0, false, err
		}
	}
	place = c.lost[job]
	if last := c.of(job)[0]; last != nil && last.place > place {
		place, underWay = last.place, last.Server == c.server && time.Since(last.at) < Lease*9/10
	}
	return place, underWay, nil
}

// refresh reads what was lost, and what is watched, when the server is another than last time. c.mu is held.
func (c *claimer) refresh(ctx context.Context) error {
	server := c.q.nc.ConnectedServerId()
	switch server {
	case "":
		return nats.ErrDisconnected
	case c.server:
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	info, err := c.q.claims.Info(ctx)
	if err != nil {
		return fmt.Errorf("read claims: %w", err)
	}
	lost, err := c.forgotten(ctx, server, info.State)
	if err != nil {
		return fmt.Errorf("read claims: %w", err)
	}
	if err := c.follow(ctx, info.State.LastSeq+1); err != nil {
		return err
	}
	c.server, c.lost = server, lost
	return nil
}

// forgotten goes back through the claims, past those of this run of the server, over the last moments of the run before.
// c.mu is held.
func (c *claimer) forgotten(ctx context.Context, server string, log jetstream.StreamState) (map[string]uint64, error) {
	lost := map[string]uint64{}
	last := forgetful
	if c.q.transient {
		last = transientFor
	}
	var end time.Time // of the run before
	for place := log.LastSeq; place >= log.FirstSeq && place > 0; place-- {
		message, err := c.get(ctx, place)
		if err != nil {
			return nil, err
		}
		if message == nil || message.Server == server {
			continue
		}
		if end.IsZero() {
			end = message.at
		}
		if message.at.Before(end.Add(-last)) {
			break
		}
		for _, job := range message.Jobs {
			lost[job] = max(lost[job], place)
		}
	}
	return lost, nil
}
