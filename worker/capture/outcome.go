package capture

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"go.uber.org/zap"

	"github.com/brazier-relay/brazier/queue"
	"github.com/brazier-relay/brazier/sendapi"
	"github.com/brazier-relay/brazier/sendapi/webhook"
	"github.com/brazier-relay/brazier/worker"
)

// outcome is what became of a message, as it is stored. Where the message comes from is in the job's headers, as the message's own.
type outcome struct {
	ID        string        `json:"id"`             // of the message's job
	PSID      string        `json:"psid,omitempty"` // empty where the message named its recipient otherwise
	At        int64         `json:"at"`             // when it ended, Unix milliseconds
	Delivered bool          `json:"ok,omitempty"`
	Begun     int64         `json:"begun,omitempty"` // of the call by which it was delivered, Unix milliseconds
	MID       string        `json:"mid,omitempty"`
	Class     sendapi.Class `json:"class,omitempty"` // of a message that is dead, as the next two
	Code      int           `json:"code,omitempty"`
	Subcode   int           `json:"subcode,omitempty"`
}

// storeFor is for how long the settlement of a message waits until its outcome is stored: longer than an election of the server's
// takes, and half a lease.
const storeFor = queue.Lease / 2

// Ended stores what becomes of a message, if Braze is to know: see [worker.Config.Ended]. Where it cannot be stored, it is lost and
// counted, and the message is settled all the same.
func (h *Handler) Ended(ctx context.Context, job *queue.Delivery, end worker.End) {
	page := h.page(job.Page)
	if page == nil || !page.wants(end) {
		return
	}
	request, err := sendapi.Parse("application/json", job.Body)
	if err == nil && !request.IsMessage() { // typing_on and the like
		return
	}
	o := outcome{ID: job.ID, At: h.q.Now().UnixMilli(), Delivered: end.Delivered, MID: end.MessageID,
		Class: sendapi.Class(end.Reason.Class), Code: end.Reason.Code, Subcode: end.Reason.Subcode}
	if end.Delivered {
		o.Begun = end.Begun.UnixMilli()
	}
	if err == nil { // another program's job is told of without a PSID
		o.PSID, _ = request.Recipient.PSID() // none: nobody is written to be out of reach
	}
	// The same id whatever the end, so that the first one counts: a message that was taken, and whose settlement was lost, may end as a
	// dead letter in doubt. Without a key the id is kept for some minutes after the outcome is captured: longer than it takes until a
	// message is delivered again whose worker was killed.
	id := queue.KeyedID(job.Page, "outcome "+job.ID)
	ctx, cancel := context.WithTimeout(ctx, storeFor)
	defer cancel()
	_, err = h.q.Publish(ctx, &queue.Job{ID: id, Page: job.Page, Lane: queue.Outcomes, Recipient: job.Recipient,
		RecipientDigest: job.RecipientDigest, Tracking: job.Tracking, Accepted: h.q.Now(), Body: encode(o)})
	if err != nil {
		h.lost(page, o.kind(), err)
	}
}

// wants reports whether anything is to be made of an end.
func (p *Page) wants(end worker.End) bool {
	if end.Delivered {
		return p.Events[EventSent] != "" || p.Receipts()
	}
	class := sendapi.Class(end.Reason.Class)
	return p.Events[EventFailed] != "" || class == sendapi.ClassRecipient || class == sendapi.ClassWindow
}

// Receipts reports whether Braze is told what Facebook's receipts say of the page's messages.
func (p *Page) Receipts() bool { return p.Events[EventDelivered] != "" || p.Events[EventRead] != "" }

func (o *outcome) kind() EventKind {
	if o.Delivered {
		return EventSent
	}
	return EventFailed
}

// outcome makes of what became of a message what Braze is to know. It may be called again for the same one.
func (h *Handler) outcome(ctx context.Context, job *queue.Delivery) worker.Verdict {
	var o outcome
	if err := json.Unmarshal(job.Body, &o); err != nil || o.ID == "" {
		return unreadable("the outcome of a message cannot be read: it was stored by a newer version, or by hand")
	}
	page, v := h.pageOf(job)
	if page == nil {
		return v
	}
	who, err := h.user(ctx, page, &o, job.Tracking)
	if err == nil && who == (User{}) {
		h.metrics.event(page, string(o.kind()), "no_user")
	}
	if err == nil {
		err = h.publishEvent(ctx, page, o.event(who, page, job.Tracking), o.ID)
	}
	if err == nil && o.PSID != "" {
		if o.Delivered {
			err = h.remember(ctx, page, &o, who, job.Tracking)
		} else {
			err = h.refused(ctx, page, &o, who)
		}
	}
	if err != nil {
		return h.later(err.Error())
	}
	return done
}

// user returns whom an outcome is told of: the user whom the caller named, else the one whom the PSID is linked with; none if nobody
// knows.
func (h *Handler) user(ctx context.Context, page *Page, o *outcome, from queue.Tracking) (User, error) {
	switch {
	case webhook.IsBrazeID(from.User):
		return User{BrazeID: from.User}, nil
	case from.ExternalID != "":
		return User{ExternalID: from.ExternalID}, nil
	case o.PSID == "":
		return User{}, nil
	}
	found, _, err := FindPSID(ctx, h.q, page.ID, o.PSID)
	if err != nil || !found.Linked {
		return User{}, err
	}
	return found.User, nil
}

func (o *outcome) event(who User, page *Page, from queue.Tracking) event {
	p := about(page.ID, o.ID, from, o.MID)
	if !o.Delivered {
		p["class"], p["reason"] = string(o.Class), short(o.Class.Sentence())
		for name, n := range map[string]int{"code": o.Code, "subcode": o.Subcode} {
			if n != 0 {
				p[name] = n
			}
		}
	}
	return event{Kind: o.kind(), User: who, At: o.At, Properties: p}
}

// refused writes that the person cannot be reached, or that the window is closed.
func (h *Handler) refused(ctx context.Context, page *Page, o *outcome, who User) error {
	if o.Class != sendapi.ClassRecipient && o.Class != sendapi.ClassWindow {
		return nil
	}
	return h.untilUnchanged(ctx, func() error {
		l := ledger{q: h.q, page: page, beforeEntry: h.beforeEntry}
		p, err := l.person(ctx, o.PSID)
		if err != nil {
			return err
		}
		if p.Ref != "" {
			who = p.User
		}
		if who == (User{}) {
			return nil
		}
		u, err := l.user(ctx, who.key())
		if err != nil {
			return err
		}
		if p.Ref == "" && (u.Ref == "" || u.Ref == toldRef && u.PSID == o.PSID) { // the user was written first, perhaps alone
			p.use, p.User = use{Ref: toldRef}, who
			u.use, u.User, u.PSID, u.Linked = p.use, who, o.PSID, true
		}
		switch {
		case u.PSID != o.PSID: // the user writes from another PSID now, or the PSID is another user's
			return nil
		case !u.Linked && u.Ref == p.Ref: // another event is about to link them
			return queue.ErrChanged
		case !u.Linked:
			return nil
		}
		l.change(u.refuse(o.Class, time.UnixMilli(o.At)))
		return l.commit(ctx, "outcome "+o.ID)
	})
}

// lost counts what Braze is never told, and says so now and then.
func (h *Handler) lost(page *Page, kind EventKind, err error) {
	h.metrics.lost.WithLabelValues(page.Name, string(kind)).Inc()
	h.lostLines.Do(func() {
		h.log.Error("Braze is never told of some messages", zap.String("event", "outcome_lost"), zap.String("page", page.Name),
			zap.String("kind", string(kind)), zap.Error(err))
	})
}

// unlessFull counts an event that the queue has no room for as lost, and returns other errors.
func (h *Handler) unlessFull(page *Page, kind EventKind, err error) error {
	if !errors.Is(err, queue.ErrFull) {
		return err
	}
	h.lost(page, kind, err)
	return nil
}
