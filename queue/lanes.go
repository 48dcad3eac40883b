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
// Every job has a subject of its own, so the server cannot say cheaply for which pages and lanes there are any. Whoever
// publishes the first job of a lane therefore leaves a marker, brazier.lanes.<page>.<lane>, before it. Markers stay: a
// worker serves each lane that ever had a job, and no others, since the server asks every consumer of a stream about every
// message that is settled (nats-server 2.15.2, checkForInterestWithSubject).

const laneSubjects = "brazier.lanes."

// PageLane is a lane of a page, by the page's Facebook id.
type PageLane struct {
	Page string
	Lane Lane
}

// lanes are those that this process has announced.
type lanes struct {
	q *Queue

	mu        sync.Mutex
	announced map[PageLane]bool
}

func newLanes(q *Queue) *lanes { return &lanes{q: q, announced: map[PageLane]bool{}} }

// announce makes sure of a lane's marker. Only the first job of a lane pays for it.
func (l *lanes) announce(ctx context.Context, lane PageLane) error {
	l.mu.Lock()
	known := l.announced[lane]
	l.mu.Unlock()
	if known {
		return nil
	}
	ctx, cancel := l.q.answerable(ctx)
	defer cancel()
	marker := &nats.Msg{Subject: laneSubjects + lane.Page + "." + string(lane.Lane)}
	if _, err := l.q.js.PublishMsg(ctx, marker, jetstream.WithRetryAttempts(0)); err != nil {
		return fmt.Errorf("announce lane: %w", l.q.missing(unanswered(ctx, err)))
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.announced[lane] = true
	return nil
}

// again announces every lane anew: the stream is another.
func (l *lanes) again(ctx context.Context) {
	l.mu.Lock()
	announced := l.announced
	l.announced = map[PageLane]bool{}
	l.mu.Unlock()
	for lane := range announced {
		_ = l.announce(ctx, lane) // after an error the lane's next job does it
	}
}

// Lanes returns the lanes that ever had a job, in one request to the server.
func (q *Queue) Lanes(ctx context.Context) ([]PageLane, error) {
	began, caller := time.Now(), ctx
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	info, err := q.jobs.Info(ctx, jetstream.WithSubjectFilter(laneSubjects+">"))
	if err == nil {
		err = led(info.Cluster)
	}
	if caller.Err() == nil {
		q.waits.note(readsOf(StreamJobs), began, err)
	}
	q.reach.note(err == nil) // workers ask often, also those that have nothing else to say to the stream
	if q.missing(err) != nil {
		return nil, fmt.Errorf("queue: lanes: %w", redact(err))
	}
	found := make([]PageLane, 0, len(info.State.Subjects))
	for subject := range info.State.Subjects {
		page, lane, _ := strings.Cut(strings.TrimPrefix(subject, laneSubjects), ".")
		found = append(found, PageLane{page, Lane(lane)})
	}
	return found, nil
}
