package capture_test

import (
	"context"
	"fmt"
	"io/fs"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/brazier-relay/brazier/queue"
	"github.com/brazier-relay/brazier/queue/queuetest"
	"github.com/brazier-relay/brazier/sendapi/webhook"
	"github.com/brazier-relay/brazier/worker/capture"
)

// BenchmarkPeople links people with users, b.N of them, each by a first event, and reports what a person takes: of the server's
// memory and of its disk, and the time until the queue is open again.
func BenchmarkPeople(b *testing.B) {
	dir := b.TempDir()
	before := heap()
	srv := queuetest.Server(b, dir)
	q, err := queue.Open(b.Context(), queue.Config{InProcess: srv, Embedded: true, RoadBack: true})
	if err != nil {
		b.Fatal(err)
	}
	defer q.Close()
	page := capture.Page{ID: acme, Workspace: workspace, References: func() (webhook.RefPolicy, error) {
		return webhook.RefPolicy{Secrets: [][]byte{secret}}, nil
	}}
	h, err := capture.New(capture.Config{Queue: q, Pages: []capture.Page{page}})
	if err != nil {
		b.Fatal(err)
	}
	b.ResetTimer()
	all(b, b.N, func(i int) error {
		e := contact(fmt.Sprint(7_000_000_000_000_000+i), start, reference(b, fmt.Sprintf("%024x", i), start.Add(-time.Hour)))
		e.Key = fmt.Sprint(i)
		return handled(b.Context(), h, e)
	})
	b.StopTimer()
	b.ReportMetric(float64(heap()-before)/float64(b.N), "B-heap/person")
	b.ReportMetric(float64(size(b, filepath.Join(dir, "jetstream", "$G", "streams", "KV_BRAZIER_PEOPLE")))/float64(b.N), "B-disk/person")
}

// BenchmarkContact captures contacts of a thousand people who are known, most of which change nothing.
func BenchmarkContact(b *testing.B) {
	f := newFixture(b)
	const people = 1000
	all(b, people, func(i int) error {
		e := contact(fmt.Sprint(7000+i), start, reference(b, fmt.Sprintf("%024x", i), start.Add(-time.Hour)))
		e.Key = fmt.Sprint(i)
		return handled(b.Context(), f.handler, e)
	})
	b.ResetTimer()
	all(b, b.N, func(i int) error {
		e := contact(fmt.Sprint(7000+i%people), start.Add(time.Minute))
		e.Key = fmt.Sprint("c", i)
		return handled(b.Context(), f.handler, e)
	})
}

func handled(ctx context.Context, h *capture.Handler, e webhook.Event) error {
	body, err := encodeEvent(e)
	if err != nil {
		return err
	}
	if v := h.Handle(ctx, &queue.Delivery{Job: queue.Job{Page: acme, Body: body}}); v.Outcome != "delivered" {
		return fmt.Errorf("%+v", v)
	}
	return nil
}

// all does n things, 64 at a time.
func all(b *testing.B, n int, do func(i int) error) {
	b.Helper()
	var next atomic.Int64
	var doing sync.WaitGroup
	for range 64 {
		doing.Go(func() {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				if err := do(i); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	doing.Wait()
}

func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

func size(b *testing.B, dir string) (n int64) {
	err := filepath.WalkDir(dir, func(_ string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		info, err := entry.Info()
		if err == nil {
			n += info.Size()
		}
		return err
	})
	if err != nil {
		b.Fatal(err)
	}
	return n
}
