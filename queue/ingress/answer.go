package ingress

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/brazier-relay/brazier/queue"
	"github.com/brazier-relay/brazier/sendapi"
)

// refusal is an answer other than 202. Its text is what the marketer reads in Braze, cut short: the reason first, then
// the remedy. It holds nothing of the caller's values.
type refusal struct {
	status int
	reason string // as metrics name it
	kind   string // finer than reason, for the log; may be empty
	text   string
	after  int   // seconds for Retry-After, with 503
	cause  error // why the queue did not take the job; nil if it was not asked
}

// Seconds to wait before a repetition, as Retry-After tells them. Braze then backs off exponentially by itself.
const (
	retryFull        = 30 // a full queue empties at the pages' rates
	retryUnavailable = 5  // a new stream leader is there within 4 to 9 s
)

// visit is one request at the door.
type visit struct {
	began  time.Time
	caller netip.Addr // where it comes from; see Door.caller
	page   *knownPage // that its key names; nil until then
	job    *queue.Job // what it asks for; nil until then
	held   int64      // bytes of the room
	whole  bool       // its body was read to the end
}

func (v *visit) pageName() string {
	if v.page == nil {
		return ""
	}
	return v.page.Name
}

func (d *Door) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if closing := d.respond(w, r); closing {
		discardBody(w, r)
	}
}

// respond answers a request, and reports whether its connection is to be closed with bytes of the body unread.
func (d *Door) respond(w http.ResponseWriter, r *http.Request) (closing bool) {
	d.underway.Add(1)
	defer d.underway.Add(-1)
	v := visit{began: time.Now(), caller: d.caller(r)}
	stored, refused := d.handle(w, r, &v)
	d.room.give(v.held)
	if refused != nil {
		closing = r.ProtoMajor == 1 && !v.whole && !finishBody(w, r)
		if closing {
			w.Header().Set("Connection", "close")
		}
		d.refuse(w, r, &v, refused)
		return closing
	}
	status, result := "queued", resultAccepted
	if stored.Duplicate {
		status, result = "duplicate", resultDuplicate
	}
	answer(w, http.StatusAccepted, struct {
		ID     string `json:"id"`
		Status string `json:"status"`
	}{v.job.ID, status})
	took := time.Since(v.began)
	d.metrics.answered(v.page.Name, http.StatusAccepted, result, took)
	if !stored.Duplicate {
		d.metrics.bytes.WithLabelValues(v.page.Name).Add(float64(len(v.job.Body)))
	}
	d.logStored(v.page, v.job, stored, took)
	return false
}

// handle takes a request as far as it comes. A panic is a defect of ours, and after the next release, or in another
// process, the same request may pass: Braze is asked to repeat it.
func (d *Door) handle(w http.ResponseWriter, r *http.Request, v *visit) (stored queue.Stored, refused *refusal) {
	defer func() {
		if p := recover(); p != nil {
			// Its type alone: its text may hold what was posted.
			d.log.Error("door panicked", zap.String("event", "panic"), zap.String("page", v.pageName()),
				zap.String("cause", fmt.Sprintf("%T", p)), zap.ByteString("stack", debug.Stack()))
			refused = &refusal{status: http.StatusServiceUnavailable, reason: reasonDefect, text: "the relay has a defect: try again", after: retryFull}
		}
	}()
	if refused = d.admit(w, r, v); refused != nil {
		return queue.Stored{}, refused
	}
	stored, err := d.store(r.Context(), v.job)
	if err == nil {
		return stored, nil
	}
	refused = unstored(err)
	if r.Context().Err() != nil {
		refused.reason = reasonGone // nobody reads the answer
	}
	refused.cause = err
	return queue.Stored{}, refused
}

func (d *Door) logStored(page *knownPage, job *queue.Job, stored queue.Stored, took time.Duration) {
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

// admit checks a request in the order in which it costs more: address, path, method, key, page, body.
func (d *Door) admit(w http.ResponseWriter, r *http.Request, v *visit) (refused *refusal) {
	if !d.allowed(v.caller) {
		return &refusal{status: http.StatusForbidden, reason: reasonAddress, text: "requests from this address are not taken: see --allow-from of the relay"}
	}
	target, ok := route(r.URL.Path)
	if !ok {
		return &refusal{status: http.StatusNotFound, reason: reasonPath, text: noRoute(r)}
	}
	if r.Method != http.MethodPost {
		return &refusal{status: http.StatusMethodNotAllowed, reason: reasonMethod, text: "method is not POST: set the webhook's HTTP method to POST"}
	}
	if d.draining.Load() {
		return &refusal{status: http.StatusServiceUnavailable, reason: reasonDraining, text: "the relay is closing: try again", after: retryUnavailable}
	}
	if v.page, refused = d.authenticate(w, r); refused != nil {
		return refused
	}
	if target != "me" && target != v.page.ID {
		return &refusal{status: http.StatusForbidden, reason: reasonPage, text: "the key is of another page: use the page's own key, or /me/messages"}
	}
	if encoding := r.Header.Get("Content-Encoding"); encoding != "" && !strings.EqualFold(encoding, "identity") {
		return invalid(sendapi.Compressed())
	}
	body, refused := d.body(w, r, v)
	if refused != nil {
		return refused
	}
	v.whole = true
	v.job, refused = d.read(r, v.page, body)
	return refused
}

// errCrowded says that as many requests wait for the queue as may.
var errCrowded = errors.New("too many requests wait for the queue")

// store publishes the job, and waits for the queue as long as the caller, the door and Config.Wait allow.
func (d *Door) store(ctx context.Context, job *queue.Job) (queue.Stored, error) {
	if !d.room.enter() {
		return queue.Stored{}, errCrowded
	}
	defer d.room.leave()
	ctx, cancel := context.WithTimeout(ctx, d.cfg.Wait)
	defer cancel()
	defer context.AfterFunc(d.waiting, cancel)()
	return d.cfg.Queue.Publish(ctx, job)
}

func crowded() *refusal {
	return &refusal{status: http.StatusServiceUnavailable, reason: reasonCrowded, text: "too many requests wait for the queue: try again", after: retryUnavailable}
}

func unstored(err error) *refusal {
	switch {
	case errors.Is(err, queue.ErrKeyReused):
		return &refusal{status: http.StatusConflict, reason: reasonConflict, text: "the idempotency key was used for another recipient: put the user into it, as in {{campaign.${dispatch_id}}}/{{${braze_id}}}"}
	case errors.Is(err, errCrowded):
		return crowded()
	case errors.Is(err, queue.ErrPageFull):
		return &refusal{status: http.StatusServiceUnavailable, reason: reasonPageFull, text: "the queue is full for this page, whose messages wait to be delivered: try again later", after: retryFull}
	case errors.Is(err, queue.ErrFull):
		return &refusal{status: http.StatusServiceUnavailable, reason: reasonFull, text: "the queue is full: try again later", after: retryFull}
	case errors.Is(err, queue.ErrTooLarge):
		return &refusal{status: http.StatusRequestEntityTooLarge, reason: reasonTooLarge, text: "the message is over the queue's limit for one message: shorten it"}
	default:
		return &refusal{status: http.StatusServiceUnavailable, reason: reasonUnavailable, text: "the queue cannot be reached: try again", after: retryUnavailable}
	}
}

func (d *Door) refuse(w http.ResponseWriter, r *http.Request, v *visit, why *refusal) {
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
	d.metrics.answered(v.pageName(), why.status, why.reason, time.Since(v.began))
	refusals := d.strangers
	if v.page != nil {
		refusals = v.page.refusals
	}
	if refusals.allow() {
		d.logRefused(r, v, why)
	}
}

func (d *Door) logRefused(r *http.Request, v *visit, why *refusal) {
	remote := r.RemoteAddr
	if len(d.cfg.TrustedProxies) > 0 {
		remote = v.caller.String()
	}
	fields := []zap.Field{zap.String("event", "rejected"), zap.String("page", v.pageName()), zap.String("reason", why.text),
		zap.String("cause", cmp.Or(why.kind, why.reason)), zap.Int("status", why.status), zap.String("remote", remote)}
	for _, f := range [...]struct{ key, header string }{
		{"campaign", "X-Brazier-Campaign"}, {"dispatch", "X-Brazier-Dispatch"}, {"user", "X-Brazier-User"},
	} {
		h := headers{Header: r.Header}
		if value := h.text(f.header); value != "" && h.refused == nil {
			fields = append(fields, zap.String(f.key, value))
		}
	}
	d.log.Warn("request rejected", fields...)
	if why.cause != nil && why.status != http.StatusConflict {
		d.log.Error("message not stored", zap.String("event", "store_error"), zap.String("page", v.pageName()), zap.Error(why.cause))
	}
}

func answer(w http.ResponseWriter, status int, body any) {
	b, _ := json.Marshal(body) // cannot fail: strings and numbers
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(b)))
	w.WriteHeader(status)
	_, _ = w.Write(b) // the caller has gone; what was stored stays stored, and it will ask again
}
