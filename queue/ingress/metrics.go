package ingress

import (
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/brazier-relay/brazier/queue"
)

// Results of a request that was not refused.
const (
	resultAccepted  = "accepted"
	resultDuplicate = "duplicate"
)

// metrics are the Prometheus metrics of a Server. Labels contain page names of the configuration, statuses, and the
// constants for results and reasons: never an id, a key or anything that a caller sent.
type metrics struct {
	requests *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
	bytes    *prometheus.CounterVec
	workers  *prometheus.GaugeVec // without labels, and without a value while nothing is known
	gauges   []prometheus.Collector
}

// latencyBuckets, in seconds, range from a store on the same machine to the 90 s after which Braze abandons a request.
var latencyBuckets = []float64{.001, .002, .004, .008, .015, .03, .06, .125, .25, .5, 1, 2.5, 5, 10, 15, 30, 60, 90}

func newMetrics(limits *limits, l *listener) *metrics {
	const prefix = "brazier_ingress_"
	gauge := func(name, help string, value func() float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: prefix + name, Help: help}, value)
	}
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{Name: prefix + "requests_total",
			Help: "Requests answered, by page (empty if no key named one), HTTP status, and result: accepted, duplicate, or the reason of the refusal."},
			[]string{"page", "status", "result"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: prefix + "request_duration_seconds",
			Help: "Time from the headers of a request to its answer, by HTTP status.", Buckets: latencyBuckets},
			[]string{"status"}),
		bytes: prometheus.NewCounterVec(prometheus.CounterOpts{Name: prefix + "accepted_bytes_total",
			Help: "Bytes of the bodies stored, by page."},
			[]string{"page"}),
		workers: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: prefix + "workers_alive",
			Help: "Workers that this process knows to be alive. Missing while it cannot know."}, nil),
		gauges: []prometheus.Collector{
			gauge("waiting_requests", "Requests waiting for the queue.", func() float64 { return float64(len(limits.permits)) }),
			gauge("waiting_requests_limit", "Requests that may wait for the queue.", func() float64 { return float64(cap(limits.permits)) }),
			gauge("waiting_bytes", "Bytes of large bodies in memory.", func() float64 { return float64(limits.bodyBytes.Load()) }),
			gauge("waiting_bytes_limit", "Bytes of large bodies that may be in memory.", func() float64 { return float64(limits.maxBodyBytes) }),
			gauge("connections", "Open connections.", func() float64 { return float64(len(l.open)) }),
			gauge("connections_limit", "Connections that may be open.", func() float64 { return float64(cap(l.open)) }),
		},
	}
	m.requests.WithLabelValues("", "401", reasonKey) // of no page
	return m
}

// expect creates the series of a page that rates and alerts are about, so that they begin at 0.
func (m *metrics) expect(page string) {
	for status, results := range map[string][]string{
		"202": {resultAccepted, resultDuplicate},
		"400": {reasonMessage},
		"503": {reasonFull, reasonPageFull, reasonUnavailable},
	} {
		for _, result := range results {
			m.requests.WithLabelValues(page, status, result)
		}
	}
	m.bytes.WithLabelValues(page)
}

// observe counts an answer.
func (m *metrics) observe(page string, status int, result string, took time.Duration) {
	code := strconv.Itoa(status)
	m.requests.WithLabelValues(page, code, result).Inc()
	m.seconds.WithLabelValues(code).Observe(took.Seconds())
}

// countWorkers takes in which processes are alive.
func (m *metrics) countWorkers(alive []queue.AliveProcess) {
	known, workers := false, 0.
	for _, p := range alive {
		known = known || p.Own
		if p.Works() && !p.Stopped {
			workers++
		}
	}
	if !known {
		m.workers.Reset()
		return
	}
	m.workers.WithLabelValues().Set(workers)
}

func (m *metrics) all() []prometheus.Collector {
	return append([]prometheus.Collector{m.requests, m.seconds, m.bytes, m.workers}, m.gauges...)
}

func (s *Server) collectors() []prometheus.Collector {
	return append(s.metrics.all(), s.webhooks.metrics.all()...)
}

// Describe is part of prometheus.Collector.
func (s *Server) Describe(to chan<- *prometheus.Desc) {
	for _, c := range s.collectors() {
		c.Describe(to)
	}
}

// Collect is part of prometheus.Collector.
func (s *Server) Collect(to chan<- prometheus.Metric) {
	for _, c := range s.collectors() {
		c.Collect(to)
	}
}
