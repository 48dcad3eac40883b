package capture_test

import (
	"sync"
	"testing"
	"time"

	"github.com/brazier-relay/brazier/queue"
	"github.com/brazier-relay/brazier/sendapi/webhook"
	"github.com/brazier-relay/brazier/worker"
	"github.com/brazier-relay/brazier/worker/capture"
)

// atOnce handles events at the same time, as several workers do.
func (f *fixture) atOnce(events ...webhook.Event) {
	f.t.Helper()
	var deliveries []*queue.Delivery
	for _, e := range events {
		deliveries = append(deliveries, f.store(e))
	}
	var handling sync.WaitGroup
	for _, d := range deliveries {
		handling.Go(func() {
			if v := f.handler.Handle(within(f.t, 60*time.Second), d); v.Outcome != worker.Delivered {
				f.t.Errorf("got %+v", v)
			}
		})
	}
	handling.Wait()
}

// Receipts that come again, with another time since they have none of their own, are taken in at the same time and tell of a message
// once.
func TestReceiptsAtOnce(t *testing.T) {
	t.Parallel()
	f, braze := newFixture(t, only(capture.EventRead)), profiles{}
	f.end(message("A1", "7001", ada), sentBy("mid.1", start))
	var events []webhook.Event
	for i := range 16 {
		e := receipt(webhook.KindRead, "7001", start)
		e.At = start.Add(time.Duration(i) * time.Second)
		events = append(events, e)
	}
	f.atOnce(events...)
	f.send(braze)
	equal(t, "events", braze.events(ada), []string{"m_read A1 mid.1"})
}

// A person who follows one link several times at the same time is linked once.
func TestLinkedAtOnce(t *testing.T) {
	t.Parallel()
	f, braze := newFixture(t, only(capture.EventLinked)), profiles{}
	ref := reference(t, ada, start.Add(-time.Hour))
	var events []webhook.Event
	for i := range 16 {
		events = append(events, contact("7001", start.Add(time.Duration(i)*time.Second), ref))
	}
	f.atOnce(events...)
	f.send(braze)
	equal(t, "events", braze.events(ada), []string{"m_linked braze_id"})
	equal(t, "messenger_id", braze[ada]["messenger_id"], "7001")
}

// A watermark is by Facebook's clock, and may be a little behind the time of the call.
func TestClocksThatDiffer(t *testing.T) {
	t.Parallel()
	f, braze := newFixture(t, only(capture.EventDelivered, capture.EventRead)), profiles{}
	f.end(message("A1", "7001", ada), sentBy("mid.1", start))
	f.end(message("A2", "7001", ada), sentBy("mid.2", start.Add(time.Minute)))
	f.capture(receipt(webhook.KindDelivery, "7001", start.Add(-time.Second)), receipt(webhook.KindRead, "7001", start.Add(-time.Second)))
	f.send(braze)
	equal(t, "events", braze.events(ada), []string{"m_delivered A1 mid.1", "m_read A1 mid.1"})
}

// A worker that is killed on the way tells of a link when it gets the event again, and after that no more.
func TestLinkedByAnotherWorker(t *testing.T) {
	t.Parallel()
	for n := range 3 { // of two entries; 2: after them
		f, braze := newFixture(t, only(capture.EventLinked, capture.EventInbound)), profiles{}
		d := f.store(contact("7001", start, reference(t, ada, start.Add(-time.Hour))))
		capture.KillBefore(f.handler, n)
		if v := f.handler.Handle(t.Context(), d); v.Outcome != worker.Retry {
			t.Fatalf("%+v", v)
		}
		capture.KillBefore(f.handler, -1)
		for range 2 {
			if v := f.handler.Handle(t.Context(), d); v.Outcome != worker.Delivered {
				t.Fatalf("%+v", v)
			}
		}
		f.send(braze)
		equal(t, "events", braze.events(ada), []string{"m_inbound message", "m_linked braze_id"})
		equal(t, "messenger_id", braze[ada]["messenger_id"], "7001")
	}
}
