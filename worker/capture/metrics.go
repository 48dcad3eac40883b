package capture

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/brazier-relay/brazier/sendapi/webhook"
)

type metrics struct {
	events     *prometheus.CounterVec
	references *prometheus.CounterVec
	lost       *prometheus.CounterVec
}

func newMetrics() *metrics {
	return &metrics{
		events: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "brazier_capture_events_total",
			Help: "Webhook events that were captured, by kind and what they were good for: linked, known, older, foreign, contact, unknown, told, receipt, ignored; and outcomes of messages, sent or failed: no_user where nobody knows of whom they tell."}, []string{"page", "kind", "result"}),
		references: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "brazier_capture_references_total",
			Help: "References that came from people, by result: linked, known, or why they were refused."}, []string{"page", "result"}),
		lost: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "brazier_braze_events_lost_total",
			Help: "Custom events that Braze is never told of, since the queue had no room for them or could not be reached in time."}, []string{"page", "kind"}),
	}
}

// expect creates the series of a page that an alert is about, so that it begins at 0.
func (m *metrics) expect(page string) { m.references.WithLabelValues(page, string(webhook.RefForged)) }

func (m *metrics) event(page *Page, kind, result string) {
	m.events.WithLabelValues(page.Name, kind, result).Inc()
}

func (m *metrics) reference(page *Page, result string) {
	m.references.WithLabelValues(page.Name, result).Inc()
}

// Describe is part of prometheus.Collector: a Handler is registered as a whole.
func (h *Handler) Describe(to chan<- *prometheus.Desc) {
	h.metrics.events.Describe(to)
	h.metrics.references.Describe(to)
	h.metrics.lost.Describe(to)
}

// Collect is part of prometheus.Collector.
func (h *Handler) Collect(to chan<- prometheus.Metric) {
	h.metrics.events.Collect(to)
	h.metrics.references.Collect(to)
	h.metrics.lost.Collect(to)
}
