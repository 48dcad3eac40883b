package queue

import (
	"context"
	"sync"
	"time"

	"go.uber.org/zap"
)

// Counting in memory. See campaigns.go.
const (
	// countEvery is how often counts are written, and so how many seconds' worth a process that is killed loses. Each write is
	// a batch, which costs the server about a millisecond and one flush.
	countEvery = time.Second
	// countAtEnd is how long [Queue.Close] waits for the last write.
	countAtEnd = time.Second
	// maxCounts bounds the counters that wait to be written, some 200 bytes each, and those of one write that failed. They
	// are that many only while the server is away: a busy process changes some hundred counters a second.
	maxCounts = 10_000
	// maxDispatches is how many dispatches of a campaign and day a process counts apart; it counts the others together. A
	// scheduled campaign has one dispatch for everybody, a triggered one may have one per person, which would fill the stream.
	maxDispatches = 20
	// maxCampaignDays is for how many campaigns and days a process knows the dispatches that it counts apart. Beyond it, it
	// forgets them all, and counts as many again.
	maxCampaignDays = 1000
	// countDelayRefused is how long no write is tried after one that this user may not make.
	countDelayRefused = time.Minute
)

// campaignDay is a campaign, and a day on which messages of it were accepted.
type campaignDay struct {
	campaign string
	day      day
}

// counters adds up in memory what becomes of messages. One goroutine writes.
type counters struct {
	q    *Queue
	name string // of this process, in the ids of batches

	begin  sync.Once
	ctx    context.Context // of the goroutine
	cancel context.CancelFunc
	done   chan struct{}

	mu         sync.Mutex
	off        bool // nothing is counted
	sums       map[countKey]int64
	dispatches map[campaignDay]map[string]string // that are counted apart, with their tokens
	full       bool                              // that counts were dropped is logged
	fault      error                             // why the stream cannot be used, as the last look at it found

	// Of the goroutine alone:
	batches   int // that were made
	pending   []countBatch
	notBefore time.Time // of the next write
	failing   time.Time // since when writes fail, zero: the last one succeeded
	told      bool      // the log tells that writes fail
}

func newCounters(q *Queue) *counters {
	c := &counters{q: q, name: NewID(), done: make(chan struct{}), sums: map[countKey]int64{}, dispatches: map[campaignDay]map[string]string{}}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	return c
}

// add counts one more of something that happened to a job of a campaign.
func (c *counters) add(j *Job, page, counter string) {
	campaign := campaignOf(j)
	if campaign == "" {
		return
	}
	accepted := dayOf(j.Accepted)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.off {
		return
	}
	c.begin.Do(func() { go c.run() })
	key := countKey{campaign, accepted, c.dispatch(campaignDay{campaign, accepted}, j.Tracking.Dispatch), page, counter}
	if n, known := c.sums[key]; known || len(c.sums) < maxCounts {
		c.sums[key] = n + 1
		return
	}
	if !c.full {
		c.full = true
		c.q.log.Warn("counts of campaigns are dropped, since they could not be written for too long", zap.String("event", "campaign_counts_lost"),
			zap.Int("waiting", len(c.sums)))
	}
}

// dispatch returns the token under which a dispatch is counted. c.mu is held.
func (c *counters) dispatch(of campaignDay, id string) string {
	if id == "" {
		return noDispatch
	}
	apart := c.dispatches[of]
	if known, ok := apart[id]; ok {
		return known
	}
	if len(apart) >= maxDispatches {
		return otherDispatches
	}
	if apart == nil {
		if len(c.dispatches) >= maxCampaignDays {
			clear(c.dispatches)
		}
		apart = make(map[string]string)
		c.dispatches[of] = apart
	}
	apart[id] = token(id)
	return apart[id]
}

// take returns what was added up, and begins anew.
func (c *counters) take() map[countKey]int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.sums) == 0 {
		return nil
	}
	sums := c.sums
	c.sums = make(map[countKey]int64, len(sums))
	return sums
}

// run writes until close.
func (c *counters) run() {
	defer close(c.done)
	every := time.NewTicker(countEvery)
	defer every.Stop()
	for {
		select {
		case <-every.C:
			c.write(c.ctx)
		case <-c.ctx.Done():
			ctx, cancel := context.WithTimeout(context.Background(), countAtEnd)
			defer cancel()
			if c.write(ctx) { // what was under way, and what was added since
				c.write(ctx)
			}
			return
		}
	}
}

// close writes what is left, if the server takes it.
func (c *counters) close() {
	c.cancel()
	c.begin.Do(func() { close(c.done) })
	<-c.done
}
