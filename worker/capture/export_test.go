package capture

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

// KillBefore has every call end as if its worker were killed before it writes the n-th entry, or after the last one; -1: none does.
func KillBefore(h *Handler, n int) {
	h.beforeEntry = func(i int) error {
		if i == n {
			return errors.New("killed")
		}
		return nil
	}
}

// Counter returns that of a page's events.
func Counter(h *Handler, page, kind, result string) prometheus.Counter {
	return h.metrics.events.WithLabelValues(page, kind, result)
}

// LostCounter returns that of a page's events that Braze is never told.
func LostCounter(h *Handler, page string, kind EventKind) prometheus.Counter {
	return h.metrics.lost.WithLabelValues(page, string(kind))
}
