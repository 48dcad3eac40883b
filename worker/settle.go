package worker

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"go.uber.org/zap"

	"github.com/brazier-relay/brazier/queue"
	"github.com/brazier-relay/brazier/sendapi"
)

// handle takes one job through its steps, each only after the one before: expire → begin → slot → send → settle. It has a
// permit. A settlement waits for a server that is away for as long as the worker runs: what became of the job is known here
// alone until then.
func (p *page) handle(ph phases, job *queue.Delivery, t *turn) {
	p.count(1)
	defer p.count(-1)
	if v, ended := p.expire(job); ended {
		p.settle(ph.settle, job, call{}, v)
		return
	}
	probe := t.d.mode == gateDue
	if probe {
		if wait := p.othersFirst(job); wait > 0 {
			if err := job.Retry(ph.settle, job.Attempts, "", p.beforeExpiry(job, wait)); err != nil {
				p.unsettled(job, string(aside), err)
			}
			return
		}
		if !p.claim(ph.settle) {
			p.unclaimed(ph, job)
			return
		}
		defer p.keepClaim(ph.settle)()
	}
	if !p.ready(ph, job, t) {
		p.settle(ph.settle, job, call{}, Verdict{Outcome: Release})
		return
	}
	if v, ended := p.expire(job); ended { // while it waited for its slot
		p.settle(ph.settle, job, call{}, v)
		return
	}
	if probe && !p.claimShared(ph.settle) {
		p.unclaimed(ph, job)
		return
	}
	made := call{probe: probe, begun: p.w.cfg.Queue.Now(), credentials: p.credentialsName()}
	v := p.send(ph.work, job)
	p.usage.note(v.Usage)
	p.settle(ph.settle, job, made, v)
}

// unclaimed requeues a job that was not to be tried: another page or worker tries one.
func (p *page) unclaimed(ph phases, job *queue.Delivery) {
	p.release()
	p.lookAgain() // else it would fetch the same job again at once, for as long as the other's call takes
	p.settle(ph.settle, job, call{}, Verdict{Outcome: Release})
}

func (p *page) count(n int64) {
	p.inFlight.Add(n)
	p.w.inFlight.Add(n)
}

// expire returns the verdict on a job that is not to be sent any more.
func (p *page) expire(job *queue.Delivery) (v Verdict, ended bool) {
	switch {
	case p.expired(job):
		return Verdict{Outcome: Dead, Class: sendapi.ClassExpired, Text: "its time ran out in the queue"}, true
	case job.Lost >= maxLost:
		return Verdict{Outcome: Dead, Class: sendapi.ClassInDoubt, Text: "workers were lost with it again and again: " + job.Doubt}, true
	}
	return Verdict{}, false
}

func (p *page) expired(job *queue.Delivery) bool {
	return !job.Expire.IsZero() && p.w.cfg.Queue.Now().After(job.Expire)
}

// ready begins the job and then waits for its slot. It returns false when the job is to be requeued. A job that waited so long
// that another worker may have been given it is begun anew: the server refuses that if one was.
func (p *page) ready(ph phases, job *queue.Delivery, t *turn) bool {
	for {
		err := job.Begin(ph.work)
		if err != nil {
			if ph.work.Err() == nil && !errors.Is(err, queue.ErrTaken) {
				p.unsettled(job, "not begun", err)
			}
			return false
		}
		switch {
		case !t.slot():
			return false
		case job.OwnsLease():
			return true
		}
	}
}

// send calls the handler. After a panic nobody knows what has happened.
func (p *page) send(ctx context.Context, job *queue.Delivery) (v Verdict) {
	handler, began := *p.handler.Load(), time.Now()
	defer func() {
		if r := recover(); r != nil {
			p.log.Error("handler panicked", append(jobFields(job), zap.String("event", "panic"),
				zap.String("cause", fmt.Sprintf("%T", r)), zap.ByteString("stack", debug.Stack()))...)
			v = handler.InDoubt(job, "the handler panicked")
			v.Took = time.Since(began)
		}
	}()
	return handler.Handle(ctx, job)
}

func (p *page) settle(ctx context.Context, job *queue.Delivery, made call, v Verdict) {
	v, first := p.weigh(job, made, v)
	attempt := job.Attempts + 1
	ofClass := job.Counts[string(v.Class)] + 1
	if v.Outcome == Retry && v.MaxAttempts > 0 && ofClass >= v.MaxAttempts {
		v.Outcome = Dead
	}
	p.w.metrics.note(p.Name, v, p.w.cfg.Queue.Now().Sub(job.Accepted))
	if v.Took > 0 && !v.Unreachable && job.Lane != queue.Media {
		p.w.slowness.note(p.Name, v.Took, time.Now())
	}
	if job.InDoubt && v.Took > 0 { // it was sent again; where it was not, it is dead, and that line says so
		p.logInDoubt(job, attempt, Verdict{Class: sendapi.ClassInDoubt, Text: job.Doubt}, 0)
	}
	if v.holds {
		page := v
		page.Class, page.Delays, page.HoldFor = sendapi.ClassPage, v.HoldDelays, 0
		page.Text = "one message after another: " + v.Text
		p.hold(ctx, made, page, first)
	}
	if v.Took > 0 && v.Outcome != Delivered && v.Outcome != Release {
		job.AddTry(queue.Try{At: made.begun, Class: string(v.Class), Code: v.Code, Subcode: v.Subcode, TraceID: v.TraceID, Took: v.Took})
	}
	var err error
	switch v.Outcome {
	case Delivered:
		p.w.ended(ctx, job, End{Delivered: true, MessageID: v.MessageID, Begun: made.begun})
		if err = job.Done(ctx); err == nil {
			p.delivered.Add(1)
			p.logDelivered(job, attempt, v)
			p.wasSent(ctx, made)
		}
	case Dead:
		reason := queue.Reason{Class: string(v.Class), Code: v.Code, Subcode: v.Subcode, TraceID: v.TraceID, Attempts: attempt, Text: v.Text}
		if v.Took == 0 {
			reason.Attempts = job.Attempts // it was not sent this time
		}
		p.w.ended(ctx, job, End{Reason: reason})
		switch err = job.DeadLetter(ctx, reason); {
		case err == nil:
			p.dead.Add(1)
			p.logDead(job, reason)
		case v.Class == sendapi.ClassExpired && errors.Is(err, queue.ErrTaken):
			err = nil // another worker found it expired too, and says so
		}
	case Hold:
		if !p.goesOn(job, made, v) {
			p.hold(ctx, made, v, first)
		}
		fallthrough
	case aside:
		err = job.Retry(ctx, job.Attempts, string(v.Class), p.beforeExpiry(job, p.asideFor(job, v)))
	case Retry:
		delay := v.Delays.Next(ofClass)
		if v.Class == sendapi.ClassInDoubt { // never at once: where Facebook is away, it shows before the last attempt is used up
			delay = (delay + v.Delays.Steady(ofClass)) / 2
		}
		delay = p.beforeExpiry(job, delay)
		if err = job.Retry(ctx, attempt, string(v.Class), delay); err == nil {
			p.logRetry(job, attempt, v, delay)
		}
	case Release:
		err = job.Release(ctx)
	default: // a handler that does not know is a defect; the job is kept
		err = job.Retry(ctx, attempt, "", time.Minute)
		p.log.Error("handler gave no verdict", zap.String("event", "no_verdict"), zap.String("id", job.ID))
	}
	if err != nil {
		p.unsettled(job, string(v.Outcome), err)
	}
}

// ended tells Config.Ended how a job is about to end.
func (w *Worker) ended(ctx context.Context, job *queue.Delivery, end End) {
	if w.cfg.Ended != nil {
		w.cfg.Ended(ctx, job, end)
	}
}

// beforeExpiry keeps a delay from reaching past the job's expiry, so that an expired job is found to be so in time.
func (p *page) beforeExpiry(job *queue.Delivery, delay time.Duration) time.Duration {
	if job.Expire.IsZero() {
		return delay
	}
	return min(delay, max(job.Expire.Sub(p.w.cfg.Queue.Now()), 0)+time.Millisecond)
}

// requeue returns a job that was not begun.
func (p *page) requeue(ph phases, job *queue.Delivery) {
	if err := job.Release(ph.settle); err != nil {
		p.unsettled(job, "requeue", err)
	}
}
