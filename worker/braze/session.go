package braze

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/brazier-relay/brazier/queue"
	"github.com/brazier-relay/brazier/worker"
)

const (
	// callsAtOnce is how many calls of a workspace are under way at a time: 1,200 objects each second where Braze answers in a second,
	// more than a page at Facebook's limit has to tell. Calls wait until they are full, or for [SenderConfig.Linger], so that many
	// at once are not many in an hour. The events of all of them are in doubt when this process is killed.
	callsAtOnce = 16
	// maxWaiting is from how many objects on no more updates are fetched: as many as the calls hold.
	maxWaiting = callsAtOnce * MaxObjects
	// resolving is how many updates are looked up at a time.
	resolving = 16
	// maxRefusals is how often an object is sent again that Braze refuses alone while it takes no other.
	maxRefusals = 5
	// callsFor and settleFor are how long calls under way and then their updates may go on after the end, within the worker's own
	// budget. Braze answers well within a second; attributes of a call that is cut off are written again.
	callsFor, settleFor = 8 * time.Second, 5 * time.Second
)

// retryDelays are between attempts at an update that cannot be resolved now.
var retryDelays = worker.Delays{First: 500 * time.Millisecond, Max: time.Minute}

// session sends the updates of one workspace until it takes no more calls or ctx ends. It belongs to one goroutine; updates are
// resolved, sent and settled on others.
type session struct {
	*line
	ctx, calling, settle context.Context    // of fetching, of calls, and of settlements
	end                  context.CancelFunc // of ctx

	batcher Batcher[*entry]
	calls   int       // under way
	oldest  time.Time // when the first object came that waits
	probing bool      // one call at a time, until one is taken
	stopped *Verdict  // the workspace takes no more

	resolved chan resolved
	answers  chan answered
	settling sync.WaitGroup
	floods   *worker.Floods
}

// entry is an update on its way.
type entry struct {
	job      *queue.Delivery
	left     int    // objects that are not settled
	refusals int    // of an object alone
	dead     string // why an object is dead, if one is
}

type resolved struct {
	job     *queue.Delivery
	objects []Object
	err     error
}

type answered struct {
	batch   *Batch[*entry]
	results []Result
	verdict Verdict
}

// session sends until the workspace takes no more calls, and returns why; or until ctx ends.
func (l *line) session(ctx context.Context) Verdict {
	calling, cutCalls := context.WithCancel(context.WithoutCancel(ctx))
	defer cutCalls()
	settle, cut := context.WithCancel(context.WithoutCancel(ctx))
	defer cut()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(callsFor, cutCalls); time.AfterFunc(callsFor+settleFor, cut) })()
	ctx, end := context.WithCancel(ctx)
	defer end()
	s := &session{line: l, ctx: ctx, calling: calling, settle: settle, end: end, probing: l.failures > 0, floods: worker.NewFloods(l.log), resolved: make(chan resolved), answers: make(chan answered)}

	jobs := make(chan *queue.Delivery)
	var fetching, resolvers sync.WaitGroup
	fetching.Go(func() {
		worker.Feed(ctx, settle, l.s.cfg.Queue, queue.AllPages, queue.Updates(l.Name), resolving, l.log, jobs)
		close(jobs)
	})
	for range resolving {
		resolvers.Go(func() {
			for job := range jobs {
				s.resolve(job)
			}
		})
	}
	s.run()
	end()
	fetching.Wait()
	resolvers.Wait()
	s.settling.Wait()
	s.floods.Flush()
	if s.stopped == nil {
		return Verdict{}
	}
	return *s.stopped
}

// run takes in what the other goroutines tell, until ctx has ended and no call is under way.
func (s *session) run() {
	linger := time.NewTimer(time.Hour)
	linger.Stop()
	defer linger.Stop()
	for {
		s.send(linger)
		if s.ctx.Err() != nil && s.calls == 0 {
			break
		}
		more := s.resolved
		if s.ctx.Err() != nil || s.batcher.Len() >= maxWaiting {
			more = nil
		}
		done := s.ctx.Done()
		if s.ctx.Err() != nil {
			done = nil
		}
		select {
		case r := <-more:
			s.add(r)
		case a := <-s.answers:
			s.take(a)
		case <-linger.C:
		case <-done:
		}
	}
	for { // what is left goes back
		batch := s.batcher.Next(MaxObjects, MaxBytes)
		if batch == nil {
			return
		}
		s.batcher.Settle(batch, nil)
		for _, e := range batch.Values {
			s.drop(e)
		}
	}
}

// resolve looks up what an update stands for, and passes that to run.
func (s *session) resolve(job *queue.Delivery) {
	objects, err := s.s.cfg.Resolve(s.ctx, job)
	select {
	case s.resolved <- resolved{job, objects, err}:
	case <-s.ctx.Done():
		s.release(job)
	}
}

// add takes in an update that was looked up.
func (s *session) add(r resolved) {
	switch {
	case errors.Is(r.err, ErrUnreadable):
		s.bury(r.job, string(Invalid), r.err.Error())
	case r.err != nil:
		s.do(r.job, func() error {
			return r.job.Retry(s.settle, r.job.Attempts+1, "resolve", retryDelays.Next(r.job.Attempts+1))
		})
	case len(r.objects) == 0:
		s.done(r.job)
	default:
		if s.batcher.Len() == 0 {
			s.oldest = time.Now()
		}
		s.addObjects(r)
	}
}

// addObjects has objects wait for their calls. An event that an earlier process may have sent is dead, unless it may be repeated.
func (s *session) addObjects(r resolved) {
	e := &entry{job: r.job}
	for _, o := range r.objects {
		if o.Event != nil && r.job.InDoubt && !s.Client.cfg.RepeatEvents {
			e.dead = "Braze may have the event, and would count it twice: " + r.job.Doubt
			continue
		}
		e.left++
		s.batcher.Add(o, e)
	}
	if e.left == 0 {
		s.bury(e.job, string(InDoubt), e.dead)
	}
}

// send begins the calls that are due.
func (s *session) send(linger *time.Timer) {
	most := callsAtOnce
	if s.probing {
		most = 1
	}
	for s.ctx.Err() == nil && s.calls < most && s.batcher.Len() > 0 && time.Until(*s.until.Load()) > callLeast {
		objects, bytes := s.Client.Limits()
		if s.probing {
			objects = 1 // what is in the call is in doubt if Braze fails with it
		}
		if left := s.s.cfg.Linger - time.Since(s.oldest); s.batcher.Len() < objects && left > 0 {
			linger.Reset(left)
			return
		}
		batch := s.batcher.Next(objects, bytes)
		if batch == nil { // the users of all are in calls that are under way
			return
		}
		s.oldest = time.Now()
		s.calls++
		ctx, cancel := context.WithDeadline(s.calling, *s.until.Load()) // another process may send from then on
		go func() {
			defer cancel()
			began := time.Now()
			results, verdict := s.call(ctx, batch)
			s.s.metrics.call(s.Name, verdict, time.Since(began))
			s.answers <- answered{batch, results, verdict} // run waits for it
		}()
	}
}

// call makes a call. Events that are not to be told twice are begun before: whoever gets them after this process was killed then
// finds that Braze may have them.
func (s *session) call(ctx context.Context, batch *Batch[*entry]) ([]Result, Verdict) {
	if err := s.begin(ctx, batch); err != nil {
		text := "the queue cannot record that events are about to be sent: " + err.Error()
		return slices.Repeat([]Result{{Again, NotTaken, text}}, len(batch.Objects)), Verdict{Meaning: Unsent, Text: text, Wait: failedWait}
	}
	return s.Client.Track(ctx, batch.Objects)
}

// begin begins the updates of a batch that hold events, side by side, so that their records are stored together. After an error some
// may be begun, and none is sent.
func (s *session) begin(ctx context.Context, batch *Batch[*entry]) error {
	if s.Client.cfg.RepeatEvents {
		return nil
	}
	var beginning sync.WaitGroup
	var failed atomic.Pointer[error]
	begun := map[*entry]bool{} // an update may hold several
	for i, e := range batch.Values {
		if batch.Objects[i].Event == nil || begun[e] {
			continue
		}
		begun[e] = true
		beginning.Go(func() {
			if err := e.job.Begin(ctx); err != nil {
				failed.CompareAndSwap(nil, &err)
			}
		})
	}
	beginning.Wait()
	if err := failed.Load(); err != nil {
		return *err
	}
	return nil
}

// take takes in what became of a call.
func (s *session) take(a answered) {
	s.calls--
	for _, text := range a.verdict.Unattributed {
		s.log.Warn("Braze reported an error that names no object", zap.String("event", "braze_warning"), zap.String("reason", text))
	}
	s.batcher.Settle(a.batch, func(i int) bool {
		e, r := a.batch.Values[i], a.results[i]
		if r.Outcome == Again && r.Cause == Refused {
			if e.refusals++; e.refusals >= maxRefusals {
				r.Outcome = Dead
			}
		}
		s.s.metrics.updates.WithLabelValues(s.Name, string(r.Outcome)).Inc()
		switch r.Outcome {
		case Again:
			return true
		case Dead:
			e.dead = r.Reason
		}
		if e.left--; e.left == 0 {
			s.settled(e)
		}
		return false
	})
	switch {
	case a.verdict.Meaning == Taken:
		s.taken()
		s.probing = false
	case s.stopped == nil && s.ctx.Err() == nil:
		s.stopped = &a.verdict
		s.end()
	}
}

// settled ends an update all of whose objects are done or dead.
func (s *session) settled(e *entry) {
	if e.dead != "" {
		s.bury(e.job, "refused", e.dead)
		return
	}
	s.log.Debug("update sent", zap.String("event", "update_sent"), zap.String("id", e.job.ID), zap.String("page_id", e.job.Page))
	s.done(e.job)
}

// drop gives back an update that is not sent to its end. The objects of it that were written are written again.
func (s *session) drop(e *entry) {
	if e.left--; e.left > 0 {
		return // the others come
	}
	s.release(e.job)
}

func (s *session) done(job *queue.Delivery) {
	s.do(job, func() error { return job.Done(s.settle) })
}

// ClassUpdate is the class of an update that Braze does not take.
const ClassUpdate = "braze"

func (s *session) bury(job *queue.Delivery, cause, reason string) {
	if s.floods.Allow(worker.LineKind{Event: "update_dead", Class: cause}) {
		s.log.Warn("update is not taken by Braze, and kept as a dead letter", zap.String("event", "update_dead"), zap.String("id", job.ID),
			zap.String("page_id", job.Page), zap.String("cause", cause), zap.String("reason", reason))
	}
	s.do(job, func() error {
		return job.DeadLetter(s.settle, queue.Reason{Class: ClassUpdate, Attempts: job.Attempts + 1, Text: reason})
	})
}

func (s *session) release(job *queue.Delivery) {
	s.do(job, func() error { return job.Release(s.settle) })
}

// do settles an update on a goroutine of its own, so that what settles together is written together.
func (s *session) do(job *queue.Delivery, settle func() error) {
	s.settling.Go(func() {
		if err := settle(); err != nil && s.floods.Allow(worker.LineKind{Event: "unsettled"}) {
			s.log.Error("job not settled, it will be delivered again", zap.String("event", "unsettled"), zap.String("id", job.ID),
				zap.String("lane", string(job.Lane)), zap.Error(err))
		}
	})
}
