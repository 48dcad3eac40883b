package worker_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/brazier-relay/brazier/queue"
	"github.com/brazier-relay/brazier/sendapi"
	"github.com/brazier-relay/brazier/worker"
)

// A message keeps the calls that did not deliver it, counted or not, and no verdict that was reached without a call.
func TestTries(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	soon := worker.Delays{First: time.Millisecond, Max: time.Millisecond}
	verdicts := []worker.Verdict{
		{Outcome: worker.Retry, Class: sendapi.ClassTransient, Code: 2, TraceID: "A", Took: time.Millisecond, Delays: soon},
		{Outcome: worker.Retry, Class: sendapi.ClassTransient, Delays: soon},
		{Outcome: worker.Hold, Class: sendapi.ClassThrottle, Code: 613, TraceID: "B", Took: 2 * time.Millisecond, Delays: soon},
		{Outcome: worker.Dead, Class: sendapi.ClassRecipient, Code: 551, Subcode: 1545041, TraceID: "C", Took: 3 * time.Millisecond},
	}
	began := f.q.Now().Add(-time.Second) // the server's time is known to half a round trip
	f.publish(acme, queue.Bulk, 1)
	f.start(func(context.Context, *queue.Delivery) worker.Verdict {
		v := verdicts[0]
		verdicts = verdicts[1:]
		return v
	}, worker.Config{})
	f.await("dead", 1)
	for l, err := range f.q.DeadLetters(t.Context(), queue.DeadLetterFilter{}, false) {
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, try := range l.Tries.Kept {
			if try.At.Before(began) || try.At.After(l.Died.Add(time.Second)) {
				t.Errorf("a call at %v, between %v and %v", try.At, began, l.Died)
			}
			got = append(got, fmt.Sprint(try.Class, " ", try.Code, " ", try.Subcode, " ", try.TraceID, " ", try.Took))
		}
		if want := "transient 2 0 A 1ms; throttle 613 0 B 2ms; recipient 551 1545041 C 3ms"; strings.Join(got, "; ") != want || l.Tries.LeftOut != 0 {
			t.Errorf("tries %q, left out %d; want %q", got, l.Tries.LeftOut, want)
		}
	}
}
