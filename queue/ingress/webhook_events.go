package ingress

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/brazier-relay/brazier/queue"
	"github.com/brazier-relay/brazier/sendapi"
	"github.com/brazier-relay/brazier/sendapi/webhook"
)

// tally counts what became of the events of one webhook, for its line at level debug.
type tally struct {
	stored, duplicates             atomic.Int64
	receipts, skipped, unknownPage int
	names                          []string // of what was skipped, see skippedName
}

// maxNames bounds tally.names.
const maxNames = 8

// take stores the events of a signed body. result is how the answer 200 is counted.
func (s *Server) take(r *http.Request, n *notification, body []byte) (result string, refused *refusal) {
	if !s.webhooks.limits.acquire() { // before the events take memory
		return "", overloaded()
	}
	defer s.webhooks.limits.release()
	now := s.cfg.Queue.Now()
	batch, err := webhook.Parse(body, now)
	if err != nil { // and would not parse the next time either
		if s.webhooks.signed.allow() {
			s.log.Error("a signed webhook cannot be read", zap.String("event", "webhook_unreadable"), zap.String("app", n.signers[0].Name),
				zap.Int("bytes", n.size), zap.Error(err))
		}
		return resultUnreadable, nil
	}
	var t tally
	s.countSkipped(batch.Skipped, &t)
	jobs := s.jobsOf(batch.Events, n, now, &t)
	if err := s.storeEvents(r.Context(), jobs, n, &t); err != nil {
		refused = storeRefusal(err)
		refused.status, refused.after, refused.cause = http.StatusServiceUnavailable, max(refused.after, retryUnavailable), err
		if r.Context().Err() != nil {
			refused.reason = reasonGone
		}
	}
	s.logEvents(n, &t)
	return resultAccepted, refused
}

func (s *Server) countSkipped(skipped []webhook.Skipped, t *tally) {
	t.skipped = len(skipped)
	for _, k := range skipped {
		s.webhooks.metrics.event(k.Kind, "skipped_"+string(k.Why))
		if name := skippedName(k); len(t.names) < maxNames && !slices.Contains(t.names, name) {
			t.names = append(t.names, name)
		}
	}
}

// skippedName says which events were skipped and why, such as "unknown message_context: unknown".
func skippedName(k webhook.Skipped) string {
	name := string(k.Kind)
	if k.Name != "" {
		name += " " + k.Name
	}
	return name + ": " + string(k.Why)
}

// eventJob is an event that is to be stored.
type eventJob struct {
	kind webhook.Kind
	job  *queue.Job
}

// jobsOf makes jobs of the events that are to be stored, and counts the others.
func (s *Server) jobsOf(events []webhook.Event, n *notification, now time.Time, t *tally) []eventJob {
	jobs := make([]eventJob, 0, len(events))
	for i := range events {
		e := &events[i]
		switch {
		case !slices.ContainsFunc(n.signers, func(a *knownApp) bool { return a.pages[e.Page] }):
			t.unknownPage++
			s.webhooks.metrics.event(e.Kind, eventUnknownPage)
			n.known.logUnknown(s.log, n.signers[0], e.Page)
		case e.Kind.IsReceipt() && !n.storesReceipt(e):
			t.receipts++
			s.webhooks.metrics.event(e.Kind, eventReceipt)
		default:
			jobs = append(jobs, eventJob{e.Kind, eventToJob(e, now)})
		}
	}
	return jobs
}

// storesReceipt reports whether a receipt is stored: an echo never is, since it tells nothing that the answer of the Send API did not.
func (n *notification) storesReceipt(e *webhook.Event) bool {
	return e.Kind != webhook.KindEcho && slices.ContainsFunc(n.signers, func(a *knownApp) bool { return a.receipts[e.Page] })
}

func eventToJob(e *webhook.Event, now time.Time) *queue.Job {
	body, _ := json.Marshal(e) // cannot fail: strings, and times between 2016 and now
	id := queue.KeyedID(e.Page, "webhook "+e.Key)
	// The job's key is shown with dead letters, and the event's key contains the whole PSID.
	job := &queue.Job{ID: id, Page: e.Page, Lane: queue.Events, Key: "webhook " + id, Accepted: now, Body: body}
	if e.PSID != "" {
		job.Recipient, job.RecipientDigest = sendapi.PSID(e.PSID).Short(), sendapi.PSID(e.PSID).Digest()
	}
	if e.Kind.IsReceipt() { // one that is captured again changes nothing, and there are two for each message
		job.Lane, job.Key = queue.Outcomes, ""
	}
	return job
}

// storeEvents publishes the events side by side, since the queue stores in one batch the jobs that wait together. It returns once each is
// stored, or one cannot be stored and the others on their way are settled.
func (s *Server) storeEvents(ctx context.Context, jobs []eventJob, n *notification, t *tally) error {
	ctx, cancel := context.WithDeadline(ctx, n.began.Add(webhookTime))
	defer cancel()
	defer context.AfterFunc(s.waiting, cancel)()
	var failed atomic.Pointer[error]
	var underway sync.WaitGroup
	for _, j := range jobs {
		if failed.Load() != nil { // Facebook repeats all of them
			break
		}
		select {
		case s.webhooks.publishing <- struct{}{}:
		case <-ctx.Done():
			err := fmt.Errorf("%w: too many events wait for it", queue.ErrUnavailable)
			failed.CompareAndSwap(nil, &err)
			continue
		}
		underway.Go(func() {
			defer func() { <-s.webhooks.publishing }()
			stored, err := s.cfg.Queue.Publish(ctx, j.job)
			switch {
			case errors.Is(err, queue.ErrFull) && j.job.Lane == queue.Outcomes: // people come first
				s.webhooks.metrics.event(j.kind, eventNoRoom)
			case err != nil:
				failed.CompareAndSwap(nil, &err)
			case stored.Duplicate:
				t.duplicates.Add(1)
				s.webhooks.metrics.event(j.kind, eventDuplicate)
			default:
				t.stored.Add(1)
				s.webhooks.metrics.event(j.kind, eventStored)
			}
		})
	}
	underway.Wait()
	if err := failed.Load(); err != nil {
		return *err
	}
	return nil
}

func (s *Server) logEvents(n *notification, t *tally) {
	if line := s.log.Check(zap.DebugLevel, "events of a webhook"); line != nil {
		line.Write(zap.String("event", "webhook_events"), zap.String("app", n.signers[0].Name), zap.Int64("stored", t.stored.Load()),
			zap.Int64("duplicates", t.duplicates.Load()), zap.Int("receipts", t.receipts), zap.Int("unknown_page", t.unknownPage),
			zap.Int("skipped", t.skipped), zap.Strings("skipped_names", t.names), zap.Int("bytes", n.size),
			zap.Int64("took_ms", time.Since(n.began).Milliseconds()))
	}
}
