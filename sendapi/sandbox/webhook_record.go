package sandbox

import (
	"slices"
	"time"
)

// The states of a Delivery.
const (
	Waiting   = "waiting"   // under way, or to be repeated
	Delivered = "delivered" // answered 200 in time
	Dropped   = "dropped"   // abandoned after Webhook.RetryFor, or since the page is not subscribed any more
)

// Delivery is a body sent to the webhook, and what became of it. It holds nothing of the events.
type Delivery struct {
	ID       uint64    `json:"id"`
	At       time.Time `json:"at"`     // of the first attempt
	Pages    []string  `json:"pages"`  // ids, each once
	Events   int       `json:"events"` // in the body
	State    string    `json:"state"`
	Attempts int       `json:"attempts"` // that have ended
	// Status, Error and Duration are those of the last attempt. Status is 0 if there was no answer; Error is "status", "timeout",
	// "no answer" or empty.
	Status   int           `json:"status"`
	Error    string        `json:"error,omitempty"`
	Duration time.Duration `json:"-"`
}

func (d *Delivery) addPage(id string) {
	if !slices.Contains(d.Pages, id) {
		d.Pages = append(d.Pages, id)
	}
}

// WebhookCounts count events and deliveries since the start or the last reset of the record. Events = DeliveredEvents + Dropped +
// Waiting, plus those of Unsubscribed that had been waiting.
type WebhookCounts struct {
	Events          int `json:"events"`       // to be sent, repetitions included
	Unsubscribed    int `json:"unsubscribed"` // not sent, since the page was not subscribed to their field
	Waiting         int `json:"waiting"`      // events neither delivered nor dropped so far
	Attempts        int `json:"attempts"`     // requests that have ended
	Failed          int `json:"failed"`       // requests answered with another status than 200, too late or not at all
	Delivered       int `json:"delivered"`    // bodies answered 200
	DeliveredEvents int `json:"delivered_events"`
	Dropped         int `json:"dropped"`  // events abandoned
	Disabled        int `json:"disabled"` // subscriptions ended because of failures
}

// maxDeliveries is how many deliveries the record keeps, the oldest dropped first.
const maxDeliveries = 10_000

// keep adds a delivery to the record. The caller holds mu.
func (h *hooks) keep(d *Delivery) {
	if h.record = append(h.record, d); len(h.record) > maxDeliveries {
		h.record[0] = nil
		h.record = h.record[1:]
	}
}

// forget empties the record. Waiting events are still counted, since they will be delivered. The caller holds mu.
func (h *hooks) forget() {
	h.record = nil
	h.counts = WebhookCounts{Events: h.counts.Waiting, Waiting: h.counts.Waiting}
}

// Deliveries returns the newest bodies sent to the webhook, oldest first: at most limit, and all that the record keeps if limit
// is 0. The record keeps 10,000.
func (s *Sandbox) Deliveries(limit int) []Delivery {
	s.mu.Lock()
	defer s.mu.Unlock()
	kept := s.hooks.record
	if limit > 0 && len(kept) > limit {
		kept = kept[len(kept)-limit:]
	}
	list := make([]Delivery, len(kept))
	for i, d := range kept {
		list[i] = *d
	}
	return list
}

// WebhookCounts counts what was sent to the webhook so far.
func (s *Sandbox) WebhookCounts() WebhookCounts {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.hooks.counts
}
