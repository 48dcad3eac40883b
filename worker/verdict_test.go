package worker_test

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/brazier-relay/brazier/queue"
	"github.com/brazier-relay/brazier/sendapi"
	"github.com/brazier-relay/brazier/worker"
)

func TestVerdicts(t *testing.T) {
	t.Parallel()
	soon := worker.Delays{First: 10 * time.Millisecond, Max: 20 * time.Millisecond}
	wrong := worker.Verdict{Outcome: worker.Dead, Class: sendapi.ClassMessage, Code: 100, Subcode: 2018001, TraceID: "trace", Text: "why", Took: time.Millisecond}
	again := worker.Verdict{Outcome: worker.Retry, Class: sendapi.ClassTransient, Code: 2, Delays: soon, MaxAttempts: 3, Took: time.Millisecond}

	t.Run("delivered", func(t *testing.T) {
		t.Parallel()
		f := newFixture(t)
		core, logs := observer.New(zapcore.InfoLevel)
		f.logs, f.log = logs, zap.New(core)
		ids := f.publish(acme, queue.Bulk, 1)
		f.start(func(context.Context, *queue.Delivery) worker.Verdict { return delivered }, worker.Config{})
		line := f.await("delivered", 1)
		has(t, line, "id page lane attempt mid send_ms age_ms campaign dispatch user recipient",
			map[string]any{"id": ids[0], "page": "acme", "lane": "bulk", "attempt": 1, "mid": "m_1", "campaign": "c", "recipient": "…0001"})
		if _, ok := line["stream_seq"]; ok {
			t.Errorf("the server's numbers stand in a line at info level: %v", line)
		}
		f.isEmpty(acme)
	})
	t.Run("delivered, at debug level", func(t *testing.T) {
		t.Parallel()
		f := newFixture(t)
		f.publish(acme, queue.Bulk, 1)
		f.start(func(context.Context, *queue.Delivery) worker.Verdict { return delivered }, worker.Config{})
		has(t, f.await("delivered", 1), "stream_seq", map[string]any{"consumer_seq": 1, "deliveries": 1})
	})
	t.Run("delivered, and the answer names no message", func(t *testing.T) {
		t.Parallel()
		f := newFixture(t)
		f.publish(acme, queue.Bulk, 1)
		f.start(func(context.Context, *queue.Delivery) worker.Verdict {
			return worker.Verdict{Outcome: worker.Delivered, Class: sendapi.ClassDeliveredAnyway, Text: "why", Took: time.Millisecond}
		}, worker.Config{})
		has(t, f.await("delivered", 1), "", map[string]any{"class": "delivered_anyway", "code": 0, "reason": "why"})
		if level := f.logs.FilterField(zap.String("event", "delivered")).All()[0].Level; level != zapcore.WarnLevel {
			t.Errorf("it is logged at level %s", level)
		}
		f.isEmpty(acme)
	})
	t.Run("dead", func(t *testing.T) {
		t.Parallel()
		f := newFixture(t)
		f.publish(acme, queue.Urgent, 1)
		f.start(func(context.Context, *queue.Delivery) worker.Verdict { return wrong }, worker.Config{})
		has(t, f.await("dead", 1), "id page lane attempts class code subcode fbtrace_id age_ms campaign dispatch user",
			map[string]any{"attempts": 1, "class": "message", "code": 100, "subcode": 2018001, "fbtrace_id": "trace"})
		f.isEmpty(acme)
		if b, err := f.q.Backlog(t.Context(), acme); err != nil || b.Dead != 1 {
			t.Errorf("backlog %+v, error %v", b, err)
		}
	})
	t.Run("retried, then dead", func(t *testing.T) {
		t.Parallel()
		f := newFixture(t)
		f.publish(acme, queue.Bulk, 1)
		var attempts atomic.Int64
		f.start(func(_ context.Context, job *queue.Delivery) worker.Verdict {
			if n := attempts.Add(1); job.InDoubt || job.Attempts != int(n)-1 {
				t.Errorf("call %d has attempts %d, in doubt %v", n, job.Attempts, job.InDoubt)
			}
			return again
		}, worker.Config{})
		has(t, f.await("dead", 1), "", map[string]any{"attempts": 3, "class": "transient"})
		has(t, f.await("retry", 2), "id page lane attempt class code subcode fbtrace_id delay_ms", map[string]any{"attempt": 2})
		if attempts.Load() != 3 {
			t.Errorf("%d attempts", attempts.Load())
		}
		f.isEmpty(acme)
	})
	t.Run("each class has its own bound", func(t *testing.T) {
		t.Parallel()
		f := newFixture(t)
		f.publish(acme, queue.Bulk, 1)
		thread := worker.Verdict{Outcome: worker.Retry, Class: sendapi.ClassThread, Delays: soon, MaxAttempts: 3, Took: time.Millisecond}
		endless := worker.Verdict{Outcome: worker.Retry, Class: sendapi.ClassTransient, Delays: soon, Took: time.Millisecond}
		verdicts := []worker.Verdict{endless, endless, thread, endless, endless, thread, endless, thread}
		f.start(func(_ context.Context, job *queue.Delivery) worker.Verdict {
			return verdicts[min(job.Attempts, len(verdicts)-1)]
		}, worker.Config{})
		has(t, f.await("dead", 1), "", map[string]any{"attempts": len(verdicts), "class": "thread"})
		f.await("retry", len(verdicts)-1)
		f.isEmpty(acme)
	})
	t.Run("expired", func(t *testing.T) {
		t.Parallel()
		f := newFixture(t)
		j := &queue.Job{ID: queue.NewID(), Page: acme, Lane: queue.Bulk, Accepted: time.Now().Add(-time.Hour), Expire: time.Now().Add(-time.Minute), Body: []byte(`{}`)}
		if _, err := f.q.Publish(t.Context(), j); err != nil {
			t.Fatal(err)
		}
		f.start(func(context.Context, *queue.Delivery) worker.Verdict {
			t.Error("an expired job was handled")
			return delivered
		}, worker.Config{})
		has(t, f.await("dead", 1), "", map[string]any{"class": "expired", "attempts": 0})
		f.isEmpty(acme)
	})
	t.Run("panic", func(t *testing.T) {
		t.Parallel()
		f := newFixture(t)
		f.publish(acme, queue.Bulk, 1)
		var calls atomic.Int64
		f.start(func(context.Context, *queue.Delivery) worker.Verdict {
			if calls.Add(1) == 1 {
				panic("a message text")
			}
			return delivered
		}, worker.Config{})
		has(t, f.await("delivered", 1), "", map[string]any{"attempt": 2})
		line := f.await("panic", 1)
		if !strings.Contains(fmt.Sprint(line["stack"]), "verdict_test.go") || strings.Contains(fmt.Sprint(line), "a message text") {
			t.Errorf("panic line: %v", line)
		}
	})
	t.Run("no verdict", func(t *testing.T) {
		t.Parallel()
		f := newFixture(t)
		f.publish(acme, queue.Bulk, 1)
		f.start(func(context.Context, *queue.Delivery) worker.Verdict { return worker.Verdict{} }, worker.Config{})
		f.await("no_verdict", 1)
		if b, err := f.q.Backlog(t.Context(), acme); err != nil || b.Pending != 1 {
			t.Errorf("backlog %+v, error %v", b, err)
		}
	})
}
