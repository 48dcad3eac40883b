package queue

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"
)

// laneOfJob returns the page and lane of the subject of a job, or of a record.
func laneOfJob(subject string) PageLane {
	if tokens := strings.Split(subject, "."); len(tokens) == 5 {
		return PageLane{tokens[2], Lane(tokens[3])}
	}
	return PageLane{}
}

// traceJobs tells of stored jobs and of records of a partition under the given subjects where they are. Records of claims and pointers
// are left out.
func (q *Queue) traceJobs(ctx context.Context, in *partition, jobs []*Delivery, subjects []string) (found []Traced, err error) {
	now, err := q.ServerTime(ctx)
	if err != nil {
		return nil, err
	}
	became, err := q.lastMessages(ctx, in.recordsName, subjects)
	if err != nil {
		return nil, err
	}
	records := make(map[string]*record, len(became))
	for _, msg := range became {
		if slices.Contains(Lanes(), laneOfJob(msg.Subject).Lane) {
			records[msg.Subject] = readRecord(msg)
		}
	}
	for _, d := range jobs {
		r := records[d.recordSubject()]
		if r.ofAnother(d.fingerprint) {
			r = nil
		} else {
			delete(records, d.recordSubject())
		}
		found = append(found, q.traceJob(d, r, now))
	}
	for subject, r := range records {
		at := laneOfJob(subject)
		found = append(found, r.traced(Job{ID: subject[strings.LastIndexByte(subject, '.')+1:], Page: at.Page, Lane: at.Lane}))
	}
	return found, nil
}

// traceJob tells where a stored job is.
func (q *Queue) traceJob(d *Delivery, r *record, now time.Time) Traced {
	job := d.Job
	job.Body = nil
	if r == nil {
		t := Traced{Job: job, State: TraceWaiting, At: job.Accepted}
		if n := len(job.Deaths); n > 0 {
			t.At = job.Deaths[n-1].Replayed
		}
		return t
	}
	t := r.traced(job)
	switch found, _ := r.judge(now, time.Time{}, q.cfg.lease, q.isGone); {
	case found == foundInDoubt:
		t.State, t.Doubt = TraceInDoubt, r.Doubt
		if r.State == stateBegun {
			t.Doubt = lostDoubt(r.at)
		}
	case found == foundLeased:
		t.State = TraceBegun
	case found != foundSettled:
		t.State = TraceWaiting
	}
	return t
}

// traced tells what a record says of a job that is not in the queue, unless the caller knows better.
func (r *record) traced(job Job) Traced {
	t := Traced{Job: job, State: TraceMissing, At: r.at, Attempts: r.Attempts, Lost: r.Lost, Tries: r.Tries, Reason: r.Reason, Worker: r.Worker}
	if r.NotBefore != 0 {
		t.NotBefore = time.UnixMilli(r.NotBefore)
	}
	switch {
	case r.State != stateDone:
	case r.Reason == discarded:
		t.State = TraceDiscarded
	case r.Reason != "":
		t.State = TraceDead
	default:
		t.State = TraceDelivered
		t.Attempts++ // the one that delivered it
	}
	return t
}

// TracedUser is what the queue has for a user of Braze.
type TracedUser struct {
	Messages []Traced // the ones that were accepted last, newest first
	More     bool     // there are older ones
}

// TraceUser returns the messages in the queue and the dead letters of a user, by the braze_id or the external id that their sender gave;
// most is from 1 to 1000. It reads every message and every dead letter, and calls reading, unless it is nil, with the number of those
// read so far. Messages that were delivered leave nothing to be found by. Requests are repeated until ctx ends.
func (q *Queue) TraceUser(ctx context.Context, user string, most int, reading func(n int)) (found TracedUser, err error) {
	read := 0
	one := func() {
		if read++; reading != nil {
			reading(read)
		}
	}
	theirs := func(j *Job) bool { return j.Tracking.User == user || j.Tracking.ExternalID == user }
	partitions := q.partitions()
	jobs := make([]newest[*Delivery], len(partitions))
	for i, p := range partitions {
		err = q.eachOf(ctx, p.store(), AllPages, func(d *Delivery) error {
			if one(); theirs(&d.Job) {
				d.Body = nil
				jobs[i].add(d, most)
			}
			return nil
		})
		if err != nil {
			return TracedUser{}, fmt.Errorf("queue: trace user: %w", redact(err))
		}
		found.More = found.More || jobs[i].more
	}
	var dead newest[Traced]
	f := DeadLetterFilter{each: one, Which: func(l *DeadLetter) bool { return l.Lane.isMessage() && theirs(&l.Job) }}
	err = q.walk(ctx, f, false, func(l DeadLetter) bool { dead.add(tracedDeadLetter(&l), most); return true })
	for i, p := range partitions {
		var records []string
		for _, d := range jobs[i].kept {
			records = append(records, d.recordSubject())
		}
		var traced []Traced
		if err == nil {
			traced, err = q.traceJobs(ctx, p, jobs[i].kept, records)
		}
		found.Messages = append(found.Messages, traced...)
	}
	if err != nil {
		return TracedUser{}, fmt.Errorf("queue: trace user: %w", redact(err))
	}
	found.Messages = slices.DeleteFunc(found.Messages, func(t Traced) bool { // settled a moment ago: its dead letter, if any, is in dead
		return t.State == TraceDead || t.State == TraceDelivered || t.State == TraceDiscarded
	})
	found.Messages = append(found.Messages, dead.kept...)
	slices.SortStableFunc(found.Messages, func(a, b Traced) int { return b.Accepted.Compare(a.Accepted) })
	found.More = found.More || dead.more || len(found.Messages) > most
	found.Messages = found.Messages[:min(len(found.Messages), most)]
	return found, nil
}

// newest keeps the last elements that were added.
type newest[T any] struct {
	kept []T
	more bool // others were added before
}

func (n *newest[T]) add(element T, most int) {
	if len(n.kept) == most {
		n.kept, n.more = n.kept[1:], true
	}
	n.kept = append(n.kept, element)
}
