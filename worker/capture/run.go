package capture

import (
	"context"
	"fmt"
	"runtime/debug"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/brazier-relay/brazier/queue"
	"github.com/brazier-relay/brazier/worker"
)

const (
	// atOnce is how many events are captured at a time: each waits for the queue some three times, and what is published together is
	// flushed together.
	atOnce = 64
	// fetched is how many are asked for at a time.
	fetched = 64
	// drain is how long events in flight may go on after the end, in the worker's budget for its shutdown.
	drain = 5 * time.Second
)

// Run captures the events of all pages until ctx ends, and returns when none is in flight any more.
func (h *Handler) Run(ctx context.Context) error {
	settle, cut := context.WithCancel(context.WithoutCancel(ctx))
	defer cut()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(drain, cut) })()
	jobs := make(chan *queue.Delivery)
	var running sync.WaitGroup
	for range atOnce {
		running.Go(func() {
			for job := range jobs {
				h.settle(settle, job, h.handle(settle, job))
			}
		})
	}
	var feeding sync.WaitGroup
	for _, lane := range []queue.Lane{queue.Events, queue.Outcomes} {
		feeding.Go(func() { worker.Feed(ctx, settle, h.q, queue.AllPages, lane, fetched, h.log, jobs) })
	}
	feeding.Wait()
	close(jobs)
	running.Wait()
	h.floods.Flush()
	return nil
}

// handle captures an event. What panics is tried again, and is a dead letter after some attempts.
func (h *Handler) handle(ctx context.Context, job *queue.Delivery) (v worker.Verdict) {
	defer func() {
		if r := recover(); r != nil {
			h.log.Error("handler panicked", zap.String("event", "panic"), zap.String("id", job.ID), zap.String("lane", string(job.Lane)),
				zap.String("cause", fmt.Sprintf("%T", r)), zap.ByteString("stack", debug.Stack()))
			v = h.later("the handler panicked")
			if job.Attempts >= maxPanics {
				v = worker.Verdict{Outcome: worker.Dead, Class: ClassUnreadable, Text: "the handler panicked again and again"}
			}
		}
	}()
	return h.Handle(ctx, job)
}

// maxPanics is how often an event is tried again that makes the handler panic.
const maxPanics = 5

func (h *Handler) settle(ctx context.Context, job *queue.Delivery, v worker.Verdict) {
	var err error
	switch {
	case v.Outcome == worker.Delivered:
		err = job.Done(ctx)
	case v.Outcome == worker.Dead:
		if h.floods.Allow(worker.LineKind{Event: "event_dead", Class: string(v.Class)}) {
			h.log.Error("event cannot be captured", zap.String("event", "event_dead"), zap.String("id", job.ID), zap.String("page_id", job.Page),
				zap.String("class", string(v.Class)), zap.String("reason", v.Text))
		}
		err = job.DeadLetter(ctx, queue.Reason{Class: string(v.Class), Attempts: job.Attempts + 1, Text: v.Text})
	case ctx.Err() != nil: // this process ends
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		err = job.Release(last)
	default:
		delay := v.Delays.Next(job.Attempts + 1)
		if h.floods.Allow(worker.LineKind{Event: "event_retry", Class: string(v.Class)}) {
			h.log.Warn("event will be captured later", zap.String("event", "event_retry"), zap.String("id", job.ID), zap.String("page_id", job.Page),
				zap.Int("attempt", job.Attempts+1), zap.Int64("delay_ms", delay.Milliseconds()), zap.String("reason", v.Text))
		}
		err = job.Retry(ctx, job.Attempts+1, string(v.Class), delay)
	}
	if err != nil && h.floods.Allow(worker.LineKind{Event: "unsettled"}) {
		h.log.Error("job not settled, it will be delivered again", zap.String("event", "unsettled"), zap.String("id", job.ID),
			zap.String("lane", string(job.Lane)), zap.Error(err))
	}
}
