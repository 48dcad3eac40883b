package queue

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/synadia-io/orbit.go/jetstreamext"
	"go.uber.org/zap"
)

// Which processes are alive
//
// Each ingress and worker keeps one record in the bucket BRAZIER_ALIVE, and writes it again every [aliveEvery]:
//
//	$KV.BRAZIER_ALIVE.<role>.<id of the process>
//
// A record is removed by the server [AliveFor] after it was written last, so that of a process that was killed nothing stays. A
// process that ends in good order says so in its last record.
//
// The bucket is kept on file: a write in ten seconds costs a disk nothing, and a single server that restarts still has it, so
// that no process has to make it again. Nothing else depends on it. Where it is missing, or this user may not write to it,
// messages are taken and delivered, and the log tells that once. So [Open] does not ask for it, and Announce makes it.

const (
	// AliveFor is how long a process counts as alive after its last record. It bears two records that do not come, as during an
	// election. With a longer one nobody would hear for longer that the last worker was killed.
	AliveFor = 30 * time.Second
	// aliveEvery is how often a process writes its record, and aliveTries how often in that time while it cannot.
	aliveEvery, aliveTries = 10 * time.Second, 5
	// aliveAtEnd is how long a process that ends waits until its last record is stored.
	aliveAtEnd = time.Second
	// maxAlivePages bounds the pages in one record: some 90 KB of ids.
	maxAlivePages = 5000
	// aliveBytes bounds the bucket: over a hundred processes with as many pages each.
	aliveBytes = 16 << 20
)

const aliveSubjects = "$KV." + BucketAlive + "."

// AliveProcess is what a process says of itself. Times are the server's.
type AliveProcess struct {
	Role    string `json:"role"` // as Config.Role: ingress, worker, or serve, which is both
	Name    string `json:"name"` // of its machine
	Version string `json:"version"`
	// Pages is how many pages are in its page file, and PageIDs are their Facebook ids; none if there are more than 5,000.
	Pages   int       `json:"pages"`
	PageIDs []string  `json:"page_ids,omitempty"`
	Started time.Time `json:"started"`
	// ServerAhead is by how many seconds the server's clock is ahead of the process's.
	ServerAhead float64 `json:"server_ahead_s"`
	// Slowed are the pages that a worker sends for at less than their rate, by Facebook id.
	Slowed map[string]RateInForce `json:"slowed,omitempty"`
	// Unready is why the process cannot do its work, as its /readyz says; empty: it can.
	Unready string `json:"unready,omitempty"`
	// Stopped says that the process has ended in good order since.
	Stopped bool `json:"stopped,omitempty"`

	Seen time.Time `json:"-"` // when the record was stored
	Own  bool      `json:"-"` // it is the record of this Queue
}

// RateInForce is a rate below the one of the page file.
type RateInForce struct {
	Rate float64 `json:"rate"` // calls a second of all workers together
	Why  string  `json:"why"`  // as rate_why of the worker's log
}

// Works reports whether the process delivers messages.
func (p *AliveProcess) Works() bool { return p.Role == "worker" || p.Role == "serve" }

// Takes reports whether the process takes messages over HTTP.
func (p *AliveProcess) Takes() bool { return p.Role == "ingress" || p.Role == "serve" }

// Announce keeps the record of this process until ctx ends, then notes that the process has stopped. describe is called for each
// record and may take some seconds; Role, Started, ServerAhead and Stopped are filled in here. Announce is called once. It returns nil.
func (q *Queue) Announce(ctx context.Context, describe func() AliveProcess) error {
	a := announcer{q: q, describe: describe}
	started, err := q.ServerTime(ctx)
	if err != nil { // ctx has ended, or the connection is closed for good, which ends the process by another part
		<-ctx.Done()
		return nil
	}
	a.started = started
	for {
		wait := time.NewTimer(a.tell(ctx))
		select {
		case <-wait.C:
		case <-ctx.Done():
			wait.Stop()
			a.farewell()
			return nil
		}
	}
}

// announcer is the state of one Announce.
type announcer struct {
	q        *Queue
	describe func() AliveProcess
	started  time.Time

	there   bool      // the bucket was found or made
	failing time.Time // since when records cannot be written; zero: the last one was
	told    bool      // the log says so
}

// tell writes the record, and returns after what time to write the next one.
func (a *announcer) tell(ctx context.Context) time.Duration {
	err := a.write(ctx, a.record())
	if ctx.Err() == nil {
		a.report(err)
	}
	if err != nil && !a.told {
		return a.q.cfg.aliveEvery / aliveTries
	}
	return a.q.cfg.aliveEvery
}

func (a *announcer) record() AliveProcess {
	p := a.describe()
	if len(p.PageIDs) > maxAlivePages {
		p.PageIDs = nil
	}
	p.Role, p.Started, p.ServerAhead = a.q.cfg.Role, a.started, a.q.clock.ahead().Seconds()
	return p
}

func (a *announcer) write(ctx context.Context, p AliveProcess) error {
	if !a.there {
		if err := a.ensure(ctx); err != nil {
			return err
		}
		a.there = true
	}
	value, err := json.Marshal(p)
	if err != nil {
		return err
	}
	subject := aliveSubjects + p.Role + "." + a.q.aliveID
	err = a.q.refusals.during(ctx, subject, func(ctx context.Context) error {
		ctx, cancel := a.q.requestContext(ctx)
		defer cancel()
		_, err := a.q.js.Publish(ctx, subject, value, jetstream.WithExpectStream(streamOf(BucketAlive)))
		return noAnswer(ctx, err)
	})
	if err != nil && isMissing(err) {
		a.there = false
	}
	return err
}

func (a *announcer) ensure(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	_, _, err := a.q.ensureStream(ctx, a.q.cfg.planned(streamOf(BucketAlive)))
	if errors.As(err, new(newerError)) { // what a newer version adds does not disturb this one
		return nil
	}
	return err
}

// farewell notes that the process has stopped, if the last record was stored.
func (a *announcer) farewell() {
	if !a.there || !a.failing.IsZero() || !a.q.Connected() {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), aliveAtEnd)
	defer cancel()
	last := a.record()
	last.Stopped = true
	_ = a.write(ctx, last) // else the record ends by itself
}

// report logs once that records cannot be written, and once that they are again. An election is no failure, and of a lost
// connection other lines tell.
func (a *announcer) report(err error) {
	if err == nil {
		if a.told {
			a.q.log.Info("this process is seen as alive again", zap.String("event", "alive_ok"))
		}
		a.failing, a.told = time.Time{}, false
		return
	}
	if a.failing.IsZero() || !a.q.Connected() {
		a.failing = time.Now()
	}
	if a.told || time.Since(a.failing) < a.q.cfg.waitLogAfter {
		return
	}
	a.told = true
	a.q.log.Warn("others cannot see that this process is alive: messages are not affected", zap.String("event", "alive_wait"),
		zap.Error(redact(err)), zap.String("remedy", aliveRemedy(err)))
}

func aliveRemedy(err error) string {
	switch {
	case errors.Is(err, errMayNotMake), errors.As(err, new(*StreamError)):
		return remedySetup
	case errors.Is(err, errNotAllowed):
		return "give this user the permissions of deploy/nats-users.conf"
	}
	return "see whether the stream " + streamOf(BucketAlive) + " is there and has a leader (nats stream info)"
}

// ErrNoAlive says that no process of this version has run against these servers, or that none could make the bucket.
var ErrNoAlive = errors.New("the bucket " + BucketAlive + " is missing: " + remedySetup + ", or start a worker of this version")

// Alive returns the records of all processes that were seen within [AliveFor], also of those that have stopped since. It
// returns [ErrNoAlive] where there is no bucket of them, and repeats its requests until ctx ends.
func (q *Queue) Alive(ctx context.Context) ([]AliveProcess, error) {
	now, err := q.ServerTime(ctx)
	if err != nil {
		return nil, err
	}
	var all []AliveProcess
	err = q.retry(ctx, dependency{kind: onNothing}, func(ctx context.Context) error {
		err := q.refusals.during(ctx, "$JS.API.DIRECT.GET."+streamOf(BucketAlive), func(ctx context.Context) (err error) {
			all, err = q.aliveSince(ctx, now.Add(-q.cfg.aliveFor))
			return err
		})
		return q.withoutAlive(ctx, err)
	})
	if err != nil {
		return nil, fmt.Errorf("queue: processes alive: %w", redact(err))
	}
	return all, nil
}

// aliveSince reads the records that were stored after a time. Older ones may be there still: a replica that lags has them, or one
// that has lost the others.
func (q *Queue) aliveSince(ctx context.Context, after time.Time) (all []AliveProcess, err error) {
	msgs, err := jetstreamext.GetLastMsgsFor(ctx, q.js, streamOf(BucketAlive), []string{aliveSubjects + ">"})
	if err != nil {
		return nil, noAnswer(ctx, err)
	}
	for msg, err := range msgs {
		if errors.Is(err, jetstreamext.ErrNoMessages) {
			break
		}
		if err != nil {
			return nil, noAnswer(ctx, err)
		}
		var p AliveProcess
		if msg.Time.Before(after) || json.Unmarshal(msg.Data, &p) != nil { // a person wrote that one
			continue
		}
		p.Seen, p.Own = msg.Time, strings.HasSuffix(msg.Subject, "."+q.aliveID)
		all = append(all, p)
	}
	return all, ctx.Err() // the answers end without an error when they do not come in time
}

// withoutAlive ends the attempts where there is no bucket, or this user may not read it.
func (q *Queue) withoutAlive(ctx context.Context, err error) error {
	if errors.Is(err, errNotAllowed) {
		return backoff.Permanent(err)
	}
	if err == nil || !isMissing(err) {
		return err
	}
	if _, missing := q.lookAt(ctx, streamOf(BucketAlive)); errors.Is(missing, jetstream.ErrStreamNotFound) {
		return backoff.Permanent(ErrNoAlive)
	}
	return err
}
