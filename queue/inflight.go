package queue

import (
	"context"
	"sync"
	"time"
)

// inFlight has the jobs that were delivered to this process and are not settled. One goroutine renews their leases.
type inFlight struct {
	lease time.Duration
	begin sync.Once
	ctx   context.Context // of the renewals
	stop  context.CancelFunc
	done  chan struct{}

	mu   sync.Mutex
	jobs map[location]*Delivery
}

// location is where a job is stored.
type location struct {
	stream string
	seq    uint64
}

func (d *Delivery) location() location { return location{d.at.stream, d.StreamSeq} }

func newInFlight(lease time.Duration) *inFlight {
	f := &inFlight{lease: lease, jobs: map[location]*Delivery{}, done: make(chan struct{})}
	f.ctx, f.stop = context.WithCancel(context.Background())
	return f
}

func (f *inFlight) add(d *Delivery) {
	f.begin.Do(func() { go f.run() })
	f.mu.Lock()
	defer f.mu.Unlock()
	f.jobs[d.location()] = d
}

func (f *inFlight) remove(d *Delivery) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.jobs[d.location()] == d {
		delete(f.jobs, d.location())
	}
}

// has reports whether a job is in flight in this process, by whatever delivery.
func (f *inFlight) has(job *Delivery) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.jobs[job.location()] != nil
}

// adopt reports whether the job of a new delivery is in flight in this process already. The server has then forgotten that
// it delivered the job, and the earlier Delivery is settled through the new message from now on.
func (f *inFlight) adopt(d *Delivery) bool {
	f.mu.Lock()
	known := f.jobs[d.location()]
	f.mu.Unlock()
	if known == nil {
		return false
	}
	known.mu.Lock()
	defer known.mu.Unlock()
	if known.settled || known.ID != d.ID || known.Page != d.Page { // settled just now, or of a stream that is gone
		return false
	}
	known.msg = d.msg
	return true
}

// drop forgets every job in flight of a stream that is gone: their sequences may be those of other jobs in the stream
// that replaces it, and an acknowledgement would settle those.
func (f *inFlight) drop(stream string) {
	f.mu.Lock()
	var jobs []*Delivery
	for at, d := range f.jobs {
		if at.stream == stream {
			jobs = append(jobs, d)
			delete(f.jobs, at)
		}
	}
	f.mu.Unlock()
	for _, d := range jobs {
		d.mu.Lock()
		d.streamGone = true
		d.mu.Unlock()
	}
}

func (f *inFlight) run() {
	defer close(f.done)
	every := time.NewTicker(f.lease / renewEvery)
	defer every.Stop()
	var renewing sync.WaitGroup
	defer renewing.Wait()
	for {
		select {
		case <-every.C:
		case <-f.ctx.Done():
			return
		}
		for _, d := range f.due() {
			renewing.Go(func() { d.renew(f.ctx) })
		}
	}
}

// due returns the jobs whose lease is to be renewed, except those that are being settled or renewed.
func (f *inFlight) due() (due []*Delivery) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, d := range f.jobs {
		if d.mu.TryLock() {
			if time.Since(d.renewedAt) >= f.lease/renewAfter {
				due = append(due, d)
			}
			d.mu.Unlock()
		}
	}
	return due
}

func (f *inFlight) close() {
	f.stop()
	f.begin.Do(func() { close(f.done) })
	<-f.done
}
