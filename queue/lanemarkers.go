package queue

import (
	"context"
	"errors"
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

// laneMarkers are the markers that this process leaves in one partition.
type laneMarkers struct {
	q     *Queue
	p     *partition
	every time.Duration // LaneSilence, less in tests

	mu        sync.Mutex
	announced map[PageLane]time.Time // when the marker was last left
}

func newLaneMarkers(q *Queue, p *partition) *laneMarkers {
	return &laneMarkers{q: q, p: p, every: LaneSilence, announced: map[PageLane]time.Time{}}
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
	marker := &nats.Msg{Subject: m.p.laneSubject + lane.Page + "." + string(lane.Lane)}
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
	var subs []*nats.Subscription
	defer func() {
		for _, sub := range subs {
			_ = sub.Unsubscribe()
		}
	}()
	subscribe := func() error {
		for _, p := range q.partitions()[len(subs):] {
			sub, err := q.nc.ChanSubscribe(p.laneSubject+"*.*", heard)
			if err != nil {
				return fmt.Errorf("queue: watch lanes: %w", redact(err))
			}
			subs = append(subs, sub)
		}
		return nil
	}
	grown := q.grown()
	if err := subscribe(); err != nil {
		return err
	}
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
		case <-grown:
			grown = q.grown()
			if err := subscribe(); err != nil {
				return err
			}
			clear(known) // a lane may have jobs there already
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

// laneOf returns the lane of a marker: brazier.lanes.<page>.<lane>, in any partition.
func laneOf(marker string) PageLane {
	tokens := strings.Split(marker, ".")
	return PageLane{tokens[len(tokens)-2], Lane(tokens[len(tokens)-1])}
}

// Lanes returns the lanes that ever had a job, by one request to the server for each partition. One whose page has
// moved may be there twice. With an error it returns those of the partitions that answered.
func (q *Queue) Lanes(ctx context.Context) (found []PageLane, err error) {
	for _, p := range q.partitions() {
		lanes, failed := q.lanesIn(ctx, p)
		found, err = append(found, lanes...), errors.Join(err, failed)
	}
	return found, err
}

func (q *Queue) lanesIn(ctx context.Context, p *partition) ([]PageLane, error) {
	began, caller := time.Now(), ctx
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	info, err := p.jobs.Info(ctx, jetstream.WithSubjectFilter(p.laneSubject+">"))
	if err == nil {
		err = led(info.Cluster)
	}
	if caller.Err() == nil {
		q.waits.observe(readsOf(p.jobsName), began, err)
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
