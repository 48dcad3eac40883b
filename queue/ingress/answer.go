package ingress

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"time"

	"go.uber.org/zap"

	"github.com/brazier-relay/brazier/queue"
)

// refusal is an answer other than 202. Its text is what the marketer reads in Braze, cut short: the reason first, then
// the remedy. It holds nothing of the caller's values.
type refusal struct {
	status int
	text   string
	after  int // seconds for Retry-After, with 503
}

// Seconds to wait before a repetition, as Retry-After tells them. Braze then backs off exponentially by itself.
const (
	retryFull        = 30 // a full queue empties at the pages' rates
	retryUnavailable = 5  // a new stream leader is there within 4 to 9 s
)

func (d *Door) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	d.underway.Add(1)
	defer d.underway.Add(-1)
	began := time.Now()
	page, job, refused := d.admit(w, r)
	if refused != nil {
		d.refuse(w, r, page, refused)
		return
	}
	stored, err := d.store(r.Context(), job)
	if err != nil {
		why := unstored(err)
		d.refuse(w, r, page, why)
		if why.status != http.StatusConflict {
			d.log.Error("message not stored", zap.String("event", "store_error"), zap.String("page", page.Name), zap.Error(err))
		}
		return
	}
	status := "queued"
	if stored.Duplicate {
		status = "duplicate"
	}
	answer(w, http.StatusAccepted, struct {
		ID     string `json:"id"`
		Status string `json:"status"`
	}{job.ID, status})
	d.logStored(page, job, stored, time.Since(began))
}

func (d *Door) logStored(page *Page, job *queue.Job, stored queue.Stored, took time.Duration) {
	event, msg, level := "accepted", "message accepted", zap.DebugLevel
	if stored.Duplicate {
		event, msg = "duplicate", "message was accepted before"
	}
	if stored.BodyDiffers {
		level = zap.WarnLevel // perhaps the key says too little, and swallows what should go out
	}
	line := d.log.Check(level, msg)
	if line == nil {
		return
	}
	fields := []zap.Field{zap.String("event", event), zap.String("id", job.ID), zap.String("page", page.Name), zap.String("lane", string(job.Lane)),
		zap.String("campaign", job.Tracking.Campaign), zap.String("dispatch", job.Tracking.Dispatch), zap.String("user", job.Tracking.User),
		zap.Int("bytes", len(job.Body)), zap.Int64("took_ms", took.Milliseconds())}
	if stored.Duplicate {
		fields = append(fields, zap.Bool("body_differs", stored.BodyDiffers))
	}
	line.Write(fields...)
}

// admit checks a request in the order in which it costs more: path, method, key, page, body.
func (d *Door) admit(w http.ResponseWriter, r *http.Request) (*Page, *queue.Job, *refusal) {
	target, ok := route(r.URL.Path)
	if !ok {
		return nil, nil, &refusal{status: http.StatusNotFound, text: "no such path: post to /v25.0/me/messages"}
	}
	if r.Method != http.MethodPost {
		return nil, nil, &refusal{status: http.StatusMethodNotAllowed, text: "method is not POST: set the webhook's HTTP method to POST"}
	}
	if d.draining.Load() {
		return nil, nil, &refusal{status: http.StatusServiceUnavailable, text: "the relay is closing: try again", after: retryUnavailable}
	}
	page, refused := d.authenticate(r)
	if refused != nil {
		return nil, nil, refused
	}
	if target != "me" && target != page.ID {
		return page, nil, &refusal{status: http.StatusForbidden, text: "the key is of another page: use the page's own key, or /me/messages"}
	}
	job, refused := d.read(w, r, page)
	return page, job, refused
}

// errCrowded says that as many requests wait for the queue as may.
var errCrowded = errors.New("too many requests wait for the queue")

// store publishes the job, and waits for the queue as long as the caller, the door and Config.Wait allow.
func (d *Door) store(ctx context.Context, job *queue.Job) (queue.Stored, error) {
	select {
	case d.places <- struct{}{}:
		defer func() { <-d.places }()
	default:
		return queue.Stored{}, errCrowded
	}
	ctx, cancel := context.WithTimeout(ctx, d.cfg.Wait)
	defer cancel()
	defer context.AfterFunc(d.waiting, cancel)()
	return d.cfg.Queue.Publish(ctx, job)
}

func unstored(err error) *refusal {
	switch {
	case errors.Is(err, queue.ErrKeyReused):
		return &refusal{status: http.StatusConflict, text: "the idempotency key was used for another recipient: put the user into it, as in {{campaign.${dispatch_id}}}/{{${braze_id}}}"}
	case errors.Is(err, errCrowded):
		return &refusal{status: http.StatusServiceUnavailable, text: "too many requests wait for the queue: try again", after: retryUnavailable}
	case errors.Is(err, queue.ErrFull):
		return &refusal{status: http.StatusServiceUnavailable, text: "the queue is full: try again later", after: retryFull}
	case errors.Is(err, queue.ErrTooLarge):
		return &refusal{status: http.StatusRequestEntityTooLarge, text: "the message is over the queue's limit for one message: shorten it"}
	default:
		return &refusal{status: http.StatusServiceUnavailable, text: "the queue cannot be reached: try again", after: retryUnavailable}
	}
}

func (d *Door) refuse(w http.ResponseWriter, r *http.Request, page *Page, why *refusal) {
	switch why.status {
	case http.StatusMethodNotAllowed:
		w.Header().Set("Allow", http.MethodPost)
	case http.StatusUnauthorized:
		w.Header().Set("WWW-Authenticate", "Bearer")
	case http.StatusServiceUnavailable:
		w.Header().Set("Retry-After", strconv.Itoa(why.after))
	}
	var body struct {
		Error struct {
			Message string `json:"message"`
			Code    int    `json:"code"` // the HTTP status
		} `json:"error"`
	}
	body.Error.Message, body.Error.Code = why.text, why.status
	answer(w, why.status, body)
	name := ""
	if page != nil {
		name = page.Name
	}
	d.log.Warn("request rejected", zap.String("event", "rejected"), zap.String("page", name), zap.String("reason", why.text),
		zap.Int("status", why.status), zap.String("remote", r.RemoteAddr))
}

func answer(w http.ResponseWriter, status int, body any) {
	b, _ := json.Marshal(body) // cannot fail: strings and numbers
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(b)))
	w.WriteHeader(status)
	_, _ = w.Write(b) // the caller has gone; what was stored stays stored, and it will ask again
}
