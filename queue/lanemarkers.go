package queue

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Which lanes there are
//
// Every job has a subject of its own, so the server cannot tell cheaply which pages and lanes have any. A process that
// publishes a job therefore leaves a marker, brazier.lanes.<page>.<lane>, before it: a message of the stream without
// content. Markers stay, and tell which lanes ever had a job. While a process publishes to a lane it leaves the lane's
// marker again every [LaneSilence], which replaces the one before. Workers subscribe to the markers' subjects and so
// learn of each at once, and fetch only from lanes that are in use: the server asks every consumer of a stream about
// every message that is settled (nats-server 2.15.2, checkForInterestWithSubject).
//
// The first marker of a process is acknowledged. The others are not and may be lost, and so may what a worker receives,
// since a subscription has no acknowledgement. A worker that relies on it also looks at [Queue.Pending] now and then.

const laneSubjects = "brazier.lanes."

// lanesBuffer is how many markers are kept that come while the server's answer is waited for. More than that are lost.
const lanesBuffer = 4096

// laneMarkers are the markers that this process leaves.
type laneMarkers struct {
	q     *Queue
	every time.Duration // LaneSilence, less in tests

	mu        sync.Mutex
	announced map[PageLane]time.Time // when the marker was last left
}

func newLaneMarkers(q *Queue) *laneMarkers {
	return &laneMarkers{q: q, every: LaneSilence, announced: map[PageLane]time.Time{}}
}

// announce makes sure that the lane's marker is there, and that workers learn of the lane. Only the first job of a lane
// waits for it.
func (m *laneMarkers) announce(ctx context.Context, lane PageLane) error {
	now := time.Now()
	m.mu.Lock()
	last, known := m.announced[lane]
	again := known && now.Sub(last) >= m.every
	if again {
		m.announced[lane] = now
	}
	m.mu.Unlock()
	marker := &nats.Msg{Subject: laneSubjects + lane.Page + "." + string(lane.Lane)}
	switch {
	case again:
		if m.q.nc.PublishMsg(marker) != nil { // the next job leaves it
			m.set(lane, last)
		}
		return nil
	case known:
		return nil
	}
	ctx, cancel := m.q.requestContext(ctx)
	defer cancel()
	if _, err := m.q.js.PublishMsg(ctx, marker, jetstream.WithRetryAttempts(0)); err != nil {
		return fmt.Errorf("announce lane: %w", m.q.reportMissing(noAnswer(ctx, err)))
	}
	m.set(lane, now)
	return nil
}

func (m *laneMarkers) set(lane PageLane, at time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.announced[lane] = at
}

// announceAll announces every lane again, in the stream that replaces another.
func (m *laneMarkers) announceAll(ctx context.Context) {
	m.mu.Lock()
	announced := m.announced
	m.announced = map[PageLane]time.Time{}
	m.mu.Unlock()
	for lane := range announced {
		_ = m.announce(ctx, lane) // after an error the lane's next job announces it
	}
}

// WatchLanes calls f, on the caller's goroutine, with lanes that may have jobs: at first and after each reconnect, when
// markers may have been missed, with every lane that ever had a job, and then with each lane while jobs are published
// to it, at least every half minute. Such a call may be missing. WatchLanes returns nil when ctx ends, and an error
// when the connection is closed for good.
func (q *Queue) WatchLanes(ctx context.Context, f func(PageLane)) error {
	heard := make(chan *nats.Msg, lanesBuffer)
	sub, err := q.nc.ChanSubscribe(laneSubjects+"*.*", heard)
	if err != nil {
		return fmt.Errorf("queue: watch lanes: %w", redact(err))
	}
	defer func() { _ = sub.Unsubscribe() }()
	back := q.nc.StatusChanged(nats.CONNECTED)
	defer q.nc.RemoveStatusListener(back)
	known := map[PageLane]bool{}
	ask := time.NewTimer(0)
	defer ask.Stop()
	for {
		select {
		case msg := <-heard:
			f(laneOf(msg.Subject))
		case <-back:
			clear(known)
			ask.Reset(0)
		case <-ask.C:
			lanes, err := q.Lanes(ctx) // Lanes notes an error as a wait
			for _, lane := range lanes {
				if !known[lane] {
					known[lane] = true
					f(lane)
				}
			}
			wait := lanesEvery
			if err != nil {
				wait = lanesRetry
			}
			ask.Reset(wait)
		case <-q.closed:
			return fmt.Errorf("queue: watch lanes: %w", nats.ErrConnectionClosed)
		case <-ctx.Done():
			return nil
		}
	}
}

func laneOf(marker string) PageLane {
	page, lane, _ := strings.Cut(strings.TrimPrefix(marker, laneSubjects), ".")
	return PageLane{page, Lane(lane)}
}

// Lanes returns the lanes that ever had a job, by one request to the server.
func (q *Queue) Lanes(ctx context.Context) ([]PageLane, error) {
	began, caller := time.Now(), ctx
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	info, err := q.jobs.Info(ctx, jetstream.WithSubjectFilter(laneSubjects+">"))
	if err == nil {
		err = led(info.Cluster)
	}
	if caller.Err() == nil {
		q.waits.observe(readsOf(StreamJobs), began, err)
	}
	q.reach.observe(err == nil) // workers call this often, also those that have no other request to the stream
	if q.reportMissing(err) != nil {
		return nil, fmt.Errorf("queue: lanes: %w", redact(err))
	}
	found := make([]PageLane, 0, len(info.State.Subjects))
	for subject := range info.State.Subjects {
		found = append(found, laneOf(subject))
	}
	return found, nil
}
