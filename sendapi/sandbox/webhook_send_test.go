package sandbox

import (
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// Several events share a body if they wait, also those of several pages of an app; none is lost or comes twice.
func TestWebhookBatches(t *testing.T) {
	c := newCallback(t)
	r := start(t, Config{Pages: []Page{{ID: "10", Token: "x"}, {ID: "11", Token: "y"}}, Webhook: Webhook{Batch: 20, Parallel: 1}})
	r.hold(c.url, func() {
		r.write("1", Write{Page: "10", Persons: 25})
		r.write("1", Write{Page: "11", Persons: 25})
	})
	r.settled()
	bodies := c.received()
	if len(bodies) != 3 {
		t.Errorf("%d bodies, want 3", len(bodies))
	}
	got := map[string]int{}
	for _, e := range events(t, bodies) {
		got[e.Recipient.ID+" "+e.Sender.ID]++
	}
	if len(got) != 50 {
		t.Errorf("%d events, want 50: %v", len(got), got)
	}
	if d := r.Deliveries(0); !slices.Equal(d[1].Pages, []string{"10", "11"}) || d[1].Events != 20 {
		t.Errorf("%+v", d[1])
	}
}

// The events of a person arrive in order while deliveries succeed, although many are under way; with Shuffle they do not.
func TestWebhookOrder(t *testing.T) {
	for _, shuffle := range []bool{false, true} {
		c := newCallback(t)
		r := start(t, Config{Seed: 3, Pages: []Page{{ID: "10"}}, Webhook: Webhook{Shuffle: shuffle, Parallel: 8}})
		r.hold(c.url, func() { r.write("1", Write{Persons: 5, Times: 40}) })
		r.settled()
		last, disorder := map[string]int64{}, 0
		for _, e := range events(t, c.received()) {
			if e.Timestamp < last[e.Sender.ID] {
				disorder++
			}
			last[e.Sender.ID] = e.Timestamp
		}
		if (disorder > 0) != shuffle {
			t.Errorf("shuffle %v: %d events out of order", shuffle, disorder)
		}
	}
}

// No more than Parallel deliveries are under way, and none of a person twice.
func TestWebhookParallel(t *testing.T) {
	r, c := startHooked(t, Webhook{Parallel: 3, Timeout: time.Minute})
	var now, most atomic.Int64
	full := make(chan struct{})
	c.set(func(c *callback) {
		c.answer = func(n int, _ *http.Request) int {
			for k := now.Add(1); k > most.Load(); k = now.Load() {
				most.Store(k)
			}
			if n == 3 {
				close(full)
			}
			<-full // the first three are under way at the same time
			now.Add(-1)
			return 200
		}
	})
	r.write("1", Write{Persons: 30})
	r.settled()
	if most.Load() != 3 {
		t.Errorf("%d at the same time, want 3", most.Load())
	}
}

// A delivery that hangs holds up the events of its person alone.
func TestWebhookHangsForOnePerson(t *testing.T) {
	r, c := startHooked(t, Webhook{Parallel: 2, Timeout: time.Minute})
	others := make(chan struct{})
	c.set(func(c *callback) {
		c.answer = func(n int, _ *http.Request) int {
			switch n {
			case 1:
				<-others
			case 31:
				close(others)
			}
			return 200
		}
	})
	r.write("1", Write{Times: 10})
	r.write("2", Write{Persons: 10, Times: 3})
	if n := r.settled(); n.Delivered != 40 {
		t.Errorf("%+v", n)
	}
	last := map[string]int64{}
	for _, e := range events(t, c.received()) {
		if e.Timestamp < last[e.Sender.ID] {
			t.Errorf("out of order for person %s", e.Sender.ID)
		}
		last[e.Sender.ID] = e.Timestamp
	}
}

// Waiting events of a page that has lost its subscription are not sent.
func TestWebhookDropsWhatWaitsForUnsubscribed(t *testing.T) {
	c := newCallback(t)
	r := start(t, Config{Pages: []Page{{ID: "10", Token: "x"}, {ID: "11", Token: "y"}}})
	r.hold(c.url, func() {
		r.write("1", Write{Page: "10", Times: 5})
		r.write("1", Write{Page: "11", Times: 5})
		if err := r.Subscribe("10"); err != nil {
			t.Fatal(err)
		}
	})
	n := r.settled()
	if n.Unsubscribed != 5 || n.DeliveredEvents != 5 {
		t.Errorf("%+v", n)
	}
	for _, e := range events(t, c.received()) {
		if e.Recipient.ID != "11" {
			t.Errorf("sent for page %s", e.Recipient.ID)
		}
	}
}

// What is parked behind a delivery that hangs is not sent either.
func TestWebhookDropsWhatIsParkedForUnsubscribed(t *testing.T) {
	r, c := startHooked(t, Webhook{Timeout: time.Minute})
	arrived, end := make(chan struct{}), make(chan struct{})
	c.set(func(c *callback) {
		c.answer = func(int, *http.Request) int {
			close(arrived)
			<-end
			return 200
		}
	})
	r.write("1", Write{Times: 10})
	<-arrived
	if err := r.Subscribe("10"); err != nil {
		t.Fatal(err)
	}
	close(end)
	if n := r.settled(); n.Delivered != 1 || n.Unsubscribed != 9 || len(c.received()) != 1 {
		t.Errorf("%+v", n)
	}
}

// The record keeps the newest deliveries; a reset of it loses no event.
func TestWebhookRecord(t *testing.T) {
	r, c := startHooked(t, Webhook{})
	r.mu.Lock()
	for i := range uint64(maxDeliveries + 50) {
		r.hooks.keep(&Delivery{ID: i + 1})
	}
	r.mu.Unlock()
	all := r.Deliveries(0)
	if len(all) != maxDeliveries || all[0].ID != 51 || len(r.Deliveries(3)) != 3 || r.Deliveries(3)[2].ID != maxDeliveries+50 {
		t.Errorf("%d deliveries, the first with id %d", len(all), all[0].ID)
	}
	r.hold(c.url, func() {
		r.write("1", Write{Persons: 2})
		r.resetRecord()
		if n := r.WebhookCounts(); n != (WebhookCounts{Events: 2, Waiting: 2}) {
			t.Errorf("after the reset %+v", n)
		}
	})
	if n := r.settled(); n.Delivered != 2 || len(r.Deliveries(0)) != 2 {
		t.Errorf("%+v", n)
	}
}

// A new secret signs waiting events too, and the address of the webhook may change while it fails.
func TestWebhookChangesWhileItFails(t *testing.T) {
	r := start(t, Config{Pages: []Page{{ID: "10"}}, Webhook: Webhook{URL: "http://127.0.0.1:1/webhook", RetryEvery: time.Millisecond}})
	r.write("1", Write{Persons: 5})
	until(t, "some attempts", func() bool { return r.WebhookCounts().Failed > 10 })
	c := newCallback(t)
	c.secret = "fresh"
	if err := r.SetWebhook(within(t), Webhook{URL: c.url, RetryEvery: time.Millisecond, Apps: []App{{Name: "sandbox", Secret: "fresh"}}}); err != nil {
		t.Fatal(err)
	}
	if n := r.settled(); n.Delivered != 5 {
		t.Errorf("%+v", n)
	}
}

// Close neither hangs nor leaves a goroutine, whatever state deliveries are in.
func TestCloseUnderWebhooks(t *testing.T) {
	for i := range 10 {
		r, c := startHooked(t, Webhook{RetryEvery: time.Millisecond, Timeout: time.Minute})
		c.set(func(c *callback) {
			c.answer = func(n int, r *http.Request) int {
				if n%3 == 0 {
					<-r.Context().Done()
				}
				return []int{200, 500}[n%2]
			}
		})
		r.write("1", Write{Persons: 100, Times: 3})
		until(t, "some attempts", func() bool { return r.WebhookCounts().Attempts > i })
		if err := r.Close(); err != nil {
			t.Error(err)
		}
		if n := r.WebhookCounts(); n.Waiting == 0 || strings.Contains(r.Deliveries(1)[0].Error, "http") {
			t.Errorf("%+v", n)
		}
	}
}

// BenchmarkWebhook measures an event over real HTTP, server included.
func BenchmarkWebhook(b *testing.B) {
	url := serve(b, &http.Server{Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})})
	s, err := New(Config{Pages: []Page{{ID: "10"}}, Webhook: Webhook{URL: url}})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { s.Close() })
	b.ResetTimer()
	for left := b.N; left > 0; left -= maxWritten {
		if _, err := s.Write("1", Write{Persons: min(left, maxWritten)}); err != nil {
			b.Fatal(err)
		}
	}
	for s.WebhookCounts().Waiting > 0 {
		time.Sleep(time.Millisecond)
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
}
