package worker_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/brazier-relay/brazier/queue"
	"github.com/brazier-relay/brazier/sendapi"
	"github.com/brazier-relay/brazier/worker"
)

// Whoever is told how a job ends is told before the queue is: the job and nothing about its end is stored until then.
func TestEnded(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	ids := f.publish(acme, queue.Bulk, 3)
	refused := worker.Verdict{Outcome: worker.Dead, Class: sendapi.ClassRecipient, Code: 551, Text: "blocked", Took: time.Millisecond}
	later := worker.Verdict{Outcome: worker.Retry, Class: sendapi.ClassTransient, Took: time.Millisecond}
	var mu sync.Mutex
	told, tries := map[string]worker.End{}, map[string]int{}
	f.start(handler(func(_ context.Context, job *queue.Delivery) worker.Verdict {
		mu.Lock()
		defer mu.Unlock()
		tries[job.ID]++
		switch {
		case job.ID == ids[0]:
			return refused
		case job.ID == ids[1] && tries[job.ID] == 1: // not an end
			return later
		}
		return delivered
	}), worker.Config{Ended: func(ctx context.Context, job *queue.Delivery, end worker.End) {
		mu.Lock()
		defer mu.Unlock()
		if _, twice := told[job.ID]; twice {
			t.Errorf("told twice of the end of %s", job.ID)
		}
		told[job.ID] = end
		stored, err := f.q.CountJobs(ctx, acme, func(j *queue.Job) bool { return j.ID == job.ID })
		if err != nil || stored != 1 {
			t.Errorf("%d jobs are stored with the id of one that is about to end, %v", stored, err)
		}
		for l, err := range f.q.DeadLetters(ctx, queue.DeadLetterFilter{Page: acme}, false) {
			if err != nil || l.ID == job.ID {
				t.Errorf("the dead letter is stored already: %v", err)
			}
		}
	}})
	f.isEmpty(acme)
	mu.Lock()
	defer mu.Unlock()
	if end := told[ids[0]]; end.Delivered || end.Reason.Class != "recipient" || end.Reason.Code != 551 || end.Reason.Attempts != 1 {
		t.Errorf("the end of the dead one: %+v", end)
	}
	for _, id := range ids[1:] {
		if end := told[id]; !end.Delivered || end.MessageID != "m_1" || time.Since(end.Begun).Abs() > time.Hour {
			t.Errorf("the end of a delivered one: %+v", end)
		}
	}
}
