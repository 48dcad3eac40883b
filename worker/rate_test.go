package worker

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/brazier-relay/brazier/queue"
	"github.com/brazier-relay/brazier/queue/queuetest"
	"github.com/brazier-relay/brazier/sendapi"
)

// A page goes slower as Facebook says that its limits are near, and forgets what Facebook reported long ago.
func TestUsageFactor(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name     string
		reported []sendapi.Usage
		ago      time.Duration // since the last
		want     float64
	}{
		{name: "nothing reported", want: 1},
		{name: "far from it", reported: []sendapi.Usage{{Page: 50}}, want: 1},
		{name: "at the mark", reported: []sendapi.Usage{{Page: 75}}, want: 1},
		{name: "above it", reported: []sendapi.Usage{{Page: 80}}, want: 0.82},
		{name: "the app counts too", reported: []sendapi.Usage{{Page: 10, App: 90}}, want: 0.46},
		{name: "used up", reported: []sendapi.Usage{{Page: 100}}, want: 0.1},
		{name: "over", reported: []sendapi.Usage{{Page: 125}}, want: 0.1},
		{name: "less by now", reported: []sendapi.Usage{{Page: 100}, {Page: 60}}, want: 1},
		{name: "an answer without headers says nothing", reported: []sendapi.Usage{{Page: 100}, {}}, want: 0.1},
		{name: "a minute ago", reported: []sendapi.Usage{{Page: 100}}, ago: usageFor, want: 0.1},
		{name: "longer ago", reported: []sendapi.Usage{{Page: 100}}, ago: usageFor + 1, want: 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var u usage
				for _, reported := range c.reported {
					u.note(reported)
				}
				<-time.After(c.ago)
				if got := u.factor(); got < c.want-1e-9 || got > c.want+1e-9 {
					t.Errorf("the factor is %v, want %v", got, c.want)
				}
			})
		})
	}
}

// After a hold the rate grows from a tenth to all of it, and the lower of two reasons counts.
func TestRateInForce(t *testing.T) {
	t.Parallel()
	h := handlerFunc(func(context.Context, *queue.Delivery) Verdict { return Verdict{} })
	// An hour, so that what the test itself takes does not matter.
	w, err := New(Config{Queue: queuetest.New(t), SlowStart: time.Hour, Pages: []Page{{ID: "1029384756", Handler: h}}})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name  string
		since time.Duration // it was resumed; 0: it was not
		usage int
		rate  float64 // of 100
		why   string
	}{
		{"never held", 0, 0, 100, ""},
		{"at once", time.Second, 0, 10, whySlowStart},
		{"after a quarter", 15 * time.Minute, 0, 25, whySlowStart},
		{"after a half", 30 * time.Minute, 0, 50, whySlowStart},
		{"after all of it", time.Hour, 0, 100, ""},
		{"long after", 48 * time.Hour, 0, 100, ""},
		{"usage", 0, 90, 46, whyUsage},
		{"usage is the lower", 30 * time.Minute, 100, 10, whyUsage},
		{"slow start is the lower", 15 * time.Minute, 80, 25, whySlowStart},
	} {
		w.states = map[string]*shared{}
		p := newPage(w, w.pages["1029384756"].Page)
		p.usage.note(sendapi.Usage{Page: c.usage})
		if c.since > 0 {
			p.own.state.Resumed = w.cfg.Queue.Now().Add(-c.since)
		}
		if rate, why := p.inForce(100); rate < c.rate-0.5 || rate > c.rate+1 || why != c.why {
			t.Errorf("%s: %v calls a second because of %q, want %v because of %q", c.name, rate, why, c.rate, c.why)
		}
		p.end()
	}
}

// Pages that are slowed are told by id, and no others.
func TestSlowed(t *testing.T) {
	t.Parallel()
	h := handlerFunc(func(context.Context, *queue.Delivery) Verdict { return Verdict{} })
	w, err := New(Config{Queue: queuetest.New(t), Pages: []Page{{ID: "1029384756", Handler: h, Rate: 100}, {ID: "5647382910", Handler: h}}})
	if err != nil {
		t.Fatal(err)
	}
	w.pages["1029384756"].usage.note(sendapi.Usage{Page: 100})
	if got := w.Slowed(); len(got) != 1 || got["1029384756"].Why != whyUsage || got["1029384756"].Rate < 9.5 || got["1029384756"].Rate > 10.5 {
		t.Errorf("slowed: %v", got)
	}
}
