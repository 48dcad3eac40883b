package queue_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/brazier-relay/brazier/queue"
	"github.com/brazier-relay/brazier/queue/embedded"
	"github.com/brazier-relay/brazier/queue/queuetest"
)

// A page's partition must never change with a version, or keys and jobs would be looked for in the wrong one.
func TestPartitionOf(t *testing.T) {
	t.Parallel()
	for page, want := range map[string][]int{ // for 1, 2, 3, 4, 8 and 32 partitions
		acme:                 {1, 1, 1, 1, 7, 7},
		nordwind:             {1, 1, 1, 1, 1, 21},
		"100000000000000001": {1, 2, 2, 2, 2, 16},
	} {
		var got []int
		for _, n := range []int{1, 2, 3, 4, 8, 32} {
			got = append(got, queue.PartitionOf(page, n))
		}
		equal(t, "partitions of page "+page, got, want)
	}
	const pages = 10_000
	for n := 2; n <= 32; n++ {
		moved, has := 0, make([]int, n+1)
		for i := range pages {
			page := fmt.Sprint(100_000_000_000_000 + i*7919)
			before, after := queue.PartitionOf(page, n-1), queue.PartitionOf(page, n)
			has[after]++
			if before != after {
				moved++
			}
			if before != after && after != n {
				t.Fatalf("of %d partitions page %s moves from %d to %d, want %d", n, page, before, after, n)
			}
		}
		if moved < pages/n*8/10 || moved > pages/n*12/10 {
			t.Errorf("%d of %d pages move to partition %d", moved, pages, n)
		}
		for number, count := range has[1:] {
			if count < pages/n*7/10 || count > pages/n*13/10 {
				t.Errorf("partition %d of %d has %d of %d pages", number+1, n, count, pages)
			}
		}
	}
}

// When their number is raised while messages come in, every process goes over at the same time: nothing is lost or stored twice,
// what waits in the old partition is delivered, and a key is known in the new one.
func TestRaisePartitions(t *testing.T) {
	t.Parallel()
	srv := queuetest.Server(t, "")
	seen, lines := observer.New(zap.InfoLevel)
	cfg := queue.Config{InProcess: srv, Log: zap.New(seen)}.WithGrowth(20*time.Millisecond, 5*time.Second)
	queues := []*queue.Queue{open(t, cfg), open(t, cfg)}
	var pages []string
	for i := range 8 {
		pages = append(pages, fmt.Sprint(7_000_000+i))
	}
	moves := func(page string) bool { return queue.PartitionOf(page, 3) != 1 }

	ctx, cancel := context.WithCancel(within(t, 2*testTimeout))
	defer cancel()
	var mu sync.Mutex
	stored, delivered := map[string]int{}, map[string]int{}
	keys := map[string][]string{} // by page
	post := func(q *queue.Queue, page, key string) (duplicate bool) {
		j := job(page, queue.Bulk)
		j.Key, j.ID = key, queue.KeyedID(page, key)
		got, err := q.Publish(ctx, j)
		if err != nil {
			t.Errorf("publish: %v", err)
		}
		if err == nil && !got.Duplicate {
			mu.Lock()
			stored[j.ID]++
			mu.Unlock()
		}
		return got.Duplicate
	}
	raised := make(chan struct{})
	var posting, working sync.WaitGroup
	for _, page := range pages {
		posting.Go(func() {
			after := 0
			for i := 0; after < 20; i++ {
				key := fmt.Sprint("k", i)
				if post(queues[i%2], page, key) {
					t.Errorf("page %s: key %s is called a duplicate", page, key)
				}
				if !post(queues[1-i%2], page, key) && moves(page) { // of the others it may be settled just now: see publishOnce
					t.Errorf("page %s: key %s was stored again", page, key)
				}
				mu.Lock()
				keys[page] = append(keys[page], key)
				mu.Unlock()
				select {
				case <-raised:
					after++
				default:
				}
			}
		})
		if moves(page) { // these wait until the partitions are there
			continue
		}
		working.Go(func() { deliver(ctx, queues[0], page, func(id string) { mu.Lock(); delivered[id]++; mu.Unlock() }) })
	}
	eventually(t, "messages come in", func() bool { mu.Lock(); defer mu.Unlock(); return len(stored) > 40 })
	asked := cfg
	asked.Partitions = 3
	setup(t, asked, false)
	asked.Partitions = 4
	if _, err := queue.Setup(ctx, asked, false); err == nil || !strings.Contains(err.Error(), "come into use at") {
		t.Errorf("raised again at once: %v", err)
	}
	for _, q := range queues {
		eventually(t, "the new partitions are used", func() bool { return q.Partitions() == 3 })
	}
	close(raised)
	posting.Wait()
	found := map[string]int{}
	for _, page := range pages {
		sources, _ := queues[0].Sources(page, queue.Bulk, 1)
		found[page] = len(sources)
		for _, key := range keys[page] {
			if !post(queues[0], page, key) && moves(page) {
				t.Errorf("page %s: key %s of before was stored again", page, key)
			}
		}
		if moves(page) {
			working.Go(func() { deliver(ctx, queues[1], page, func(id string) { mu.Lock(); delivered[id]++; mu.Unlock() }) })
		}
	}
	for page, n := range found {
		if (n > 1) != (queue.PartitionOf(page, 2) != 1 || moves(page)) {
			t.Errorf("page %s has %d sources", page, n)
		}
	}
	eventually(t, "all is delivered", func() bool { mu.Lock(); defer mu.Unlock(); return len(delivered) == len(stored) })
	cancel()
	working.Wait()
	for id, n := range stored {
		if delivered[id] != 1 {
			t.Errorf("%s was stored %d times and delivered %d times", id, n, delivered[id])
		}
	}
	if n := lines.FilterField(zap.String("event", "partitions")).Len(); n < 2 {
		t.Errorf("%d lines of the event partitions, want one of each process", n)
	}
	asked.Partitions = 2
	if _, err := queue.Setup(within(t, testTimeout), asked, false); !errors.As(err, new(*queue.StreamError)) || !strings.Contains(err.Error(), "can only be raised") {
		t.Errorf("lowered: %v", err)
	}
}

// deliver settles the jobs of a page's bulk lane until ctx ends, as a worker's feeder takes them.
func deliver(ctx context.Context, q *queue.Queue, page string, each func(id string)) {
	for ctx.Err() == nil {
		sources, grown := q.Sources(page, queue.Bulk, 4)
		fetching, end := context.WithCancel(ctx)
		var pouring sync.WaitGroup
		for _, s := range sources {
			pouring.Go(func() {
				defer context.AfterFunc(fetching, s.Stop)()
				for {
					d, err := s.Next(context.Background())
					if err != nil {
						return
					}
					if d.Done(context.Background()) == nil {
						each(d.ID)
					}
				}
			})
		}
		select {
		case <-grown:
		case <-ctx.Done():
		}
		end()
		pouring.Wait()
	}
}

// A version that knows of no partitions does not start where there are some, and one that runs goes on.
func TestPartitionsOfLaterVersion(t *testing.T) {
	t.Parallel()
	srv := queuetest.Server(t, "")
	q := open(t, queue.Config{InProcess: srv})
	setup(t, queue.Config{InProcess: srv, Partitions: 2}, false)
	earlier := queue.Layout()[0] // what it asks for
	if err := q.EnsureStream(t.Context(), earlier); err == nil || !strings.Contains(err.Error(), "it has schema 3") {
		t.Errorf("an earlier version: %v", err)
	}
}

// What nobody wrote into the metadata is refused, with the key and the remedy.
func TestPartitionsUnreadable(t *testing.T) {
	t.Parallel()
	srv := divided(t)
	js := raw(t, srv)
	whole := config(t, js, queue.StreamJobs)
	for _, c := range []struct {
		key string
		is  map[string]string
	}{
		{"brazier.partitions", map[string]string{"brazier.partitions": "two"}},
		{"brazier.partitions", map[string]string{"brazier.partitions": "33"}},
		{"brazier.partitions.was", map[string]string{"brazier.partitions.was": "1,x"}},
		{"brazier.partitions.was", map[string]string{"brazier.partitions.was": "2"}},
		{"brazier.partitions.since", map[string]string{"brazier.partitions.was": "1", "brazier.partitions.since": "soon"}},
	} {
		jobs := whole
		jobs.Metadata = maps.Clone(whole.Metadata)
		maps.Copy(jobs.Metadata, c.is)
		if _, err := js.UpdateStream(t.Context(), jobs); err != nil {
			t.Fatal(err)
		}
		_, err := queue.Open(within(t, testTimeout), queue.Config{InProcess: srv})
		if !errors.As(err, new(*queue.StreamError)) || !strings.Contains(err.Error(), "under "+c.key+",") {
			t.Errorf("%v: %v", c.is, err)
		}
	}
}

// How many partitions there are outlasts the loss of either stream that tells it, and of both where a process runs.
func TestPartitionsAreRemembered(t *testing.T) {
	t.Parallel()
	for _, lost := range [][]string{{queue.StreamJobs}, {queue.StreamRecords}, {queue.StreamJobs, queue.StreamRecords}} {
		srv := divided(t)
		q, js := open(t, queue.Config{InProcess: srv}), raw(t, srv)
		for _, stream := range lost {
			drop(t, js, stream)
		}
		other := open(t, queue.Config{InProcess: srv}.AsAnotherProcess()) // is the first to make them again
		q.Repair()
		other.Repair()
		for _, q := range []*queue.Queue{q, other} {
			if n := q.Partitions(); n != 2 {
				t.Errorf("%v lost: a process has %d partitions", lost, n)
			}
		}
		for _, stream := range []string{queue.StreamJobs, queue.StreamRecords} {
			if got := config(t, js, stream).Metadata["brazier.partitions"]; got != "2" {
				t.Errorf("%v lost: %s says %q", lost, stream, got)
			}
		}
		if again := setup(t, queue.Config{InProcess: srv}, false); again != nil {
			t.Errorf("%v lost: setup finds %v", lost, again)
		}
	}
}

// Partitions come into use also where another stream cannot be used, as while an upgrade is under way.
func TestPartitionsBesideNewerStream(t *testing.T) {
	t.Parallel()
	srv := queuetest.Server(t, "")
	cfg := queue.Config{InProcess: srv}.WithGrowth(time.Hour, time.Millisecond)
	q, js := open(t, cfg), raw(t, srv)
	dead := config(t, js, queue.StreamDead)
	cfg.Partitions = 2
	setup(t, cfg, false)
	dead.Metadata[queue.SchemaKey] = "9"
	if _, err := js.UpdateStream(t.Context(), dead); err != nil {
		t.Fatal(err)
	}
	q.Repair()
	if n := q.Partitions(); n != 2 {
		t.Errorf("%d partitions", n)
	}
}

// Where the same --max-queue is divided, there is space for it at every moment.
func TestSetupPartitionsSpace(t *testing.T) {
	t.Parallel()
	cfg := queuetest.Unflushed(t.TempDir())
	cfg.MaxStore = 1<<30 + 400<<20 // and what campaigns and buckets may take
	srv, err := embedded.Start(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = srv.Close() })
	setup(t, queue.Config{InProcess: srv, MaxBytes: 1 << 30}, false)
	setup(t, queue.Config{InProcess: srv, MaxBytes: 1 << 29, Partitions: 2}.WithGrowth(time.Hour, time.Millisecond), false)
	_, err = queue.Setup(within(t, time.Second), queue.Config{InProcess: srv, MaxBytes: 1 << 30, Partitions: 3}, false)
	if err == nil || !strings.Contains(err.Error(), "--max-queue") {
		t.Errorf("more than there is: %v", err)
	}
}
