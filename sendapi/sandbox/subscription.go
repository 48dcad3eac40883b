package sandbox

import (
	"fmt"
	"slices"
	"strings"
)

// knownFields are the fields of a page's webhook that can be subscribed to (page subscribed_apps reference, webhook events pages).
// The sandbox sends events of some of them only.
var knownFields = []string{"feed", "leadgen", "message_deliveries", "message_echoes", "message_edits", "message_reactions", "message_reads",
	"messages", "messaging_account_linking", "messaging_feedback", "messaging_handovers", "messaging_optins", "messaging_optouts",
	"messaging_policy_enforcement", "messaging_postbacks", "messaging_referrals", "response_feedback", "standby"}

var (
	defaultFields = []string{"message_reactions", "messages", "messaging_optins", "messaging_policy_enforcement", "messaging_postbacks",
		"messaging_referrals"}
	receiptFields = []string{"message_deliveries", "message_echoes", "message_reads"}
)

// initialFields are what a new page is subscribed to, sorted.
func (h *Webhook) initialFields() []string {
	switch {
	case h.Fields != nil:
		return sortedSet(h.Fields)
	case h.Receipts:
		return sortedSet(append(slices.Clone(defaultFields), receiptFields...))
	}
	return defaultFields
}

func sortedSet(list []string) []string {
	list = slices.Clone(list)
	slices.Sort(list)
	return slices.Compact(list)
}

// Subscribed returns the fields that a page is subscribed to, sorted. None means that the page gets no webhooks.
func (s *Sandbox) Subscribed(pageID string) ([]string, error) {
	var fields []string
	err := s.withPage(pageID, func(p *page) error {
		fields = slices.Clone(p.fields)
		return nil
	})
	return fields, err
}

// Subscribe replaces the fields that a page is subscribed to. Without fields it ends the subscription without a notice, as Facebook
// does after an hour of failures; events that wait are not sent then.
func (s *Sandbox) Subscribe(pageID string, fields ...string) error {
	for _, f := range fields {
		if !slices.Contains(knownFields, f) {
			return fmt.Errorf("sandbox: subscribe: fields: must be among %s (got %q)", strings.Join(knownFields, ", "), clip(f, 40))
		}
	}
	return s.withPage(pageID, func(p *page) error {
		p.subscribe(fields)
		s.hooks.signal()
		return nil
	})
}

// subscribe sets the fields of a page, for which nothing counts as failed any more. The caller holds mu.
func (p *page) subscribe(fields []string) { p.fields, p.failing = sortedSet(fields), false }
