// Package deliver is the handler of send jobs: it posts a job's body to the Send API and turns Facebook's answer into a
// verdict.
//
// What an answer means is decided in package sendapi, as a class. What is done about a class is decided here, in one
// table (see policies). Nothing here knows how a job is put back, held or buried.
package deliver

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"

	"github.com/brazier-relay/brazier/queue"
	"github.com/brazier-relay/brazier/sendapi"
	"github.com/brazier-relay/brazier/worker"
)

// InDoubt is what to do with a message of which nobody knows whether it was sent.
type InDoubt string

const (
	// Resend sends it again: it may arrive twice.
	Resend InDoubt = "resend"
	// Park makes it a dead letter of class in_doubt: it may never arrive, until a person replays it.
	Park InDoubt = "park"
)

// Page is how to send for a Facebook page.
type Page struct {
	ID   string // Facebook page id
	Name string // how logs name it; default ID
	// Credentials is asked before each call, so that a new token is used without a restart. It must be quick and safe
	// for concurrent use. After an error this process does not send for the page.
	Credentials func() (sendapi.Credentials, error)
	InDoubt     InDoubt // default Resend
	// Metadata sends the job's id along as the message's metadata, where it has none of its own. Facebook does not show it
	// to people, and repeats it in the message_echoes webhook: by that, messages that arrived twice can be found.
	Metadata bool
}

// Config is what the handlers of all pages have in common. Client is required, and not owned.
type Config struct {
	Client *sendapi.Client
	// ProbeEvery is the time between probes of a page that may not send, by Facebook's word on permissions, policy or
	// restriction. Default [DefaultProbeEvery].
	ProbeEvery time.Duration
	Log        *zap.Logger // default: nothing is logged
}

// DefaultProbeEvery is our choice: a person has to act first, and calls in vain do a restricted page no good.
const DefaultProbeEvery = 30 * time.Minute

// Handler delivers the send jobs of one page. It is safe for concurrent use.
type Handler struct {
	client     *sendapi.Client
	page       Page
	probeEvery time.Duration
	log        *zap.Logger
}

// New checks the configuration.
func New(cfg Config, page Page) (*Handler, error) {
	if cfg.Log == nil {
		cfg.Log = zap.NewNop()
	}
	if cfg.ProbeEvery == 0 {
		cfg.ProbeEvery = DefaultProbeEvery
	}
	if page.Name == "" {
		page.Name = page.ID
	}
	if page.InDoubt == "" {
		page.InDoubt = Resend
	}
	switch {
	case cfg.Client == nil:
		return nil, errors.New("deliver: Client is missing")
	case page.Credentials == nil:
		return nil, fmt.Errorf("deliver: page %s: Credentials is missing", page.Name)
	case page.InDoubt != Resend && page.InDoubt != Park:
		return nil, fmt.Errorf("deliver: page %s: InDoubt is %q, not resend or park", page.Name, page.InDoubt)
	}
	return &Handler{client: cfg.Client, page: page, probeEvery: cfg.ProbeEvery, log: cfg.Log}, nil
}

// Handle sends one message, unless it is in doubt and its page wants such messages parked.
func (h *Handler) Handle(ctx context.Context, job *queue.Delivery) worker.Verdict {
	if job.InDoubt {
		h.inDoubt(job, job.Doubt)
		if h.page.InDoubt == Park {
			return worker.Verdict{Outcome: worker.Dead, Class: sendapi.ClassInDoubt, Text: "it may have been sent: " + job.Doubt}
		}
	}
	cred, err := h.page.Credentials()
	if err != nil {
		return h.verdict(&sendapi.Error{Class: sendapi.ClassAuth}, err.Error())
	}
	body := job.Body
	if h.page.Metadata {
		body = sendapi.WithMetadata(body, job.ID)
	}
	began := time.Now()
	receipt, err := h.client.Send(ctx, cred, body)
	took := time.Since(began)
	if err == nil {
		v := worker.Verdict{Outcome: worker.Delivered, MessageID: receipt.MessageID, Usage: receipt.Usage, Took: took}
		if receipt.Unnamed() {
			v.Class, v.Text = sendapi.ClassDeliveredAnyway, "Facebook took it and named no message"
		}
		return v
	}
	v := h.failed(ctx, job, err)
	v.Took = took
	if v.Class == sendapi.ClassAuth {
		v.Credentials = cred.Fingerprint()
	}
	return v
}

func (h *Handler) failed(ctx context.Context, job *queue.Delivery, err error) worker.Verdict {
	var fb *sendapi.Error
	if !errors.As(err, &fb) { // Send promises one; whatever this is, the message may have gone out
		fb = &sendapi.Error{Class: sendapi.ClassInDoubt}
	}
	v := h.verdict(fb, err.Error())
	switch {
	case fb.Class == sendapi.ClassInDoubt:
		h.inDoubt(job, err.Error())
		if h.page.InDoubt == Park {
			v.Outcome = worker.Dead
		}
	case fb.Class == sendapi.ClassTransient && ctx.Err() != nil:
		// The worker is being stopped and nothing was sent: this was no attempt.
		v.Outcome = worker.Release
	}
	return v
}

func (h *Handler) inDoubt(job *queue.Delivery, cause string) {
	fields := []zap.Field{zap.String("event", "in_doubt"), zap.String("id", job.ID), zap.String("page", h.page.Name),
		zap.String("lane", string(job.Lane)), zap.Int("attempt", job.Attempts+1), zap.String("cause", cause),
		zap.String("action", string(h.page.InDoubt))}
	h.log.Warn("message may have been sent", append(fields, worker.TrackingFields(h.log, job)...)...)
}
