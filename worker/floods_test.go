package worker_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/brazier-relay/brazier/queue"
	"github.com/brazier-relay/brazier/sendapi"
	"github.com/brazier-relay/brazier/worker"
)

// Ten lines of a kind in a second are logged, of each kind, and the others are counted.
func TestFloods(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		core, logs := observer.New(zapcore.InfoLevel)
		f := worker.NewFloods(zap.New(core))
		kinds := []worker.LineKind{{Event: "dead", Class: "message", Code: 100}, {Event: "dead", Class: "recipient", Code: 551}, {Event: "retry", Page: "acme"}}
		allowed := map[worker.LineKind]int{}
		for range 3 { // seconds
			for _, kind := range kinds {
				for range 25 {
					if f.Allow(kind) {
						allowed[kind]++
					}
				}
			}
			time.Sleep(time.Second)
			synctest.Wait()
		}
		for _, kind := range kinds {
			if allowed[kind] != 30 {
				t.Errorf("%d lines of %v", allowed[kind], kind)
			}
			of := logs.FilterField(zap.String("event", "left_out")).FilterField(zap.String("of", kind.Event)).FilterField(zap.Int("code", kind.Code))
			if of.Len() != 3 || of.All()[0].ContextMap()["count"] != int64(15) || of.All()[0].Level != zap.WarnLevel {
				t.Errorf("left out of %v: %v", kind, of.All())
			}
		}
		for range 12 {
			f.Allow(kinds[2])
		}
		f.Flush()
		if lines := logs.All(); lines[len(lines)-1].ContextMap()["count"] != int64(2) || lines[len(lines)-1].ContextMap()["page"] != "acme" {
			t.Errorf("at the end: %v", lines[len(lines)-1])
		}
	})
}

// However many messages end of one cause, few lines say so; the counts add up, and the metrics count all.
func TestFloodOfDeadLetters(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	core, logs := observer.New(zapcore.InfoLevel)
	f.logs, f.log = logs, zap.New(core)
	const jobs = 60
	f.publish(acme, queue.Bulk, jobs)
	stop := f.start(func(context.Context, *queue.Delivery) worker.Verdict {
		return worker.Verdict{Outcome: worker.Dead, Class: sendapi.ClassRecipient, Code: 551, Took: time.Millisecond}
	}, worker.Config{})
	f.isEmpty(acme)
	stop()
	dead, leftOut := len(f.events("dead")), 0
	for _, line := range f.events("left_out") {
		has(t, line, "", map[string]any{"of": "dead", "page": "acme", "class": "recipient", "code": 551})
		leftOut += int(line["count"].(int64))
	}
	if dead+leftOut != jobs || leftOut == 0 {
		t.Errorf("%d lines and %d left out, of %d", dead, leftOut, jobs)
	}
}

// An attempt in doubt makes one line, whatever becomes of its message.
func TestInDoubtIsOneLine(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.publish(acme, queue.Bulk, 1)
	f.start(func(_ context.Context, job *queue.Delivery) worker.Verdict {
		v := worker.Verdict{Outcome: worker.Retry, Class: sendapi.ClassInDoubt, Text: "connection reset", Took: time.Millisecond, Delays: worker.Delays{First: time.Millisecond, Max: time.Millisecond}}
		if job.Attempts > 0 {
			v.Outcome = worker.Dead
		}
		return v
	}, worker.Config{})
	has(t, f.await("in_doubt", 1), "id page lane class code subcode fbtrace_id delay_ms campaign dispatch user stream_seq consumer_seq deliveries",
		map[string]any{"attempt": 1, "action": "resend", "cause": "connection reset", "reason": "connection reset"})
	has(t, f.await("dead", 1), "", map[string]any{"class": "in_doubt", "action": "park", "attempts": 2})
	if n, retries := len(f.events("in_doubt")), len(f.events("retry")); n != 1 || retries != 0 {
		t.Errorf("%d lines in_doubt, %d retry", n, retries)
	}
}
