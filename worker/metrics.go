package worker

import (
	"github.com/prometheus/client_golang/prometheus"
)

// metrics are what Prometheus learns of a worker. Labels hold names from the page file, outcomes and classes: closed sets
// all of them.
type metrics struct {
	settled *prometheus.CounterVec
	seconds *prometheus.HistogramVec
}

// From a cached refusal to the longest that a call may take.
var sendBuckets = []float64{.01, .025, .05, .1, .2, .4, .8, 1.6, 3.2, 6.4, 12.8, 30, 60, 90}

func newMetrics() *metrics {
	return &metrics{
		settled: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "brazier_worker_messages_total",
			Help: "Deliveries that were settled, by page, outcome (delivered, dead, retry, hold, release) and class of Facebook's answer."},
			[]string{"page", "outcome", "class"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "brazier_worker_send_duration_seconds",
			Help: "How long calls to Facebook took, by page.", Buckets: sendBuckets},
			[]string{"page"}),
	}
}

func (m *metrics) note(page string, v Verdict) {
	m.settled.WithLabelValues(page, string(v.Outcome), string(v.Class)).Inc()
	if v.Took > 0 {
		m.seconds.WithLabelValues(page).Observe(v.Took.Seconds())
	}
}

var (
	descInFlight = prometheus.NewDesc("brazier_worker_in_flight", "Messages in this process's hands, by page.", []string{"page"}, nil)
	descRate     = prometheus.NewDesc("brazier_page_rate", "Calls a second in force, all workers together, by page and kind (text, media).", []string{"page", "kind"}, nil)
	descHeld     = prometheus.NewDesc("brazier_page_held", "Whether the page is held: 1 or 0.", []string{"page"}, nil)
	descPending  = prometheus.NewDesc("brazier_page_pending", "Messages that are stored and not settled, by page and lane.", []string{"page", "lane"}, nil)
)

// Describe is part of prometheus.Collector: a Worker is registered as a whole.
func (w *Worker) Describe(to chan<- *prometheus.Desc) {
	w.metrics.settled.Describe(to)
	w.metrics.seconds.Describe(to)
	for _, desc := range []*prometheus.Desc{descInFlight, descRate, descHeld, descPending} {
		to <- desc
	}
}

// Collect is part of prometheus.Collector. It asks nobody: what waits is as of the last look at the lanes.
func (w *Worker) Collect(to chan<- prometheus.Metric) {
	w.metrics.settled.Collect(to)
	w.metrics.seconds.Collect(to)
	gauge := func(desc *prometheus.Desc, value float64, labels ...string) {
		to <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value, labels...)
	}
	names := map[string]string{}
	for _, p := range w.all() {
		names[p.ID] = p.Name
		gauge(descInFlight, float64(p.inFlight.Load()), p.Name)
		for kind, full := range map[string]float64{"text": p.Rate, "media": p.MediaRate} {
			rate, _ := p.inForce(full)
			gauge(descRate, rate, p.Name, kind)
		}
		held := 0.0
		if p.isHeld() {
			held = 1
		}
		gauge(descHeld, held, p.Name)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for lane, n := range w.waiting {
		name, ours := names[lane.Page]
		if !ours {
			name = lane.Page
		}
		gauge(descPending, float64(n), name, string(lane.Lane))
	}
}
