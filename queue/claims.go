package queue

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
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
// So on such a stream a worker claims a delivery before it begins: it appends the job's sequence and the number of the
// delivery to the stream BRAZIER_CLAIMS, which is flushed like any other. A claim made under an earlier run of the server,
// that no retry record follows, is a delivery that was lost. Claims of jobs that begin together share one message.
//
// What was handed out by a run of the server that is over, and not begun, is not begun any more: the next run may have
// forgotten it and hand it out again, to another worker too.

const (
	claimsSubject = "brazier.claims"
	// claimsAge is how long claims are kept: longer than a server may be away and its workers wait for it.
	claimsAge = 24 * time.Hour
	// claimsKept bounds their messages. No bound in bytes: the server would set so much disk aside for them.
	claimsKept = 100_000
	// forgetful is how much of its last moments a killed server may have forgotten, with a margin: ten times a second is
	// what it does unless the disk is slow.
	forgetful = 10 * time.Second
	// maxClaims is how many claims go into one message.
	maxClaims = 1000
)

// claimed is one message of BRAZIER_CLAIMS.
type claimed struct {
	Server string      `json:"s"` // the run of the server under which the jobs were handed out
	Claims [][2]uint64 `json:"c"` // stream sequence and delivery
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

// claimer gathers claims into messages. One goroutine runs it.
type claimer struct {
	q    *Queue
	in   chan claimRequest
	stop chan struct{}
	done chan struct{}

	mu     sync.Mutex
	server string            // the run of the server for which lost was read
	lost   map[uint64]uint64 // by sequence, the latest delivery claimed under the run before
}

type claimRequest struct {
	server string // the run of the server that handed the job out
	claim  [2]uint64
	answer chan error
}

// ErrStale says that the server that handed a job out was restarted before work on it began. The job is to be released.
var ErrStale = errors.New("the server was restarted since it handed the job out")

func newClaimer(q *Queue) *claimer {
	return &claimer{q: q, in: make(chan claimRequest, maxClaims), stop: make(chan struct{}), done: make(chan struct{})}
}

// claim returns once the claim is stored. It asks again until ctx ends, or with ErrStale.
func (c *claimer) claim(ctx context.Context, server string, seq, delivery uint64) error {
	return retry(ctx, func(ctx context.Context) error {
		r := claimRequest{server: server, claim: [2]uint64{seq, delivery}, answer: make(chan error, 1)}
		select {
		case c.in <- r:
		case <-ctx.Done():
			return ctx.Err()
		case <-c.done:
			return nats.ErrConnectionClosed
		}
		select {
		case err := <-r.answer:
			return err
		case <-c.done:
			return nats.ErrConnectionClosed
		}
	})
}

func (c *claimer) run() {
	defer close(c.done)
	for {
		var batch []claimRequest
		select {
		case r := <-c.in:
			batch = append(batch, r)
		case <-c.stop:
			return
		}
		for len(batch) < maxClaims && len(c.in) > 0 {
			batch = append(batch, <-c.in)
		}
		c.write(batch)
	}
}

// write stores the claims of jobs that this run of the server handed out, and answers all.
func (c *claimer) write(batch []claimRequest) {
	message := claimed{Server: c.q.nc.ConnectedServerId()}
	current := batch[:0]
	for _, r := range batch {
		if r.server != message.Server {
			r.answer <- ErrStale
			continue
		}
		message.Claims = append(message.Claims, r.claim)
		current = append(current, r)
	}
	if len(current) == 0 {
		return
	}
	data, _ := json.Marshal(message) // cannot fail: a string and numbers
	ctx, cancel := context.WithTimeout(context.Background(), apiTimeout)
	defer cancel()
	_, err := c.q.js.Publish(ctx, claimsSubject, data, jetstream.WithRetryAttempts(0))
	if err == nil && c.q.nc.ConnectedServerId() != message.Server {
		err = ErrStale // perhaps it was the next run that stored them
	}
	for _, r := range current {
		r.answer <- err
	}
}

// wasLost returns the latest delivery of a job that was claimed under the run of the server before this one, 0 if none
// was. It reads the claims when the server is another than last time.
func (c *claimer) wasLost(ctx context.Context, seq uint64) (delivery uint64, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if server := c.q.nc.ConnectedServerId(); server != c.server {
		lost, err := c.read(ctx, server)
		if err != nil {
			return 0, fmt.Errorf("read claims: %w", err)
		}
		c.server, c.lost = server, lost
	}
	return c.lost[seq], nil
}

// read goes back through the claims, past those of this run of the server, over the last moments of the run before.
func (c *claimer) read(ctx context.Context, server string) (map[uint64]uint64, error) {
	info, err := c.q.claims.Info(ctx)
	if err != nil {
		return nil, err
	}
	lost := map[uint64]uint64{}
	var end time.Time // of the run before
	for seq := info.State.LastSeq; seq >= info.State.FirstSeq && seq > 0; seq-- {
		msg, err := c.q.claims.GetMsg(ctx, seq)
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		var message claimed
		if err := json.Unmarshal(msg.Data, &message); err != nil {
			c.q.log.Error("claim cannot be read", zap.String("event", "claim_error"), zap.Uint64("sequence", seq), zap.Error(err))
			continue
		}
		if message.Server == server {
			continue
		}
		if end.IsZero() {
			end = msg.Time
		}
		if msg.Time.Before(end.Add(-forgetful)) {
			break
		}
		for _, claim := range message.Claims {
			lost[claim[0]] = max(lost[claim[0]], claim[1])
		}
	}
	return lost, nil
}
