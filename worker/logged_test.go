package worker_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/brazier-relay/brazier/queue"
	"github.com/brazier-relay/brazier/sendapi"
	"github.com/brazier-relay/brazier/worker"
)

// A page that has no token does not go on while its app is held and tried, and no line says that it does.
func TestPageWithoutTokenIsToldOnce(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	throttle := worker.Verdict{Outcome: worker.Hold, Class: sendapi.ClassThrottleApp, Code: 4, Delays: probes, Took: time.Millisecond}
	var healed atomic.Bool
	f.start(func(context.Context, *queue.Delivery) worker.Verdict {
		if healed.Load() {
			return delivered
		}
		return throttle
	}, worker.Config{SlowStart: time.Millisecond, Pages: []worker.Page{
		{ID: acme, Name: "acme", App: "shop", Rate: 1000},
		{ID: nordwind, Name: "nordwind", App: "shop", Rate: 1000, Credentials: func() (string, error) { return "", errors.New("no token file") }},
	}})
	about := func(event string) (n int) {
		for _, line := range f.events(event) {
			if line["page"] == "nordwind" {
				n++
			}
		}
		return n
	}
	eventually(t, "the page without a token is held", func() bool { return about("held") == 1 })
	f.publish(acme, queue.Bulk, 3)
	eventually(t, "the app is tried some times", func() bool { return len(f.events("held")) >= 6 })
	healed.Store(true)
	eventually(t, "all are delivered", func() bool { return len(f.events("delivered")) == 3 })
	if held, resumed := about("held"), about("resumed"); held != 1 || resumed != 0 {
		t.Errorf("the page without a token was logged as held %d times and as going on %d times", held, resumed)
	}
}
