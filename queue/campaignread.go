package queue

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/synadia-io/orbit.go/jetstreamext"
)

// CampaignFilter selects what [Queue.Campaign] returns.
type CampaignFilter struct {
	// Dispatch is the id of one dispatch. Empty: all.
	Dispatch string
	// Since is a time: messages count that were accepted on its day, in UTC, or later. Zero: all that are kept, 30 days.
	Since time.Time
}

// CampaignTally is numbers of messages.
type CampaignTally struct {
	Accepted   int64 // stored, each once
	Duplicates int64 // requests that were answered as duplicates, and stored nothing
	Delivered  int64
	Discarded  int64            // removed while they waited
	InDoubt    int64            // attempts that ended in doubt and were requeued
	Dead       map[string]int64 // dead letters, by class, those that were replayed included
	Replayed   map[string]int64 // dead letters that were requeued, by class
}

// Failed returns the dead letters of a class that were not replayed.
func (t *CampaignTally) Failed(class string) int64 { return max(t.Dead[class]-t.Replayed[class], 0) }

// AllFailed is Failed of all classes together.
func (t *CampaignTally) AllFailed() (n int64) {
	for class := range t.Dead {
		n += t.Failed(class)
	}
	return n
}

// Waiting returns how many messages are neither delivered nor failed. It is off by what processes that were killed had
// counted in their last second.
func (t *CampaignTally) Waiting() int64 {
	return max(t.Accepted-t.Delivered-t.Discarded-t.AllFailed(), 0)
}

func (t *CampaignTally) add(counter string, n int64) {
	if class, ok := strings.CutPrefix(counter, countDead); ok {
		t.Dead = plus(t.Dead, class, n)
		return
	}
	if class, ok := strings.CutPrefix(counter, countReplayed); ok {
		t.Replayed = plus(t.Replayed, class, n)
		return
	}
	switch counter { // a later version may have more
	case countAccepted:
		t.Accepted += n
	case countDuplicate:
		t.Duplicates += n
	case countDelivered:
		t.Delivered += n
	case countDiscarded:
		t.Discarded += n
	case countDoubt:
		t.InDoubt += n
	}
}

func plus(numbers map[string]int64, key string, n int64) map[string]int64 {
	if numbers == nil {
		numbers = make(map[string]int64)
	}
	numbers[key] += n
	return numbers
}

// CampaignCounts is what became of the messages of a campaign. Processes write what they count once a second.
type CampaignCounts struct {
	CampaignTally
	Pages map[string]*CampaignTally // by the page's Facebook id
	// P50 and P99 are the times within which half and 99 % of the delivered messages came, from when the ingress accepted
	// each, to within 30 %. A message that was replayed counts from when it was first accepted.
	P50, P99 time.Duration
	// Others says that some dispatches were not counted apart, since the campaign had too many on one day: what is counted
	// of one dispatch may be incomplete.
	Others bool
}

var (
	// ErrNoCampaign says that nothing was counted under a campaign's id in the last 30 days, or nothing that the filter takes.
	ErrNoCampaign = errors.New("nothing was counted")
	// ErrNoCounts says that there is no stream of counters.
	ErrNoCounts = errors.New("campaigns are not counted here: the stream " + StreamCampaigns + " is missing; " + remedySetup + ", or start a worker of this version")
)

// Campaign returns what became of the messages of a campaign or canvas. It returns [ErrNoCampaign] where nothing is known of
// the id, and [ErrNoCounts] where no process has made the stream. It repeats its requests until ctx ends.
func (q *Queue) Campaign(ctx context.Context, id string, f CampaignFilter) (CampaignCounts, error) {
	first, last, err := q.daysCounted(ctx)
	values := make(map[string]int64)
	for d := max(first, dayOf(f.Since)); err == nil && d <= last; d++ {
		err = q.readCounters(ctx, campaignSubjects+token(id)+"."+d.String()+".>", values)
	}
	if err != nil {
		return CampaignCounts{}, fmt.Errorf("queue: campaign: %w", redact(err))
	}
	counts, took := CampaignCounts{Pages: map[string]*CampaignTally{}}, times{}
	found := false
	for subject, n := range values {
		found = counts.add(took, strings.TrimPrefix(subject, campaignSubjects), n, f.Dispatch) || found
	}
	if !found {
		return CampaignCounts{}, fmt.Errorf("queue: campaign: %w", ErrNoCampaign)
	}
	counts.P50, counts.P99 = took.quantile(0.5), took.quantile(0.99)
	return counts, nil
}

// add adds the value of a counter. It reports whether the counter is of the dispatch that is asked for.
func (c *CampaignCounts) add(took times, subject string, n int64, only string) bool {
	tokens := strings.Split(subject, ".")
	if len(tokens) != 5 {
		return false
	}
	dispatch, page, counter := tokens[2], tokens[3], tokens[4]
	c.Others = c.Others || dispatch == otherDispatches
	if only != "" && dispatch != dispatchToken(only) {
		return false
	}
	if took.add(counter, n) {
		return true
	}
	if c.Pages[page] == nil {
		c.Pages[page] = &CampaignTally{}
	}
	c.Pages[page].add(counter, n)
	c.CampaignTally.add(counter, n)
	return true
}

// counterBatch bounds the counters that are read by one request.
const counterBatch = 500

// readCounters adds counters to values, by subject. A counter that is changed meanwhile may be read twice: the later value
// counts. The server looks at all counters that the filter takes for each that it returns (firstMatching in nats-server
// 2.15.2), so that the filter is for one day: 200,000 counters of one campaign took 36 s otherwise, and 11 s so, on a machine
// that was busy with other work. A campaign has some thousand.
func (q *Queue) readCounters(ctx context.Context, filter string, values map[string]int64) error {
	for from := uint64(1); ; {
		last := uint64(0)
		err := q.retry(ctx, readsOf(StreamCampaigns), func(ctx context.Context) (err error) {
			last, err = q.countersFrom(ctx, filter, from, values)
			return q.reportMissing(err)
		})
		if err != nil || last == 0 {
			return err
		}
		from = last + 1
	}
}

// daysCounted returns the first and the last day that can have counters. Of a day before the first some counters are gone, those
// that were changed last on the day itself, and the others would be compared with what is missing. It returns ErrNoCounts if
// there is no stream of counters: a request for a counter would have no answer then, as from a stream without a leader.
func (q *Queue) daysCounted(ctx context.Context) (first, last day, err error) {
	err = q.retry(ctx, readsOf(StreamCampaigns), func(ctx context.Context) error {
		stream, err := q.js.Stream(ctx, StreamCampaigns)
		if errors.Is(err, jetstream.ErrStreamNotFound) {
			return backoff.Permanent(ErrNoCounts)
		}
		if err != nil {
			return err
		}
		info := stream.CachedInfo()
		last = dayOf(info.TimeStamp) + 1 // an ingress's clock may be ahead
		first = dayOf(info.State.FirstTime) - 1
		switch {
		case info.State.Msgs == 0:
			first = last
		case info.Config.MaxAge > 0: // else the operator keeps counters for ever
			first = dayOf(info.TimeStamp.Add(-info.Config.MaxAge)) + 1
		}
		return nil
	})
	return first, last, err
}

// countersFrom reads the next counters from a sequence on, and returns the last one's, 0 if there was none.
func (q *Queue) countersFrom(ctx context.Context, filter string, from uint64, values map[string]int64) (last uint64, err error) {
	msgs, err := jetstreamext.GetBatch(ctx, q.js, StreamCampaigns, counterBatch, jetstreamext.GetBatchSeq(from), jetstreamext.GetBatchSubject(filter))
	if err != nil {
		return 0, noAnswer(ctx, err)
	}
	for msg, err := range msgs {
		if errors.Is(err, jetstreamext.ErrNoMessages) {
			break
		}
		if err != nil {
			return 0, noAnswer(ctx, err)
		}
		values[msg.Subject], last = counterValue(msg.Data), msg.Sequence
	}
	return last, ctx.Err() // the answers end without an error when they do not come in time
}

// counterValue reads the value as the server stores it (CounterValue in nats-server 2.15.2): a number in a string, as it may be
// larger than any here.
func counterValue(data []byte) int64 {
	var value struct {
		Val string `json:"val"`
	}
	if json.Unmarshal(data, &value) != nil {
		return 0
	}
	n, _ := strconv.ParseInt(value.Val, 10, 64)
	return n
}
