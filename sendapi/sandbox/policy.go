package sandbox

import (
	"errors"
	"fmt"
	"slices"
	"time"
)

// Policy reports to the webhook that Facebook warns, blocks or unblocks a page, if the page is subscribed to
// messaging_policy_enforcement. It changes nothing about the page; Restrict does.
func (s *Sandbox) Policy(pageID, action, reason string) error {
	if actions := []string{"warning", "block", "unblock"}; !slices.Contains(actions, action) {
		return fmt.Errorf("sandbox: policy: action: must be warning, block or unblock (got %q)", clip(action, 40))
	}
	return s.withPage(pageID, func(p *page) error {
		h := s.hooks
		switch {
		case h.URL == "":
			return errors.New("sandbox: policy: there is no webhook: set its URL first")
		case !slices.Contains(p.fields, "messaging_policy_enforcement"):
			h.counts.Unsubscribed++
			return nil
		}
		h.events++
		o := occurrence{rnd: s.eventRand(h.events), page: p.ID, at: time.Now()}
		h.enqueue(hookEvent{page: p, pageID: p.ID, json: o.policy(action, reason)})
		return nil
	})
}
