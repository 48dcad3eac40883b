package worker

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/brazier-relay/brazier/queue"
	"github.com/brazier-relay/brazier/sendapi"
)

// maxLost is how often a job may be lost without a word: a worker killed, a connection gone. A job that is lost again and
// again is likely what kills its workers.
const maxLost = 5

// handle takes one job down its road, each step only after the one before: expire → begin → slot → send → settle. It holds a
// permit. A settlement waits for a server that is away for as long as the worker lives: what became of the job is known here
// alone until then.
func (p *page) handle(ph phases, job *queue.Delivery, t *turn) {
	p.count(1)
	defer p.count(-1)
	if v, ended := p.expire(job); ended {
		p.settle(ph.settle, job, attempt{}, v)
		return
	}
	tried := t.d.mode == due
	if tried {
		if wait := p.others(job); wait > 0 {
			if err := job.Retry(ph.settle, job.Attempts, "", p.beforeExpiry(job, wait)); err != nil {
				p.unsettled(job, string(aside), err)
			}
			return
		}
		if !p.claim(ph.settle) {
			p.release()
			p.lookAgain() // else it would fetch the same job again at once, for as long as the other's call takes
			p.settle(ph.settle, job, attempt{}, Verdict{Outcome: Release})
			return
		}
		defer p.keepClaim(ph.settle)()
	}
	if ready, err := p.ready(ph, job, t); err != nil {
		p.unsettled(job, "not begun", err)
		return
	} else if !ready {
		p.settle(ph.settle, job, attempt{}, Verdict{Outcome: Release})
		return
	}
	if v, ended := p.expire(job); ended { // while it waited for its slot
		p.settle(ph.settle, job, attempt{}, v)
		return
	}
	a := attempt{probe: tried, begun: p.w.cfg.Queue.Now(), credentials: p.credentialsName()}
	v := p.send(ph.work, job)
	p.usage.note(v.Usage)
	p.settle(ph.settle, job, a, v)
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

// ready begins the job and then waits for its slot. It returns false when the job is to be put back, and after an error the
// job was not begun. A job that waited so long that another worker may have been given it is begun anew: the server refuses
// that if one was.
func (p *page) ready(ph phases, job *queue.Delivery, t *turn) (bool, error) {
	for {
		switch err := job.Begin(ph.work); {
		case errors.Is(err, queue.ErrTaken):
			return false, nil
		case err != nil:
			return false, err
		case !t.slot():
			return false, nil
		case job.Ours():
			return true, nil
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

func (p *page) settle(ctx context.Context, job *queue.Delivery, a attempt, v Verdict) {
	v, first := p.weigh(job, a, v)
	attempt := job.Attempts + 1
	ofClass := job.Counts[string(v.Class)] + 1
	if v.Outcome == Retry && v.MaxAttempts > 0 && ofClass >= v.MaxAttempts {
		v.Outcome = Dead
	}
	p.w.metrics.note(p.Name, v)
	if v.holds {
		page := v
		page.Class, page.Delays, page.HoldFor = sendapi.ClassPage, v.HoldDelays, 0
		page.Text = "one message after another: " + v.Text
		p.hold(ctx, a, page, first)
	}
	var err error
	switch v.Outcome {
	case Delivered:
		if err = job.Done(ctx); err == nil {
			p.delivered.Add(1)
			p.logDelivered(job, attempt, v)
			p.wasSent(ctx, a)
		}
	case Dead:
		reason := queue.Reason{Class: string(v.Class), Code: v.Code, Subcode: v.Subcode, TraceID: v.TraceID, Attempts: attempt, Text: v.Text}
		if v.Took == 0 {
			reason.Attempts = job.Attempts // it was not sent this time
		}
		switch err = job.Bury(ctx, reason); {
		case err == nil:
			p.dead.Add(1)
			p.logDead(job, reason)
		case v.Class == sendapi.ClassExpired && errors.Is(err, queue.ErrTaken):
			err = nil // another worker found it expired too, and says so
		}
	case Hold:
		p.hold(ctx, a, v, first)
		fallthrough
	case aside:
		err = job.Retry(ctx, job.Attempts, string(v.Class), p.beforeExpiry(job, p.aside(job, v)))
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

func (p *page) unsettled(job *queue.Delivery, outcome string, err error) {
	p.log.Error("job not settled, it will be delivered again", append(jobFields(job), zap.String("event", "unsettled"),
		zap.String("outcome", outcome), zap.Error(err))...)
}

// beforeExpiry keeps a delay from reaching past the job's expiry, so that an expired job is found to be so in time.
func (p *page) beforeExpiry(job *queue.Delivery, delay time.Duration) time.Duration {
	if job.Expire.IsZero() {
		return delay
	}
	return min(delay, max(job.Expire.Sub(p.w.cfg.Queue.Now()), 0)+time.Millisecond)
}

// putBack returns a job that was not begun.
func (p *page) putBack(ph phases, job *queue.Delivery) {
	if err := job.Release(ph.settle); err != nil {
		p.unsettled(job, "put back", err)
	}
}

func jobFields(job *queue.Delivery) []zapcore.Field {
	return []zapcore.Field{zap.String("id", job.ID), zap.String("lane", string(job.Lane))}
}

// TrackingFields are what a log line about the end of a message, or about a message in doubt, says of where it comes from:
// by the first three people find it in Braze. Where log has debug lines, the server's numbers of this delivery follow: by
// them engineers find it in what NATS says.
func TrackingFields(log *zap.Logger, job *queue.Delivery) []zapcore.Field {
	fields := []zapcore.Field{
		zap.String("campaign", job.Tracking.Campaign),
		zap.String("dispatch", job.Tracking.Dispatch),
		zap.String("user", job.Tracking.User),
	}
	if log.Core().Enabled(zap.DebugLevel) {
		fields = append(fields, zap.Uint64("stream_seq", job.StreamSeq), zap.Uint64("consumer_seq", job.ConsumerSeq),
			zap.Uint64("deliveries", job.Deliveries))
	}
	return fields
}

func (p *page) logDelivered(job *queue.Delivery, attempt int, v Verdict) {
	fields := append(jobFields(job), zap.String("event", "delivered"), zap.Int("attempt", attempt), zap.String("mid", v.MessageID),
		zap.Int64("send_ms", v.Took.Milliseconds()), p.age(job), zap.String("recipient", job.Recipient))
	fields = append(fields, TrackingFields(p.log, job)...)
	level := zap.InfoLevel
	if v.Class != "" { // delivered although Facebook answered with an error, or named no message
		fields = append(fields, zap.String("class", string(v.Class)), zap.Int("code", v.Code), zap.Int("subcode", v.Subcode))
		if v.Code == 0 {
			level = zap.WarnLevel
			fields = append(fields, zap.String("reason", v.Text))
		}
	}
	p.log.Log(level, "message delivered", fields...)
}

func (p *page) logRetry(job *queue.Delivery, attempt int, v Verdict, delay time.Duration) {
	p.log.Info("message will be tried again", append(jobFields(job), zap.String("event", "retry"), zap.Int("attempt", attempt),
		zap.String("class", string(v.Class)), zap.Int("code", v.Code), zap.Int("subcode", v.Subcode),
		zap.String("trace_id", v.TraceID), zap.Int64("delay_ms", delay.Milliseconds()), zap.String("reason", v.Text))...)
}

func (p *page) logDead(job *queue.Delivery, why queue.Reason) {
	fields := append(jobFields(job), zap.String("event", "dead"), zap.Int("attempts", why.Attempts),
		zap.String("class", why.Class), zap.Int("code", why.Code), zap.Int("subcode", why.Subcode),
		zap.String("trace_id", why.TraceID), p.age(job), zap.String("reason", why.Text))
	p.log.Warn("message is dead", append(fields, TrackingFields(p.log, job)...)...)
}

func (p *page) age(job *queue.Delivery) zapcore.Field {
	return zap.Int64("age_ms", p.w.cfg.Queue.Now().Sub(job.Accepted).Milliseconds())
}
