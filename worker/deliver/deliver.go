// Package deliver is the handler of send jobs: it posts a job's body to the Send API and turns Facebook's answer into a
// verdict.
//
// What an answer means is decided in package sendapi, as a class. What is done about a class is decided here, in one
// table (see policies). Nothing here knows how a job is requeued, held or buried.
package deliver

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/brazier-relay/brazier/queue"
	"github.com/brazier-relay/brazier/sendapi"
	"github.com/brazier-relay/brazier/worker"
)

// InDoubt is what to do with a message of which nobody knows whether it was sent.
type InDoubt string

const (
	// Resend sends it again, [Page.Repeats] times at the most: it may arrive so many times more.
	Resend InDoubt = "resend"
	// Park makes it a dead letter of class in_doubt: it may never arrive, until a person replays it.
	Park InDoubt = "park"
)

// Page is how to send for a Facebook page.
type Page struct {
	ID   string // Facebook page id
	Name string // how errors name it; default ID
	// Credentials is asked before each call, so that a new token is used without a restart. It must be quick and safe
	// for concurrent use. After an error this process does not send for the page.
	Credentials func() (sendapi.Credentials, error)
	InDoubt     InDoubt // default Resend
	// Repeats is how often a message in doubt is sent again before it is parked (Resend), from 1 to [MaxRepeats]. Default
	// [DefaultRepeats].
	Repeats int
	// Metadata sends the job's id along as the message's metadata, where it has none of its own. Facebook does not show it
	// to people, and repeats it in the message_echoes webhook: by that, messages that arrived twice can be found.
	Metadata bool
}

// Config is what the handlers of all pages have in common. Client is required, and not owned.
type Config struct {
	Client *sendapi.Client
	// ProbeEvery is the time between probes of a page that may not send, by Facebook's answer on permissions, policy or
	// restriction. Default [DefaultProbeEvery].
	ProbeEvery time.Duration
}

const (
	// DefaultRepeats is our choice: who gets no answer twice rarely gets one at all, and each repetition may be a copy that a
	// person reads.
	DefaultRepeats = 1
	// MaxRepeats bounds the copies of a message that a person can get to four.
	MaxRepeats = 3
)

// DefaultProbeEvery is our choice: a person has to act first, and calls in vain do a restricted page no good.
const DefaultProbeEvery = 30 * time.Minute

// Handler delivers the send jobs of one page. It is safe for concurrent use.
type Handler struct {
	client     *sendapi.Client
	page       Page
	probeEvery time.Duration
}

// ConfigError is a setting of Config that cannot be used.
type ConfigError struct {
	Field string // of Config, such as "ProbeEvery"
	Fault string // what is allowed and what was given, such as "must not be negative (got -1s)"
}

func (e *ConfigError) Error() string { return "deliver: " + e.Field + ": " + e.Fault }

// Validate returns nil, or what is wrong with the settings, a *[ConfigError]. It does not need Client.
func (c Config) Validate() error {
	if c.ProbeEvery < 0 {
		return &ConfigError{"ProbeEvery", fmt.Sprintf("must not be negative (got %v)", c.ProbeEvery)}
	}
	return nil
}

// New checks the configuration.
func New(cfg Config, page Page) (*Handler, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
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
	if page.Repeats == 0 {
		page.Repeats = DefaultRepeats
	}
	switch {
	case cfg.Client == nil:
		return nil, errors.New("deliver: Client is missing")
	case page.Credentials == nil:
		return nil, fmt.Errorf("deliver: page %s: Credentials is missing", page.Name)
	case page.InDoubt != Resend && page.InDoubt != Park:
		return nil, fmt.Errorf("deliver: page %s: InDoubt is %q, not resend or park", page.Name, page.InDoubt)
	case page.Repeats < 1 || page.Repeats > MaxRepeats:
		return nil, fmt.Errorf("deliver: page %s: Repeats must be from 1 to %d (got %d)", page.Name, MaxRepeats, page.Repeats)
	}
	return &Handler{client: cfg.Client, page: page, probeEvery: cfg.ProbeEvery}, nil
}

// Handle sends one message, unless it is in doubt and has been sent again as often as its page allows.
func (h *Handler) Handle(ctx context.Context, job *queue.Delivery) worker.Verdict {
	if job.InDoubt {
		if v := h.inDoubt(job, &sendapi.Error{}, job.Doubt, doubts(job)); v.Outcome == worker.Dead {
			return v
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
	switch {
	case fb.Class == sendapi.ClassInDoubt:
		return h.inDoubt(job, fb, err.Error(), doubts(job)+1)
	case fb.Class == sendapi.ClassTransient && ctx.Err() != nil:
		// The worker is being stopped and nothing was sent: this was no attempt.
		return worker.Verdict{Outcome: worker.Release, Class: fb.Class, Usage: fb.Usage}
	}
	return h.verdict(fb, err.Error())
}

// InDoubt is part of [worker.Handler].
func (h *Handler) InDoubt(job *queue.Delivery, cause string) worker.Verdict {
	return h.inDoubt(job, &sendapi.Error{}, cause, doubts(job)+1)
}

// doubts is how many attempts with a message ended in doubt: without an answer, or with their worker.
func doubts(job *queue.Delivery) int { return job.Counts[string(sendapi.ClassInDoubt)] + job.Lost }

// inDoubt returns what is done about a message that is in doubt for the n-th time.
func (h *Handler) inDoubt(job *queue.Delivery, fb *sendapi.Error, cause string, n int) worker.Verdict {
	fb.Class = sendapi.ClassInDoubt
	v := h.verdict(fb, cause)
	if h.page.InDoubt == Park || n > h.page.Repeats {
		v.Outcome, v.Text = worker.Dead, "it may have been sent: "+cause
	}
	return v
}
