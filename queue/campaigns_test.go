package queue_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/brazier-relay/brazier/queue"
	"github.com/brazier-relay/brazier/queue/embedded"
	"github.com/brazier-relay/brazier/queue/queuetest"
)

const launch = "c7f4a6b2-launch"

// campaignJob is a job of a dispatch of a campaign.
func campaignJob(page, campaign, dispatch string) *queue.Job {
	j := job(page, queue.Bulk)
	j.Tracking.Campaign, j.Tracking.Dispatch = campaign, dispatch
	return j
}

// counted waits until a campaign's counts, without the times, are as wanted.
func counted(t *testing.T, q *queue.Queue, id string, f queue.CampaignFilter, want queue.CampaignCounts) {
	t.Helper()
	var got queue.CampaignCounts
	deadline := time.Now().Add(testTimeout)
	for poll := time.NewTicker(20 * time.Millisecond); ; <-poll.C {
		var err error
		if got, err = q.Campaign(within(t, testTimeout), id, f); err != nil && !errors.Is(err, queue.ErrNoCampaign) {
			t.Fatal(err)
		}
		got.P50, got.P99 = 0, 0
		if cmp.Equal(got, want) {
			return
		}
		if time.Now().After(deadline) {
			equal(t, "counts of "+id, got, want)
			t.FailNow()
		}
	}
}

// acceptedAlone are the counts of messages that all wait, on one page.
func acceptedAlone(n int64) queue.CampaignCounts {
	tally := queue.CampaignTally{Accepted: n}
	return queue.CampaignCounts{CampaignTally: tally, Pages: map[string]*queue.CampaignTally{acme: &tally}}
}

// Everything that becomes of the messages of a campaign is counted once, on its page and under its class.
func TestCampaign(t *testing.T) {
	t.Parallel()
	q, srv := fresh(t)
	ctx := within(t, 2*testTimeout)
	first := campaignJob(acme, launch, "d1")
	first.ID, first.Key = queue.KeyedID(acme, "k"), "k"
	publish(t, q, first)
	again := *first
	if stored, err := q.Publish(ctx, &again); err != nil || !stored.Duplicate {
		t.Fatal(stored, err)
	}
	for range 6 {
		publish(t, q, campaignJob(acme, launch, "d1"))
	}
	publish(t, q, campaignJob(nordwind, launch, "d2"), campaignJob(nordwind, launch, ""), job(acme, queue.Urgent))
	of := campaignJob(acme, "", "d1")
	of.Tracking.Canvas, of.Lane = "canvas", queue.Urgent
	publish(t, q, of)

	s := source(t, q, acme, queue.Bulk, 1)
	done(t, next(t, s))
	done(t, next(t, s))
	for _, class := range []string{"window", "window", "recipient"} {
		if err := next(t, s).DeadLetter(ctx, queue.Reason{Class: class}); err != nil {
			t.Fatal(err)
		}
	}
	doubtful := next(t, s)
	if err := doubtful.Retry(ctx, 1, "in_doubt", time.Hour); err != nil {
		t.Fatal(err)
	}
	if err := next(t, s).Retry(ctx, 1, "transient", time.Hour); err != nil {
		t.Fatal(err)
	}
	for _, seq := range []uint64{1, 3} { // of class window, and of class recipient
		if _, err := q.Replay(ctx, seq); err != nil {
			t.Fatal(err)
		}
	}
	s.Stop()
	if did, err := q.DiscardJobs(ctx, acme, func(j *queue.Job) bool { return j.ID == doubtful.ID }); err != nil || did.Jobs != 1 {
		t.Fatal(did, err)
	}
	done(t, next(t, source(t, q, nordwind, queue.Bulk, 1)))

	onAcme := &queue.CampaignTally{Accepted: 7, Duplicates: 1, Delivered: 2, InDoubt: 1, Discarded: 1,
		Dead: map[string]int64{"window": 2, "recipient": 1}, Replayed: map[string]int64{"window": 1, "recipient": 1}}
	onNordwind := &queue.CampaignTally{Accepted: 2, Delivered: 1}
	all := *onAcme
	all.Accepted, all.Delivered = 9, 3
	want := queue.CampaignCounts{CampaignTally: all, Pages: map[string]*queue.CampaignTally{acme: onAcme, nordwind: onNordwind}}
	reader := open(t, queue.Config{InProcess: srv, Existing: true})
	counted(t, reader, launch, queue.CampaignFilter{}, want)
	counted(t, reader, launch, queue.CampaignFilter{Since: time.Now().Add(-time.Hour)}, want)
	counted(t, reader, "canvas", queue.CampaignFilter{}, acceptedAlone(1))
	counted(t, reader, launch, queue.CampaignFilter{Dispatch: "d1"},
		queue.CampaignCounts{CampaignTally: *onAcme, Pages: map[string]*queue.CampaignTally{acme: onAcme}})

	got, err := reader.Campaign(ctx, launch, queue.CampaignFilter{})
	if err != nil || got.P50 <= 0 || got.P99 < got.P50 || got.P99 > 2*testTimeout {
		t.Errorf("times %v and %v, error %v", got.P50, got.P99, err)
	}
	if got.Failed("window") != 1 || got.Failed("recipient") != 0 || got.AllFailed() != 1 || got.Waiting() != 4 {
		t.Errorf("failed %d and %d, all %d, waiting %d", got.Failed("window"), got.Failed("recipient"), got.AllFailed(), got.Waiting())
	}
	for name, f := range map[string]queue.CampaignFilter{
		"another dispatch": {Dispatch: "d3"}, "tomorrow": {Since: time.Now().Add(48 * time.Hour)},
	} {
		if _, err := reader.Campaign(ctx, launch, f); !errors.Is(err, queue.ErrNoCampaign) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := reader.Campaign(ctx, "never", queue.CampaignFilter{}); !errors.Is(err, queue.ErrNoCampaign) {
		t.Errorf("an unknown id: %v", err)
	}
}

// An id may be any text. No two are counted together, and none gets out of its part of the subject.
func TestCampaignOddIDs(t *testing.T) {
	t.Parallel()
	q := queuetest.New(t)
	ids := []string{"a.b", "a b", "*", ">", "=none", "=other", "Ünïcode", "a", "A", "-", "batches", strings.Repeat("x", 64), strings.Repeat("x", 65), "{{campaign.${api_id}}}"}
	for i, id := range ids {
		for range i + 1 {
			publish(t, q, campaignJob(acme, id, ""), campaignJob(acme, "dispatches", id))
		}
	}
	for i, id := range ids {
		counted(t, q, id, queue.CampaignFilter{}, acceptedAlone(int64(i+1)))
		counted(t, q, "dispatches", queue.CampaignFilter{Dispatch: id}, acceptedAlone(int64(i+1)))
	}
}

// A triggered campaign has a dispatch per person: the first are counted apart, and every message once.
func TestCampaignManyDispatches(t *testing.T) {
	t.Parallel()
	q := queuetest.New(t)
	const dispatches = queue.MaxDispatches + 5
	name := func(i int) string { return fmt.Sprintf("d%02d", i) }
	for range 2 {
		for i := range dispatches {
			publish(t, q, campaignJob(acme, launch, name(i)))
		}
	}
	all := acceptedAlone(2 * dispatches)
	all.Others = true
	counted(t, q, launch, queue.CampaignFilter{}, all)
	one := acceptedAlone(2)
	one.Others = true
	counted(t, q, launch, queue.CampaignFilter{Dispatch: name(queue.MaxDispatches - 1)}, one)
	if _, err := q.Campaign(t.Context(), launch, queue.CampaignFilter{Dispatch: name(queue.MaxDispatches)}); !errors.Is(err, queue.ErrNoCampaign) {
		t.Errorf("a dispatch that is not counted apart: %v", err)
	}
}

// Counters that were changed last on the day itself vanish before the others of that day, so a day counts only while all are
// there. Messages of other days do not count for --since.
func TestCampaignDays(t *testing.T) {
	t.Parallel()
	q := queuetest.New(t)
	now := time.Now().UTC()
	for _, ago := range []int{0, 1, 29, 31} {
		j := campaignJob(acme, launch, "")
		j.Accepted = now.AddDate(0, 0, -ago)
		q.CountAccepted(j)
	}
	counted(t, q, launch, queue.CampaignFilter{}, acceptedAlone(3))
	counted(t, q, launch, queue.CampaignFilter{Since: now.AddDate(0, 0, -1)}, acceptedAlone(2))
	counted(t, q, launch, queue.CampaignFilter{Since: now}, acceptedAlone(1))
}

// Close writes what is left, and a server that was restarted has it still.
func TestCampaignOutlastsRestart(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.start()
	q := open(t, queue.Config{InProcess: m})
	publish(t, q, campaignJob(acme, launch, "d"))
	q.Close()
	q = open(t, queue.Config{InProcess: m})
	if got, err := q.Campaign(within(t, testTimeout), launch, queue.CampaignFilter{}); err != nil || got.Accepted != 1 {
		t.Fatalf("after Close: %+v, %v", got, err)
	}
	m.stop()
	eventually(t, "the connection is lost", func() bool { return !q.Connected() })
	q.CountAccepted(campaignJob(acme, launch, "d"))
	m.start()
	counted(t, q, launch, queue.CampaignFilter{}, acceptedAlone(2))
}

// forgetful leads to a server. It swallows the first acknowledgement of counts, and with it the connection; until allowed again
// there is no other.
type forgetful struct {
	server nats.InProcessConnProvider

	mu    sync.Mutex
	lost  bool // the acknowledgement
	again bool
}

type forgetfulConn struct {
	net.Conn
	of *forgetful
}

func (f *forgetful) InProcessConn() (net.Conn, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.lost && !f.again {
		return nil, errors.New("not now")
	}
	conn, err := f.server.InProcessConn()
	return &forgetfulConn{conn, f}, err
}

func (c *forgetfulConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.of.mu.Lock()
	defer c.of.mu.Unlock()
	if !c.of.lost && strings.Contains(string(b[:n]), `"stream":"`+queue.StreamCampaigns) {
		c.of.lost = true
		_ = c.Close()
		return 0, io.EOF
	}
	return n, err
}

func (f *forgetful) hasLost() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.lost
}

func (f *forgetful) allow() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.again = true
}

// Counts whose acknowledgement was lost are counted once, also if another process has counted the same since and the server
// was restarted, which then reads back the ids that are left.
func TestCampaignLostAcknowledgement(t *testing.T) {
	t.Parallel()
	for _, restarted := range []bool{false, true} {
		t.Run(fmt.Sprintf("restarted %v", restarted), func(t *testing.T) {
			t.Parallel()
			m := newMachine(t)
			m.start()
			wire := &forgetful{server: m}
			q := open(t, queue.Config{InProcess: wire})
			q.CountAccepted(campaignJob(acme, launch, "d"))
			eventually(t, "an acknowledgement is lost", wire.hasLost)
			other := m.open()
			publish(t, other, campaignJob(acme, launch, "d"))
			other.Close()
			if restarted {
				m.stop()
				m.start()
			}
			wire.allow()
			eventually(t, "the connection is back", q.Connected)
			for range 3 { // written after the batch whose acknowledgement was lost
				q.CountAccepted(campaignJob(acme, launch, "d"))
			}
			counted(t, m.open(), launch, queue.CampaignFilter{}, acceptedAlone(5))
		})
	}
}

// events returns the log lines of an event.
func events(lines *observer.ObservedLogs, event string) []observer.LoggedEntry {
	return lines.FilterField(zap.String("event", event)).All()
}

// A user who may not count, nor look at the stream, stores and settles messages all the same. The log says so once.
func TestCampaignRefused(t *testing.T) {
	t.Parallel()
	for name, denied := range map[string]string{
		"no counts": `"brazier.campaigns.>"`,
		"nothing":   `"brazier.campaigns.>", "$JS.API.STREAM.*.BRAZIER_CAMPAIGNS"`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			srv := natsServer(t, `jetstream { store_dir: %DIR% }
				authorization { users: [ { user: a, password: a, permissions { publish { deny: [`+denied+`] } } }, { user: all, password: a } ] }`)
			as := func(user string) string { return strings.Replace(srv.ClientURL(), "nats://", "nats://"+user+":a@", 1) }
			core, lines := observer.New(zap.InfoLevel)
			q := open(t, queue.Config{URL: as("a"), Log: zap.New(core)})
			publish(t, q, campaignJob(acme, launch, ""))
			eventually(t, "the refusal is logged", func() bool { return len(events(lines, "campaign_counts_wait")) == 1 })
			line := events(lines, "campaign_counts_wait")[0].ContextMap()
			if !strings.Contains(fmt.Sprint(line["error"]), "publish to brazier.campaigns.>") || !strings.Contains(fmt.Sprint(line["remedy"]), "nats-users.conf") {
				t.Errorf("the log says %v", line)
			}
			publish(t, q, campaignJob(acme, launch, ""))
			s := source(t, q, acme, queue.Bulk, 1)
			done(t, next(t, s))
			done(t, next(t, s))
			if err := errors.Join(q.Ready(within(t, testTimeout)), q.ReadyToWork(within(t, testTimeout))); err != nil {
				t.Errorf("not ready: %v", err)
			}
			q.Close()
			for _, event := range []string{"nats_error", "waiting", "streams_broken"} {
				if got := events(lines, event); len(got) > 0 {
					t.Errorf("%s: %v", event, got)
				}
			}
			if n := len(events(lines, "campaign_counts_wait")); n != 1 {
				t.Errorf("logged %d times", n)
			}
			if _, err := open(t, queue.Config{URL: as("all")}).Campaign(within(t, testTimeout), launch, queue.CampaignFilter{}); !errors.Is(err, queue.ErrNoCampaign) {
				t.Errorf("counted: %v", err)
			}
		})
	}
}

// Where the stream is missing, as before an upgrade, a command says so and makes nothing.
func TestCampaignWithoutStream(t *testing.T) {
	t.Parallel()
	srv := queuetest.Server(t, "")
	open(t, queue.Config{InProcess: srv}).Close()
	js := raw(t, srv)
	if err := js.DeleteStream(t.Context(), queue.StreamCampaigns); err != nil {
		t.Fatal(err)
	}
	q := open(t, queue.Config{InProcess: srv, Existing: true})
	if _, err := q.Campaign(within(t, testTimeout), launch, queue.CampaignFilter{}); !errors.Is(err, queue.ErrNoCounts) || !strings.Contains(err.Error(), "brazier setup") {
		t.Errorf("campaign: %v", err)
	}
	if differs, err := q.Differences(within(t, testTimeout)); err != nil || len(differs) != 0 {
		t.Errorf("differences: %v, %v", differs, err)
	}
	publish(t, q, campaignJob(acme, launch, ""))
	q.Close()
	if _, err := js.Stream(t.Context(), queue.StreamCampaigns); !errors.Is(err, jetstream.ErrStreamNotFound) {
		t.Errorf("the stream: %v", err)
	}
}

// A stream that cannot count stops no message. It is repaired by brazier setup where that is possible.
func TestCampaignBrokenStream(t *testing.T) {
	t.Parallel()
	srv := queuetest.Server(t, "")
	js := raw(t, srv)
	cfg := planned(t, queue.StreamCampaigns)
	cfg.AllowMsgCounter = false
	if _, err := js.CreateStream(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	core, lines := observer.New(zap.InfoLevel)
	q := open(t, queue.Config{InProcess: srv, Log: zap.New(core)}.WithWaits(100*time.Millisecond, time.Hour))
	publish(t, q, campaignJob(acme, launch, ""))
	eventually(t, "it is logged", func() bool { return len(events(lines, "campaign_counts_wait")) == 1 })
	line := events(lines, "campaign_counts_wait")[0].ContextMap()
	if !strings.Contains(fmt.Sprint(line["error"]), "allow_msg_counter is false") || !strings.Contains(fmt.Sprint(line["remedy"]), "brazier setup") {
		t.Errorf("the log says %v", line)
	}
	if err := q.Ready(within(t, testTimeout)); err != nil {
		t.Errorf("not ready: %v", err)
	}
	if _, err := queue.Setup(within(t, testTimeout), queue.Config{InProcess: srv}, false); err == nil || !strings.Contains(err.Error(), "nats stream rm") {
		t.Errorf("setup: %v", err)
	}
	if err := js.DeleteStream(t.Context(), queue.StreamCampaigns); err != nil {
		t.Fatal(err)
	}
	q.Repair()
	counted(t, q, launch, queue.CampaignFilter{}, acceptedAlone(1))
	eventually(t, "its end is logged", func() bool { return len(events(lines, "campaign_counts_ok")) == 1 })
}

// While no server is there counts wait in bounds: those of a write that failed, and as many that came after it. What is beyond is
// dropped, and logged once.
func TestCampaignBounds(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.start()
	core, lines := observer.New(zap.InfoLevel)
	q := open(t, queue.Config{InProcess: m, Log: zap.New(core)})
	q.WithoutWriting()
	m.stop()
	eventually(t, "the connection is lost", func() bool { return !q.Connected() })
	id := func(i int) string { return fmt.Sprint("campaign-", i) }
	for i := range 2*queue.MaxCounts + 20 {
		if i == queue.MaxCounts && q.WriteCounts(t.Context()) {
			t.Error("written without a server")
		}
		q.CountAccepted(campaignJob(acme, id(i), ""))
	}
	q.CountAccepted(campaignJob(acme, id(queue.MaxCounts), "")) // which is known
	if n := len(events(lines, "campaign_counts_lost")); n != 1 {
		t.Errorf("logged %d times", n)
	}
	m.start()
	for range 2 { // what failed, and what came after it
		eventually(t, "it is written", func() bool { return q.WriteCounts(t.Context()) })
	}
	for i, n := range map[int]int64{0: 1, queue.MaxCounts - 1: 1, queue.MaxCounts: 2, 2*queue.MaxCounts - 1: 1} {
		counted(t, q, id(i), queue.CampaignFilter{}, acceptedAlone(n))
	}
	if _, err := q.Campaign(within(t, testTimeout), id(2*queue.MaxCounts), queue.CampaignFilter{}); !errors.Is(err, queue.ErrNoCampaign) {
		t.Errorf("beyond the bound: %v", err)
	}
}

// Times are told to within 30 %, whatever their distribution.
func TestCampaignTimes(t *testing.T) {
	t.Parallel()
	exponential := func(n int, mean time.Duration) (all []time.Duration) {
		for i := range n {
			all = append(all, time.Duration(-math.Log(1-(float64(i)+0.5)/float64(n))*float64(mean)))
		}
		return all
	}
	even := func(n int, from, step time.Duration) (all []time.Duration) {
		for i := range n {
			all = append(all, from+time.Duration(i)*step)
		}
		return all
	}
	for name, took := range map[string][]time.Duration{
		"one":             {70 * time.Millisecond},
		"all the same":    slices.Repeat([]time.Duration{3 * time.Second}, 1000),
		"exponential":     exponential(10_000, 20*time.Second),
		"hours":           even(1000, 0, 3*time.Minute),
		"a held page":     append(even(900, 50*time.Millisecond, 0), even(100, 6*time.Hour, time.Second)...),
		"of dead letters": even(37, 24*time.Hour, 24*time.Hour),
	} {
		slices.Sort(took)
		for _, part := range []float64{0.5, 0.9, 0.99} {
			got, want := queue.Quantile(part, took), took[max(int(math.Ceil(part*float64(len(took)))), 1)-1]
			if ratio := float64(got) / float64(want); ratio < 1/1.3 || ratio > 1.3 {
				t.Errorf("%s: %v of them within %v, want %v", name, part, got, want)
			}
		}
	}
	if got := queue.Quantile(0.5, nil); got != 0 {
		t.Errorf("of none: %v", got)
	}
	if got := queue.Quantile(0.5, []time.Duration{-time.Second}); got <= 0 || got > 10*time.Millisecond {
		t.Errorf("accepted after it was delivered, by differing clocks: %v", got)
	}
	if got := queue.Quantile(0.5, []time.Duration{1000 * time.Hour * 24}); got > 41*24*time.Hour {
		t.Errorf("beyond the last bound: %v", got)
	}
}

// BenchmarkCount is what counting costs a message, from many goroutines.
func BenchmarkCount(b *testing.B) {
	for name, campaign := range map[string]string{"campaign": launch, "none": ""} {
		b.Run(name, func(b *testing.B) {
			q := openBench(b, embedded.SyncInterval)
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				j := campaignJob(acme, campaign, "d")
				for pb.Next() {
					q.CountDelivered(j) // two counters
				}
			})
		})
	}
}

// BenchmarkWriteCounts writes the counts of a second: a full batch, and what one campaign changes.
func BenchmarkWriteCounts(b *testing.B) {
	for _, sync := range syncs {
		for _, n := range []int{20, 479} {
			b.Run(fmt.Sprint(sync, "/", n), func(b *testing.B) {
				q := openBench(b, sync)
				q.WithoutWriting()
				for b.Loop() {
					for i := range n {
						q.CountAccepted(campaignJob(acme, fmt.Sprint("campaign-", i), "d"))
					}
					if !q.WriteCounts(context.Background()) {
						b.Fatal("not written")
					}
				}
			})
		}
	}
}
