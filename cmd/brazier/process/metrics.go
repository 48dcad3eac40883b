package process

import (
	"context"

	"github.com/brazier-relay/brazier/cmd/brazier/cli"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/brazier-relay/brazier/queue"
)

// newMetrics is the registry of one process: what Go and the operating system tell of it, and what its parts register in
// Process.metrics when they open.
func newMetrics() *prometheus.Registry {
	r := prometheus.NewRegistry()
	build := prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "brazier_build_info", Help: "1, with the version as a label.",
		ConstLabels: prometheus.Labels{"version": cli.Version()}}, func() float64 { return 1 })
	r.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), build)
	return r
}

// backlog counts, at each scrape, what is stored of webhook events and of updates for Braze, over all processes.
type backlog struct{ q *queue.Queue }

var (
	backlogDesc = prometheus.NewDesc("brazier_webhook_backlog", "Webhook events (of: events), outcomes and receipts of messages (of: outcomes) and updates for Braze (of: updates) that are stored, over all processes.", []string{"of"}, nil)
	oldestDesc  = prometheus.NewDesc("brazier_webhook_backlog_oldest_seconds", "Age of the oldest of them, 0 where there is none.", []string{"of"}, nil)
)

// Describe is part of prometheus.Collector.
func (b *backlog) Describe(to chan<- *prometheus.Desc) { to <- backlogDesc; to <- oldestDesc }

// Collect is part of prometheus.Collector. Where NATS does not answer, the two are missing.
func (b *backlog) Collect(to chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), readyTimeout)
	defer cancel()
	events, updates, err := b.q.RoadBackBacklog(ctx)
	if err != nil {
		return
	}
	outcomes, err := b.q.OutcomesBacklog(ctx)
	if err != nil {
		return
	}
	for of, n := range map[string]queue.Backlog{"events": events, "outcomes": outcomes, "updates": updates} {
		age := 0.0
		if !n.Oldest.IsZero() {
			age = max(b.q.Now().Sub(n.Oldest).Seconds(), 0)
		}
		to <- prometheus.MustNewConstMetric(backlogDesc, prometheus.GaugeValue, float64(n.Pending), of)
		to <- prometheus.MustNewConstMetric(oldestDesc, prometheus.GaugeValue, age, of)
	}
}
