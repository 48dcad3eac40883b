package ingress

import (
	"context"
	"encoding/json"
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

// exchange is one request and its answer.
type exchange struct {
	began     time.Time
	caller    netip.Addr // see Server.caller
	page      *knownPage // that the key names; nil until the key is known
	job       *queue.Job // nil until the request is read
	bodyBytes int64      // reserved of the limits until the message is stored or refused
	whole     bool       // the body was read to its end
}

func (e *exchange) pageName() string {
	if e.page == nil {
		return ""
	}
	return e.page.Name
}

func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if closing := s.respond(w, r); closing {
		discardBody(w, r)
	}
}

// respond answers a request, and reports whether its connection is to be closed with bytes of the body unread.
func (s *Server) respond(w http.ResponseWriter, r *http.Request) (closing bool) {
	s.underway.Add(1)
	defer s.underway.Add(-1)
	if apps := s.apps.Load(); apps != nil && isWebhook(r.URL.Path) {
		return s.respondWebhook(w, r, apps)
	}
	e := exchange{began: time.Now(), caller: s.caller(r)}
	stored, refused := s.handle(w, r, &e)
	s.limits.releaseBytes(e.bodyBytes)
	if refused != nil {
		closing = mustClose(w, r, e.whole)
		s.refuse(w, r, &e, refused)
		return closing
	}
	status, result := "queued", resultAccepted
	if stored.Duplicate {
		status, result = "duplicate", resultDuplicate
	}
	writeJSON(w, http.StatusAccepted, struct {
		ID     string `json:"id"`
		Status string `json:"status"`
	}{e.job.ID, status})
	took := time.Since(e.began)
	s.metrics.observe(e.page.Name, http.StatusAccepted, result, took)
	if !stored.Duplicate {
		s.metrics.bytes.WithLabelValues(e.page.Name).Add(float64(len(e.job.Body)))
	}
	s.logStored(e.page, e.job, stored, took)
	return false
}

// handle stores the message of a request, or returns why not. A panic is a defect of Brazier: the request is refused with
// 503, so that Braze retries it. The same request may pass in another process or after the next release.
func (s *Server) handle(w http.ResponseWriter, r *http.Request, e *exchange) (stored queue.Stored, refused *refusal) {
	defer func() {
		if p := recover(); p != nil {
			refused = s.defect(p, e.pageName())
		}
	}()
	if refused = s.admit(w, r, e); refused != nil {
		return queue.Stored{}, refused
	}
	stored, err := s.store(r.Context(), e.job)
	if err == nil {
		return stored, nil
	}
	refused = storeRefusal(err)
	if r.Context().Err() != nil {
		refused.reason = reasonGone // nobody reads the answer
	}
	refused.cause = err
	return queue.Stored{}, refused
}

// defect logs a panic, and returns what to answer.
func (s *Server) defect(p any, page string) *refusal {
	// Only the type is logged: the text of a panic may contain what was posted.
	s.log.Error("request handler panicked", zap.String("event", "panic"), zap.String("page", page),
		zap.String("cause", fmt.Sprintf("%T", p)), zap.ByteString("stack", debug.Stack()))
	return &refusal{status: http.StatusServiceUnavailable, reason: reasonDefect, text: "an internal error occurred in Brazier: try again", after: retryFull}
}

// admit checks a request, the cheapest check first: address, path, method, key, page, body. It fills in the exchange.
func (s *Server) admit(w http.ResponseWriter, r *http.Request, e *exchange) (refused *refusal) {
	if !s.allowed(e.caller) {
		return &refusal{status: http.StatusForbidden, reason: reasonAddress, text: "requests from this address are not allowed: add the address to --allow-from of Brazier"}
	}
	target, ok := route(r.URL.Path)
	if !ok {
		return &refusal{status: http.StatusNotFound, reason: reasonPath, text: noRoute(r)}
	}
	if r.Method != http.MethodPost {
		return &refusal{status: http.StatusMethodNotAllowed, reason: reasonMethod, text: "the method is not POST: set the HTTP method of the webhook to POST"}
	}
	if s.draining.Load() {
		return draining()
	}
	if e.page, refused = s.authenticate(w, r, e); refused != nil {
		return refused
	}
	if target != "me" && target != e.page.ID {
		return &refusal{status: http.StatusForbidden, reason: reasonPage, text: "the key belongs to another page: use the key of this page, or post to /me/messages"}
	}
	if encoding := r.Header.Get("Content-Encoding"); encoding != "" && !strings.EqualFold(encoding, "identity") {
		return invalid(sendapi.Compressed())
	}
	body, refused := s.limits.body(w, r, &e.bodyBytes)
	if refused != nil {
		return refused
	}
	e.whole = true
	e.job, refused = s.read(r, e.page, body)
	return refused
}

// store publishes the job. It waits for the queue for up to Config.Wait, and no longer than the caller does or than Run
// allows while it ends.
func (s *Server) store(ctx context.Context, job *queue.Job) (queue.Stored, error) {
	if !s.limits.acquire() {
		return queue.Stored{}, errOverloaded
	}
	defer s.limits.release()
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Wait)
	defer cancel()
	defer context.AfterFunc(s.waiting, cancel)()
	return s.cfg.Queue.Publish(ctx, job)
}

func (s *Server) logStored(page *knownPage, job *queue.Job, stored queue.Stored, took time.Duration) {
	event, msg, level := "accepted", "message accepted", zap.DebugLevel
	if stored.Duplicate {
		event, msg = "duplicate", "message was accepted before"
	}
	if stored.BodyDiffers {
		level = zap.WarnLevel // the key may be too coarse, so that messages that should be sent count as duplicates
	}
	line := s.log.Check(level, msg)
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

func writeJSON(w http.ResponseWriter, status int, body any) {
	b, _ := json.Marshal(body) // cannot fail: strings and numbers
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(b)))
	w.WriteHeader(status)
	_, _ = w.Write(b) // an error means that the caller left; what was stored stays stored, and the caller retries
}
