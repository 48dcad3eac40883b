package sandbox

import (
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestRetryPause(t *testing.T) {
	var got []time.Duration
	for n := 1; n <= 8; n++ {
		got = append(got, retryPause(n, time.Minute))
	}
	want := []time.Duration{0, 0, 0, time.Minute, 2 * time.Minute, 4 * time.Minute, 8 * time.Minute, 16 * time.Minute}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	for n := range 200 {
		for _, every := range []time.Duration{1, time.Minute, maxDelay} {
			if p := retryPause(n, every); p < 0 || p > maxDelay {
				t.Fatalf("pause %s after %d attempts", p, n)
			}
		}
	}
}

// A body is repeated as it was until it is answered 200, whatever the other answers are.
func TestWebhookRepeats(t *testing.T) {
	r, c := startHooked(t, Webhook{RetryEvery: time.Millisecond, Timeout: time.Minute})
	statuses := []int{500, 400, 202, 204, 302, 200}
	c.set(func(c *callback) {
		c.answer = func(n int, _ *http.Request) int { return statuses[n-1] }
	})
	r.write("1", Write{Text: "again and again"})
	n := r.settled()
	want := WebhookCounts{Events: 1, Attempts: len(statuses), Failed: len(statuses) - 1, Delivered: 1, DeliveredEvents: 1}
	if diff := cmp.Diff(want, n); diff != "" {
		t.Error(diff)
	}
	bodies := c.received()
	if len(slices.Compact(bodies)) != 1 {
		t.Errorf("bodies differ: %q", bodies)
	}
	d := r.Deliveries(0)
	if len(d) != 1 || d[0].State != Delivered || d[0].Status != 200 || d[0].Attempts != len(statuses) || d[0].Error != "" ||
		d[0].Duration <= 0 || !slices.Equal(d[0].Pages, []string{"10"}) || d[0].Events != 1 {
		t.Errorf("%+v", d)
	}
}

// Why an attempt failed is in the record.
func TestWebhookFailuresInRecord(t *testing.T) {
	for _, tt := range []struct {
		name, want string
		answer     func(int, *http.Request) int
	}{
		{"status", "status", func(int, *http.Request) int { return 503 }},
		{"timeout", "timeout", func(_ int, r *http.Request) int { <-r.Context().Done(); return 200 }},
		{"no answer", "no answer", func(int, *http.Request) int { panic(http.ErrAbortHandler) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r, c := startHooked(t, Webhook{RetryEvery: time.Hour, Timeout: 5 * time.Second})
			if tt.name == "timeout" {
				if err := r.changeWebhook(within(t), func(h *Webhook) error { h.Timeout = 5 * time.Millisecond; return nil }); err != nil {
					t.Fatal(err)
				}
			}
			c.set(func(c *callback) { c.answer = tt.answer })
			r.write("1", Write{})
			until(t, "four attempts", func() bool { return r.WebhookCounts().Attempts == 1+immediateRetries })
			if d := r.Deliveries(1); d[0].Error != tt.want || d[0].State != Waiting || d[0].Attempts != 1+immediateRetries {
				t.Errorf("%+v", d[0])
			}
		})
	}
}

// After RetryFor of failures the page has lost its subscription and the events that waited are dropped; subscribed again, it gets webhooks.
func TestWebhookUnsubscribesAfterFailures(t *testing.T) {
	r, c := startHooked(t, Webhook{RetryEvery: time.Millisecond, RetryFor: 100 * time.Millisecond})
	c.set(func(c *callback) { c.answer = func(int, *http.Request) int { return 503 } })
	r.write("1", Write{})
	r.write("2", Write{Times: 3})
	n := r.settled()
	fields, err := r.Subscribed("10")
	if err != nil || len(fields) > 0 {
		t.Errorf("subscribed to %q, %v", fields, err)
	}
	if n.Disabled != 1 || n.Delivered != 0 || n.Dropped+n.Unsubscribed != 4 {
		t.Errorf("%+v", n)
	}
	if out := r.write("1", Write{}); out.Events != 0 || out.Unsubscribed != 1 {
		t.Errorf("written to a page without subscription: %+v", out)
	}
	c.set(func(c *callback) { c.answer = nil })
	if err := r.Subscribe("10", "messages"); err != nil {
		t.Fatal(err)
	}
	r.write("1", Write{})
	if n := r.settled(); n.Delivered != 1 {
		t.Errorf("after the new subscription: %+v", n)
	}
}

// An event that fails alone is dropped, and costs neither its page's subscription nor that of others.
func TestWebhookDropsOneEvent(t *testing.T) {
	s := newSandbox(Config{Webhook: Webhook{RetryEvery: time.Minute, RetryFor: time.Hour, URL: "x", Batch: 1, Parallel: 9}})
	now := time.Duration(0)
	s.clock = func() time.Duration { return now }
	s.mu.Lock()
	p := s.addPage(Page{ID: "10", Token: "x"})
	s.mu.Unlock()
	write := func(psid string) { s.enqueue(hookEvent{page: p, pageID: "10", psid: psid, json: "{}"}) }
	write("1")
	attempts := 0
	for s.WebhookCounts().Waiting > 0 {
		b, wait := s.nextBody()
		switch {
		case b == nil:
			now += wait
		case b.events[0].psid == "1":
			attempts++
			s.settle(b, 400, nil, 0)
			write("2")
		default:
			s.settle(b, 200, nil, 0)
		}
	}
	// At 0, 0, 0, 0, 1, 3, 7, 15, 31 and 60 min.
	if first := s.Deliveries(0)[0]; attempts != 10 || now != time.Hour || first.State != Dropped || first.Attempts != 10 {
		t.Errorf("%d attempts in %s: %+v", attempts, now, first)
	}
	// Long after, a new failure is the beginning of a new hour.
	now += 24 * time.Hour
	write("3")
	b, _ := s.nextBody()
	s.settle(b, 500, nil, 0)
	if len(p.fields) == 0 || s.WebhookCounts().Disabled != 0 {
		t.Error("the page has lost its subscription")
	}
}

// An hour of failures across events ends the subscription, at the first event whose hour is over.
func TestWebhookHourOfFailures(t *testing.T) {
	s := newSandbox(Config{Webhook: Webhook{RetryEvery: time.Minute, RetryFor: time.Hour, URL: "x", Batch: 1, Parallel: 9}})
	now := time.Duration(0)
	s.clock = func() time.Duration { return now }
	s.mu.Lock()
	p := s.addPage(Page{ID: "10", Token: "x"})
	s.mu.Unlock()
	for i := range 3 {
		s.enqueue(hookEvent{page: p, pageID: "10", psid: string(rune('1' + i)), json: "{}"})
	}
	for end := time.Duration(0); s.WebhookCounts().Waiting > 0; {
		b, wait := s.nextBody()
		switch {
		case b != nil:
			if len(p.fields) == 0 {
				t.Fatalf("an attempt at %s for a page without subscription", now)
			}
			s.settle(b, 0, http.ErrHandlerTimeout, 0)
			end = now
		case wait < 0 && s.WebhookCounts().Waiting > 0:
			t.Fatalf("nothing to wait for at %s", now)
		default:
			now += max(wait, 0)
		}
		if end > time.Hour {
			t.Fatalf("still trying at %s", end)
		}
	}
	n := s.WebhookCounts()
	if now != time.Hour || n.Disabled != 1 || n.Dropped != 3 || n.Attempts != 28 {
		t.Errorf("at %s: %+v", now, n)
	}
}
