package braze

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	updates *prometheus.CounterVec
	calls   *prometheus.CounterVec
	took    *prometheus.HistogramVec
	held    *prometheus.GaugeVec
}

func newMetrics() *metrics {
	return &metrics{
		updates: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "brazier_braze_objects_total",
			Help: "Objects that were sent to Braze, by what became of them: done, dead, again."}, []string{"workspace", "result"}),
		calls: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "brazier_braze_calls_total",
			Help: "Calls to Braze, by what the answer means for the workspace: taken, rejected, limited, denied, failed, no_answer, unsent."}, []string{"workspace", "result"}),
		took: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "brazier_braze_call_duration_seconds",
			Help: "How long calls to Braze took.", Buckets: []float64{.05, .1, .25, .5, 1, 2.5, 5, 10, 30}}, []string{"workspace"}),
		held: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "brazier_braze_held",
			Help: "1 while the workspace takes no updates. Of the processes that could send, one knows."}, []string{"workspace"}),
	}
}

func (m *metrics) call(workspace string, v Verdict, took time.Duration) {
	m.calls.WithLabelValues(workspace, string(v.Meaning)).Add(float64(v.Calls))
	m.took.WithLabelValues(workspace).Observe(took.Seconds())
}

func (m *metrics) all() []prometheus.Collector {
	return []prometheus.Collector{m.updates, m.calls, m.took, m.held}
}

// Describe is part of prometheus.Collector: a Sender is registered as a whole.
func (s *Sender) Describe(to chan<- *prometheus.Desc) {
	for _, c := range s.metrics.all() {
		c.Describe(to)
	}
}

// Collect is part of prometheus.Collector.
func (s *Sender) Collect(to chan<- prometheus.Metric) {
	for _, c := range s.metrics.all() {
		c.Collect(to)
	}
}
