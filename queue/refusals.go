package queue

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
)

// refusals tells callers that wait for an answer that the server refuses their request. The server reports that on the
// connection, and does not answer the request.
type refusals struct {
	mu      sync.Mutex
	waiting map[int]pendingRequest // by ticket
	last    int                    // ticket
	recent  []denial               // the latest, one for each subject without its last token
}

// denial is a permission violation that the server reported.
type denial struct {
	subject    string
	at         time.Time
	lastLogged time.Time
}

// denialsKept bounds how many denials are remembered.
const denialsKept = 32

// pendingRequest is a request that waits for its answer.
type pendingRequest struct {
	subject string
	cancel  context.CancelCauseFunc
}

// during calls with a context that ends with errNotAllowed when the server refuses a request to the subject.
func (r *refusals) during(ctx context.Context, subject string, call func(context.Context) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	r.mu.Lock()
	if r.waiting == nil {
		r.waiting = make(map[int]pendingRequest)
	}
	r.last++
	ticket := r.last
	r.waiting[ticket] = pendingRequest{subject, cancel}
	r.mu.Unlock()
	defer func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.waiting, ticket)
	}()
	err := call(ctx)
	if err != nil && errors.Is(context.Cause(ctx), errNotAllowed) {
		return errNotAllowed
	}
	return err
}

// receive takes an error of the connection, and reports whether it needs no log line: a caller that waits for the
// answer logs it, or it was logged a short while ago. A user who may not listen to inboxes gets no answer at all; that
// is still logged.
func (r *refusals) receive(err error) (handled bool) {
	if !errors.Is(err, nats.ErrPermissionViolation) {
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	inbox := strings.Contains(err.Error(), `Subscription to "`+inboxPrefix)
	for _, w := range r.waiting {
		refused := strings.Contains(err.Error(), strconv.Quote(w.subject))
		if refused || inbox {
			w.cancel(errNotAllowed)
		}
		handled = handled || refused
	}
	known := r.remember(err.Error())
	if !handled && time.Since(known.lastLogged) < refusalLogEvery {
		return true
	}
	if !handled {
		known.lastLogged = time.Now()
	}
	return handled
}

// remember notes a denial by its text, and returns what is known of it. r.mu is held.
func (r *refusals) remember(text string) *denial {
	_, subject, _ := strings.Cut(text, `"`)
	subject, _, _ = strings.Cut(subject, `"`)
	kind := subject[:strings.LastIndexByte(subject, '.')+1] // the last token may be the id of a job
	now := time.Now()
	for i := range r.recent {
		if r.recent[i].subject == kind {
			r.recent[i].at = now
			return &r.recent[i]
		}
	}
	if len(r.recent) == denialsKept {
		r.recent = r.recent[1:]
	}
	r.recent = append(r.recent, denial{subject: kind, at: now})
	return &r.recent[len(r.recent)-1]
}

// recently reports whether a request was refused that may be the reason why a dependency does not answer.
func (r *refusals) recently(what dependency) bool {
	parts := []string{"." + what.stream + ".", inboxPrefix}
	stream, number := partitionOfStream(what.stream)
	switch stream {
	case StreamJobs:
		parts = append(parts, subjectsOfPartition(jobSubjects, number), subjectsOfPartition(laneSubjects, number))
	case StreamEvents, StreamOutcomes, StreamUpdates:
		for _, r := range routes {
			if r.stream == what.stream {
				parts = append(parts, r.subjects)
			}
		}
	case StreamRecords:
		parts = append(parts, subjectsOfPartition(recordSubjects, number))
	case StreamDead:
		parts = append(parts, deadSubjects)
	case StreamCampaigns:
		parts = append(parts, campaignSubjects)
	case streamOf(BucketPages), streamOf(BucketPace), streamOf(BucketAlive), streamOf(BucketPeople), streamOf(BucketSent):
		parts = append(parts, "$"+strings.ReplaceAll(what.stream, "_BRAZIER", ".BRAZIER")+".")
	}
	if what.kind == onConsumer {
		parts = []string{"." + consumerName(what.page, what.lane) + ".", inboxPrefix}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.ContainsFunc(r.recent, func(d denial) bool {
		return time.Since(d.at) < refusalCounts && slices.ContainsFunc(parts, func(part string) bool { return strings.Contains(d.subject+".", part) })
	})
}
