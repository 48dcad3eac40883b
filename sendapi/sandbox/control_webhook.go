package sandbox

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"
)

// webhookJSON is what PUT /webhook takes and GET /webhook shows. What is absent stays as it is. Secrets are never shown.
type webhookJSON struct {
	URL         *string   `json:"url,omitempty"`
	App         string    `json:"app,omitempty"` // whose secret and verify token are meant; default: the first
	Secret      string    `json:"secret,omitempty"`
	VerifyToken string    `json:"verify_token,omitempty"`
	Timeout     *duration `json:"timeout,omitempty"`
	RetryEvery  *duration `json:"retry_every,omitempty"`
	RetryFor    *duration `json:"retry_for,omitempty"`
	Batch       *int      `json:"batch,omitempty"`
	Parallel    *int      `json:"parallel,omitempty"`
	Shuffle     *bool     `json:"shuffle,omitempty"`
	Receipts    *bool     `json:"receipts,omitempty"`
	Twice       *int      `json:"receipts_twice,omitempty"`
}

// apply changes the fields of a webhook that are given.
func (j webhookJSON) apply(h *Webhook) error {
	i := h.appIndex(j.App)
	if i < 0 {
		return FieldError{"App", fmt.Sprintf("must be one of the apps (got %q)", clip(j.App, 40))}
	}
	setTo(&h.URL, j.URL)
	if j.Secret != "" {
		h.Apps[i].Secret = j.Secret
	}
	if j.VerifyToken != "" {
		h.Apps[i].VerifyToken = j.VerifyToken
	}
	setTo((*duration)(&h.Timeout), j.Timeout)
	setTo((*duration)(&h.RetryEvery), j.RetryEvery)
	setTo((*duration)(&h.RetryFor), j.RetryFor)
	setTo(&h.Batch, j.Batch)
	setTo(&h.Parallel, j.Parallel)
	setTo(&h.Shuffle, j.Shuffle)
	setTo(&h.Receipts, j.Receipts)
	setTo(&h.ReceiptsTwice, j.Twice)
	return nil
}

func setTo[T any](field, value *T) {
	if value != nil {
		*field = *value
	}
}

func (s *Sandbox) controlSetWebhook(r *http.Request) (any, error) {
	var j webhookJSON
	if err := decode(r.Body, &j); err != nil {
		return nil, err
	}
	return okay, s.changeWebhook(r.Context(), j.apply)
}

func (s *Sandbox) controlWebhook(*http.Request) (any, error) {
	h := s.webhook()
	state := struct {
		webhookJSON
		Apps []string `json:"apps"`
	}{webhookJSON{URL: &h.URL, Timeout: (*duration)(&h.Timeout), RetryEvery: (*duration)(&h.RetryEvery), RetryFor: (*duration)(&h.RetryFor),
		Batch: &h.Batch, Parallel: &h.Parallel, Shuffle: &h.Shuffle, Receipts: &h.Receipts, Twice: &h.ReceiptsTwice}, nil}
	for _, a := range h.Apps {
		state.Apps = append(state.Apps, a.Name)
	}
	return state, nil
}

func (s *Sandbox) controlDeliveries(r *http.Request) (any, error) {
	q, err := parseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, err
	}
	if q.Page+q.Recipient != "" || !q.Since.IsZero() {
		return nil, errors.New("query: the only parameter is limit")
	}
	type delivery struct {
		Delivery
		Duration duration `json:"duration"`
	}
	list := []delivery{}
	for _, d := range s.Deliveries(q.Limit) {
		list = append(list, delivery{d, duration(d.Duration)})
	}
	return struct {
		Counts     WebhookCounts `json:"counts"`
		Deliveries []delivery    `json:"deliveries"`
	}{s.WebhookCounts(), list}, nil
}

// writeJSON is a Write on the wire.
type writeJSON struct {
	Page      string `json:"page"`
	Kind      string `json:"kind"`
	Text      string `json:"text"`
	Ref       string `json:"ref"`
	Payload   string `json:"payload"`
	New       bool   `json:"new"`
	MID       string `json:"mid"`
	Timestamp int64  `json:"timestamp"` // Unix time in milliseconds
	Times     int    `json:"times"`
	Repeat    int    `json:"repeat"`
	Persons   int    `json:"persons"`
}

func (s *Sandbox) controlWrite(r *http.Request) (any, error) {
	var j writeJSON
	if err := decode(r.Body, &j); err != nil {
		return nil, err
	}
	w := Write{Page: j.Page, Kind: j.Kind, Text: j.Text, Ref: j.Ref, Payload: j.Payload, New: j.New, MID: j.MID, Times: j.Times,
		Repeat: j.Repeat, Persons: j.Persons}
	if j.Timestamp != 0 {
		w.At = time.UnixMilli(j.Timestamp)
	}
	return s.Write(r.PathValue("psid"), w)
}

// controlPolicy takes {"action":"warning","reason":"…"}.
func (s *Sandbox) controlPolicy(r *http.Request) (any, error) {
	var j struct {
		Action string `json:"action"`
		Reason string `json:"reason"`
	}
	if err := decode(r.Body, &j); err != nil {
		return nil, err
	}
	return okay, s.Policy(r.PathValue("id"), j.Action, j.Reason)
}

// controlSubscribe takes {"fields":["messages"]}.
func (s *Sandbox) controlSubscribe(r *http.Request) (any, error) {
	var j struct {
		Fields []string `json:"fields"`
	}
	if err := decode(r.Body, &j); err != nil {
		return nil, err
	}
	return okay, s.Subscribe(r.PathValue("id"), slices.Clone(j.Fields)...)
}

func (s *Sandbox) controlUnsubscribe(r *http.Request) (any, error) {
	return okay, s.Subscribe(r.PathValue("id"))
}
