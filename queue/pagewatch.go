package queue

import (
	"context"
	"fmt"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"
)

// endWatch ends a watch. It reads until nats.go closes the channel, whose writer may be waiting for a reader.
func endWatch(w jetstream.KeyWatcher) {
	_ = w.Stop() // after an error the subscription is gone, and its writer with it
	for range w.Updates() {
	}
}

// WatchPages calls f with the state of each page that has one, then closes ready (which may be nil), and from then on
// calls f with each change, always on the caller's goroutine. A change that is followed by another soon may be left
// out, the latest never is: after a lost connection all states are read again. WatchPages returns nil when ctx ends,
// and an error when the connection is closed for good.
func (q *Queue) WatchPages(ctx context.Context, f func(page string, s PageState), ready chan<- struct{}) error {
	watch := pageWatch{q: q, f: f, ready: ready, seen: make(map[string]uint64), waiting: retrier{waits: q.waits, what: readsOf(streamOf(BucketPages))}}
	defer watch.waiting.end(false)
	lost := q.nc.StatusChanged(nats.CONNECTED)
	defer q.nc.RemoveStatusListener(lost)
	for {
		// The watch notes its waits itself, since an attempt may succeed for hours before it fails.
		err := q.retry(ctx, dependency{kind: onNothing}, func(context.Context) error { return watch.run(ctx, lost) })
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("queue: watch pages: %w", redact(err))
		}
	}
}

// pageWatch is the state of one WatchPages.
type pageWatch struct {
	q     *Queue
	f     func(string, PageState)
	ready chan<- struct{}   // nil once closed
	seen  map[string]uint64 // the revision that was last passed on, by page

	waiting retrier
}

// run passes changes on until the connection was lost and is back. Then it returns nil.
func (w *pageWatch) run(ctx context.Context, back <-chan nats.Status) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	replaced := w.q.replaced(streamOf(BucketPages))
	updates, err := w.q.pages.WatchAll(ctx)
	if err != nil && ctx.Err() == nil {
		w.waiting.failed(err)
	}
	if err != nil {
		return w.q.reportMissing(err)
	}
	defer endWatch(updates)
	for {
		select {
		case entry, ok := <-updates.Updates():
			if !ok {
				w.waiting.failed(nats.ErrDisconnected)
				return nats.ErrDisconnected
			}
			w.pass(entry)
		case <-back:
			return nil
		case <-replaced: // the watch and the states belong to a bucket that is gone
			for page := range w.seen {
				w.f(page, PageState{epoch: w.q.epoch(streamOf(BucketPages))})
			}
			clear(w.seen)
			return nil
		case <-w.q.closed:
			return nats.ErrConnectionClosed
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// pass calls f with an entry. A nil entry follows the last of those that were stored when the watch began.
func (w *pageWatch) pass(entry jetstream.KeyValueEntry) {
	if entry == nil {
		w.waiting.end(true)
		if w.ready != nil {
			close(w.ready)
			w.ready = nil
		}
		return
	}
	if entry.Revision() == w.seen[entry.Key()] {
		return
	}
	w.seen[entry.Key()] = entry.Revision()
	s, err := w.q.pageState(entry)
	if err != nil {
		w.q.log.Error("state of a page cannot be read", zap.String("event", "page_state"), zap.String("page", entry.Key()), zap.Error(err))
		return
	}
	w.f(entry.Key(), s)
}
