package ingress

import (
	"context"
	"time"

	"go.uber.org/zap"

	"github.com/brazier-relay/brazier/queue"
)

// Whether anybody works
//
// Where the last worker is gone nothing else logs an error: messages are accepted, and nobody misses them until they expire. So each
// ingress looks now and then at which processes are alive ([queue.Queue.Alive]), and logs when messages wait and no worker has been
// seen for [queue.AliveFor].
//
// It knows that only while its own record is among those that it reads: then writes arrive, and what it reads is not outdated. While
// NATS is away, or this user may not write records, it says nothing. A worker that fetches counts too, whether it has a record or not.

const (
	// workersEvery is how often the ingress looks, and noWorkerEvery how often it says again that nobody works.
	workersEvery  = 10 * time.Second
	noWorkerEvery = 5 * time.Minute
)

// workerWatch decides what is to be said. It belongs to one goroutine.
type workerWatch struct {
	tolerance time.Duration // how long no worker may be seen

	since  time.Time // a worker was last seen, or it was first known that there is none; zero: nothing is known
	gone   time.Time // since when there is none, as it was said; zero: it was not said
	saidAt time.Time
}

// verdict is what is to be said.
type verdict int

const (
	sayNothing verdict = iota
	sayAbsent
	sayBack
)

// look takes in the processes as they are at now, by the server's clock. overdue says that no worker has been seen for too long, so
// that it matters whether messages wait: see judge.
func (w *workerWatch) look(now time.Time, alive []queue.AliveProcess) (overdue bool, say verdict) {
	known, working := false, false
	var seen time.Time
	for _, p := range alive {
		known = known || p.Own
		if p.Works() {
			working = working || !p.Stopped
			if p.Seen.After(seen) {
				seen = p.Seen
			}
		}
	}
	switch {
	case !known:
		w.since = time.Time{}
		return false, sayNothing
	case working:
		return false, w.back(seen)
	case w.since.IsZero():
		w.since = now
	}
	if seen.After(w.since) {
		w.since = seen
	}
	return now.Sub(w.since) >= w.tolerance, sayNothing
}

// back notes that a worker is there.
func (w *workerWatch) back(seen time.Time) verdict {
	w.since, w.saidAt = seen, time.Time{}
	if w.gone.IsZero() {
		return sayNothing
	}
	return sayBack
}

// judge takes in whether messages wait, and whether a worker fetches some of them, once a look was overdue.
func (w *workerWatch) judge(now time.Time, waiting uint64, fetched bool) verdict {
	switch {
	case fetched:
		return w.back(now)
	case waiting == 0 || !w.saidAt.IsZero() && now.Sub(w.saidAt) < noWorkerEvery:
		return sayNothing
	}
	if w.gone.IsZero() {
		w.gone = w.since
	}
	w.saidAt = now
	return sayAbsent
}

// watchWorkers looks until ctx ends.
func (s *Server) watchWorkers(ctx context.Context) {
	watch := workerWatch{tolerance: queue.AliveFor}
	every := time.NewTicker(workersEvery)
	defer every.Stop()
	for {
		select {
		case <-every.C:
			s.lookForWorkers(ctx, &watch)
		case <-ctx.Done():
			return
		}
	}
}

// lookForWorkers looks once. An error is no news: nothing is known then, and other lines tell of NATS.
func (s *Server) lookForWorkers(ctx context.Context, watch *workerWatch) {
	ctx, cancel := context.WithTimeout(ctx, workersEvery)
	defer cancel()
	alive, err := s.cfg.Queue.Alive(ctx)
	if err != nil {
		alive = nil
	}
	s.metrics.countWorkers(alive)
	overdue, say := watch.look(s.cfg.Queue.Now(), alive)
	var waiting uint64
	if overdue {
		var fetched bool
		if waiting, fetched, err = s.cfg.Queue.Waiting(ctx); err != nil {
			return
		}
		say = watch.judge(s.cfg.Queue.Now(), waiting, fetched)
	}
	switch say {
	case sayAbsent:
		s.log.Error("messages wait, and no worker is alive", zap.String("event", "no_worker"), zap.Time("since", watch.gone.UTC()), zap.Uint64("pending", waiting),
			zap.String("remedy", "start a worker, or see in its log why it does not reach NATS"))
	case sayBack:
		s.log.Info("a worker is alive again", zap.String("event", "worker_back"), zap.Time("since", watch.gone.UTC()),
			zap.Float64("for_s", watch.since.Sub(watch.gone).Round(100*time.Millisecond).Seconds()))
		watch.gone = time.Time{}
	}
}
