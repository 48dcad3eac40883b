package capture

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v4"
	"go.uber.org/zap"
	"golang.org/x/time/rate"

	"github.com/brazier-relay/brazier/queue"
	"github.com/brazier-relay/brazier/sendapi/webhook"
	"github.com/brazier-relay/brazier/worker"
)

// Config is what a Handler needs. Queue is required, opened with RoadBack.
type Config struct {
	Queue *queue.Queue
	Pages []Page
	Log   *zap.Logger // default: nothing is logged
}

// Handler makes updates of events. It is safe for concurrent use.
type Handler struct {
	q         *queue.Queue
	log       *zap.Logger
	pages     atomic.Pointer[map[string]*Page]
	metrics   *metrics
	lostLines rate.Sometimes
	floods    *worker.Floods

	beforeEntry func(n int) error // an error in tests, where a worker is killed before it writes the n-th entry, or after the last
}

// New checks the configuration.
func New(cfg Config) (*Handler, error) {
	if cfg.Queue == nil {
		return nil, errors.New("capture: Queue is missing")
	}
	if cfg.Log == nil {
		cfg.Log = zap.NewNop()
	}
	h := &Handler{q: cfg.Queue, log: cfg.Log, metrics: newMetrics(), lostLines: rate.Sometimes{Interval: lostEvery}, floods: worker.NewFloods(cfg.Log), beforeEntry: func(int) error { return nil }}
	return h, h.SetPages(cfg.Pages)
}

// SetPages makes these the pages whose events are captured, at any time. Events of other pages wait. After an error nothing has
// changed.
func (h *Handler) SetPages(pages []Page) error {
	next := make(map[string]*Page, len(pages))
	for _, p := range pages {
		if err := p.setDefaults(); err != nil {
			return err
		}
		next[p.ID] = &p
		h.metrics.expect(p.Name)
	}
	h.pages.Store(&next)
	return nil
}

func (h *Handler) page(id string) *Page { return (*h.pages.Load())[id] }

// lostEvery is the least time between two lines about what Braze is never told.
const lostEvery = time.Minute

// contendedFor is how long other events of the same person are waited for. One whose worker was killed comes back after a lease.
const contendedFor = 20 * time.Second

// unknownFor is how long an event waits for a worker that knows its page: longer than two versions of a page file are in use.
const unknownFor = 7 * 24 * time.Hour

// retryDelays are between attempts at an event that cannot be captured now.
var retryDelays = worker.Delays{First: 2 * time.Second, Max: 5 * time.Minute}

// Handle captures one event, or the outcome of a message. It may be called again for the same one, whatever became of the first call.
func (h *Handler) Handle(ctx context.Context, job *queue.Delivery) worker.Verdict {
	var e webhook.Event
	err := json.Unmarshal(job.Body, &e)
	if job.Lane == queue.Outcomes && e.Kind == "" { // else it is a receipt
		return h.outcome(ctx, job)
	}
	if err != nil || e.Page == "" {
		return unreadable("the event cannot be read: it was stored by a newer version, or by hand")
	}
	page, v := h.pageOf(job)
	if page == nil {
		return v
	}
	result, err := h.take(ctx, page, &e)
	if err != nil {
		return h.later(err.Error())
	}
	h.metrics.event(page, string(e.Kind), result)
	if h.log.Core().Enabled(zap.DebugLevel) {
		h.log.Debug("event captured", zap.String("event", "captured"), zap.String("id", job.ID), zap.String("page", page.Name),
			zap.String("recipient", shortened(e.PSID)), zap.String("kind", string(e.Kind)), zap.String("result", result), zap.Time("at", e.At))
	}
	return done
}

var done = worker.Verdict{Outcome: worker.Delivered}

func unreadable(why string) worker.Verdict {
	return worker.Verdict{Outcome: worker.Dead, Class: ClassUnreadable, Text: why}
}

// pageOf returns the page of a job, or else what is done about the job.
func (h *Handler) pageOf(job *queue.Delivery) (*Page, worker.Verdict) {
	page := h.page(job.Page)
	switch {
	case page != nil:
		return page, worker.Verdict{}
	case !job.Accepted.IsZero() && h.q.Now().Sub(job.Accepted) > unknownFor:
		return nil, unreadable("no worker has the page in its page file, and has not had it for a week")
	}
	return nil, h.later("no page of this worker has the id " + job.Page)
}

// take takes in one event and returns what it was good for.
func (h *Handler) take(ctx context.Context, page *Page, e *webhook.Event) (result string, err error) {
	switch {
	case e.Kind == webhook.KindPolicy:
		h.log.Error("Facebook enforces its policy on the page", zap.String("event", "policy_enforcement"), zap.String("page", page.Name),
			zap.String("action", e.Action), zap.String("reason", e.Reason))
		return "told", nil
	case e.Kind == webhook.KindDelivery, e.Kind == webhook.KindRead:
		return h.receipt(ctx, page, e)
	case !e.Kind.ByPerson():
		return "ignored", nil
	}
	references, err := page.References()
	if err != nil {
		return "", fmt.Errorf("the secrets for references cannot be read: %w", err)
	}
	ref, found := h.reference(page, e, references)
	err = h.untilUnchanged(ctx, func() (err error) {
		result, err = h.capture(ctx, page, e, ref, found)
		return err
	})
	return result, err
}

// untilUnchanged repeats what goes by entries while other events of the same person change these.
func (h *Handler) untilUnchanged(ctx context.Context, try func() error) error {
	again := queue.Backoff(5*time.Millisecond, 500*time.Millisecond)
	again.MaxElapsedTime = contendedFor
	return backoff.Retry(func() error {
		err := try()
		if err != nil && !errors.Is(err, queue.ErrChanged) {
			return backoff.Permanent(err)
		}
		return err
	}, backoff.WithContext(again, ctx))
}

// InDoubt is part of [worker.Handler]. An event can be captured twice without harm.
func (h *Handler) InDoubt(_ *queue.Delivery, cause string) worker.Verdict { return h.later(cause) }

// ClassUnreadable is the class of an event of which nothing can be made.
const ClassUnreadable = "unreadable"

func (h *Handler) later(why string) worker.Verdict {
	return worker.Verdict{Outcome: worker.Retry, Class: "capture", Text: why, Delays: retryDelays}
}

// reference returns the first valid reference of an event. What is refused is logged, unless it does not claim to be one.
func (h *Handler) reference(page *Page, e *webhook.Event, references webhook.RefPolicy) (ref webhook.Ref, found bool) {
	for _, f := range e.Refs {
		ref, err := references.Check(f.Ref, e.At) // by the event's time, however late it is captured
		if err == nil {
			return ref, true
		}
		var refused *webhook.RefError
		if errors.As(err, &refused) && refused.Reason != webhook.RefNotOurs {
			h.refuse(page, e, string(refused.Reason), err.Error())
		}
	}
	return webhook.Ref{}, false
}

func (h *Handler) refuse(page *Page, e *webhook.Event, cause, reason string) {
	h.metrics.reference(page, cause)
	if h.floods.Allow(worker.LineKind{Event: "ref_refused", Page: page.Name, Class: cause}) {
		h.log.Warn("reference refused, nobody is linked by it", zap.String("event", "ref_refused"), zap.String("page", page.Name),
			zap.String("recipient", shortened(e.PSID)), zap.String("cause", cause), zap.String("reason", reason))
	}
}

// shortened is how logs name a person.
func shortened(psid string) string {
	return "…" + psid[max(len(psid)-4, 0):]
}

// capture brings what is known of the person up to the event. It returns what the event was good for.
func (h *Handler) capture(ctx context.Context, page *Page, e *webhook.Event, ref webhook.Ref, found bool) (result string, err error) {
	l := ledger{q: h.q, page: page, beforeEntry: h.beforeEntry}
	p, err := l.person(ctx, e.PSID)
	if err != nil {
		return "", err
	}
	alias := page.Aliases && p.Ref == "" && !found && e.Opens
	if p.Ref == "" && !found && !alias {
		return "unknown", nil // nobody knows who that is, and nothing is kept
	}
	who := p.User
	switch {
	case found:
		who = userOf(ref)
	case alias:
		who = User{Alias: e.PSID}
	}
	u, err := l.user(ctx, who.key())
	if err != nil {
		return "", err
	}
	result, became := "contact", verdict("")
	if found || alias {
		var before *user
		if p.Ref != "" && p.User != who {
			if before, err = l.user(ctx, p.User.key()); err != nil {
				return "", err
			}
		}
		r := use{Ref: ref.Fingerprint, Made: ref.Made.Unix(), At: e.At.UnixMilli()}
		switch {
		case alias:
			r = use{Ref: aliasRef, At: r.At}
		case ref.Made.IsZero(): // it has no end: it counts as made when it was used
			r.Made = e.At.Unix()
		}
		became, l.changes = link(e.PSID, p, u, before, r, who, page.Reusable)
		result = string(became)
		if p.Ref != "" && p.User != who { // the contact is that of the user whom the person is linked with
			if u, err = l.user(ctx, p.User.key()); err != nil {
				return "", err
			}
		}
	}
	if u.PSID == e.PSID && u.Ref == p.Ref && !u.Linked { // another event is about to link the person with another user
		return "", queue.ErrChanged
	}
	if u.Linked && u.PSID == e.PSID && e.Opens {
		l.change(u.contact(e.At))
	}
	if err := l.commit(ctx, e.Key); err != nil {
		return "", err
	}
	if err := h.inbound(ctx, page, e, u); err != nil {
		return "", err
	}
	// Known by this very event: a worker was killed before it told of the link.
	if found && (became == linked || became == known && u.At == e.At.UnixMilli()) {
		err := h.publishLinked(ctx, page, e.PSID, event{Kind: EventLinked, User: who, At: e.At.UnixMilli(), Ref: ref.Fingerprint,
			Properties: map[string]any{"page_id": page.ID, "how": ref.Form.Field()}})
		if err != nil {
			return "", err
		}
	}
	if found {
		h.tell(page, e, ref, became)
	}
	return result, nil
}

// inbound tells Braze that the person did something, once the entries say so: the attributes that follow from it are stored before. u is
// the user whom the person is linked with.
func (h *Handler) inbound(ctx context.Context, page *Page, e *webhook.Event, u *user) error {
	if !e.Opens || !u.Linked || u.PSID != e.PSID {
		return nil
	}
	return h.publishEvent(ctx, page, event{Kind: EventInbound, User: u.User, At: e.At.UnixMilli(),
		Properties: map[string]any{"page_id": page.ID, "kind": string(e.Kind)}}, e.Key)
}

// tell logs what became of a reference.
func (h *Handler) tell(page *Page, e *webhook.Event, ref webhook.Ref, became verdict) {
	switch became {
	case linked:
		h.metrics.reference(page, string(linked))
		fields := []zap.Field{zap.String("event", "linked"), zap.String("page", page.Name), zap.String("recipient", shortened(e.PSID)),
			zap.String("ref", ref.Fingerprint), zap.String("id_kind", ref.Form.Field()), zap.Time("made", ref.Made)}
		if ref.Form == webhook.FormBrazeID || h.log.Core().Enabled(zap.DebugLevel) {
			fields = append(fields, zap.String("user", ref.ID))
		}
		h.log.Info("person linked with a user", fields...)
	case older:
		h.refuse(page, e, string(older), "the person or the user has a reference that was made later")
	case foreign:
		h.refuse(page, e, string(foreign), "it came from another person before: a link was forwarded")
	case known:
		h.metrics.reference(page, string(known))
	}
}
