package queue

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"time"
)

// Counters of campaigns
//
// Once the ingress has answered 202, Braze counts a message as sent whatever becomes of it later. So each process counts
// what it stored and settled, by campaign, and adds that to counters on the server once a second:
//
//	brazier.campaigns.<campaign>.<day>.<dispatch>.<page>.<counter>
//
//	campaign   the message's campaign, else its canvas. A message without either is not counted
//	day        on which the message was accepted, in UTC, such as 20261126
//	dispatch   the message's dispatch; =none, or =other: see maxDispatches
//	page       the Facebook page id, or =all for the times
//	counter    accepted, duplicate, delivered, dead-<class>, doubt, replayed-<class>, discarded, took-<milliseconds>
//
// An id that cannot be a part of a subject is replaced by = and a digest of it, which no other token can be.
//
//	Publish, Done, DeadLetter, … ─▶ add ─▶ sums ──take, each second──▶ countBatch ─▶ store ──▶ BRAZIER_CAMPAIGNS
//	                                                                      ▲ └─failed─┘ the same batch, a second later
//
// What is counted has happened: the write that it is about was acknowledged. A batch has an id, by which the server knows
// it when its acknowledgement was lost. A process that is killed loses what it counted in the last second, and what it
// could not write while the server was away. A message whose Publish ended in [ErrUnavailable] and that was stored all the
// same is not counted as accepted.
//
// Nothing waits for counters. Where the stream is missing, or this user may not write to it, counting goes on in memory, in
// bounds, and the log tells that once.

const campaignSubjects = "brazier.campaigns."

// The counters. Each but those of times is counted by page.
const (
	countAccepted  = "accepted"
	countDuplicate = "duplicate" // requests that were answered as duplicates
	countDelivered = "delivered"
	countDead      = "dead-"     // and the class of the dead letter
	countDoubt     = "doubt"     // attempts that ended in doubt and were requeued
	countReplayed  = "replayed-" // and the class of the dead letter that was requeued
	countDiscarded = "discarded" // messages that were removed while they waited
	countTook      = "took-"     // and the bound of the time from accepted to delivered: see tookBounds
)

// Tokens that no id can be: see token.
const (
	noDispatch      = "=none"
	otherDispatches = "=other"
	allPages        = "=all"
)

// reasonInDoubt is the reason with which package worker retries a message whose attempt ended in doubt. It is a class of
// package sendapi.
const reasonInDoubt = "in_doubt"

// maxToken is the longest id that is a token as it is. The ids of Braze have 24 to 36 characters.
const maxToken = 64

// token returns a part of a subject for an id of any form.
func token(id string) string {
	if len(id) <= maxToken && isID(id) {
		return id
	}
	sum := sha256.Sum256([]byte(id))
	return "=" + hex.EncodeToString(sum[:16])
}

func dispatchToken(dispatch string) string {
	if dispatch == "" {
		return noDispatch
	}
	return token(dispatch)
}

// campaignOf returns the id under which a job is counted, empty where it is not.
func campaignOf(j *Job) string {
	if !j.Lane.isMessage() {
		return ""
	}
	return cmp.Or(j.Tracking.Campaign, j.Tracking.Canvas)
}

// day is a day in UTC: the number of days since 1970.
type day int32

const daySeconds = 24 * 60 * 60

func dayOf(t time.Time) day {
	seconds := t.Unix()
	if seconds < 0 {
		return 0
	}
	return day(seconds / daySeconds)
}

func (d day) time() time.Time { return time.Unix(int64(d)*daySeconds, 0).UTC() }

const dayLayout = "20060102"

func (d day) String() string { return d.time().Format(dayLayout) }

// countKey names a counter by the ids as they were given.
type countKey struct {
	campaign string
	day      day
	dispatch string // a token already
	page     string
	counter  string
}

func (k countKey) subject() string {
	return campaignSubjects + strings.Join([]string{token(k.campaign), k.day.String(), k.dispatch, k.page, k.counter}, ".")
}

// countPublished and the others count what has become of a job. They are called after that is stored.
func (q *Queue) countPublished(j *Job, duplicate bool) {
	counter := countAccepted
	if duplicate {
		counter = countDuplicate
	}
	q.counters.add(j, j.Page, counter)
}

func (q *Queue) countDelivered(j *Job) {
	if campaignOf(j) == "" {
		return
	}
	q.counters.add(j, j.Page, countDelivered)
	q.counters.add(j, allPages, tookCounter(q.Now().Sub(j.Accepted)))
}

func (q *Queue) countDead(j *Job, class string) {
	q.counters.add(j, j.Page, countDead+token(class))
}

func (q *Queue) countReplayed(l *DeadLetter) {
	q.counters.add(&l.Job, l.Page, countReplayed+token(l.Class))
}
