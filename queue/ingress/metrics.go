package ingress

import (
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Why a request was refused, as metrics name it: a closed set, so that no caller makes new series.
const (
	reasonAddress     = "address"     // not from --allow-from
	reasonPath        = "path"        // no such path
	reasonMethod      = "method"      // not POST
	reasonKey         = "key"         // no key, or an unknown one
	reasonPage        = "page"        // the key of another page
	reasonHeader      = "header"      // an optional header that cannot be read
	reasonMessage     = "message"     // not a Send API request
	reasonTooLarge    = "too_large"   // over a limit
	reasonSlow        = "slow"        // the body did not arrive in time
	reasonCutOff      = "cut_off"     // the body ended early
	reasonConflict    = "conflict"    // the idempotency key was used for another recipient
	reasonCrowded     = "crowded"     // as many requests wait as may
	reasonFull        = "full"        // the queue or its disk has no room
	reasonPageFull    = "page_full"   // the page has its share of the queue
	reasonUnavailable = "unavailable" // the queue did not answer in time
	reasonGone        = "gone"        // the caller did not wait for its answer
	reasonDraining    = "draining"    // the door is closing
	reasonDefect      = "defect"      // ours
)

// Results of a request that was not refused.
const (
	resultAccepted  = "accepted"
	resultDuplicate = "duplicate"
)

// metrics are what Prometheus learns of a door. Labels hold names from the page file, statuses and the words above:
// never an id, a key or anything that a caller sent.
type metrics struct {
	requests *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
	bytes    *prometheus.CounterVec
	gauges   []prometheus.Collector
}

// From a store on this machine to the 90 s that Braze waits.
var latencyBuckets = []float64{.001, .002, .004, .008, .015, .03, .06, .125, .25, .5, 1, 2.5, 5, 10, 15, 30, 60, 90}

func newMetrics(r *room, l *listener) *metrics {
	const prefix = "brazier_door_"
	gauge := func(name, help string, value func() float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: prefix + name, Help: help}, value)
	}
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{Name: prefix + "requests_total",
			Help: "Requests that were answered, by page (empty: no key named one), HTTP status, and result: accepted, duplicate, or why it was refused."},
			[]string{"page", "status", "result"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: prefix + "request_duration_seconds",
			Help: "From a request's headers to its answer, by HTTP status.", Buckets: latencyBuckets},
			[]string{"status"}),
		bytes: prometheus.NewCounterVec(prometheus.CounterOpts{Name: prefix + "accepted_bytes_total",
			Help: "Bytes of the bodies that were stored, by page."},
			[]string{"page"}),
		gauges: []prometheus.Collector{
			gauge("waiting_requests", "Requests that wait for the queue.", func() float64 { return float64(len(r.places)) }),
			gauge("waiting_requests_limit", "How many may.", func() float64 { return float64(cap(r.places)) }),
			gauge("waiting_bytes", "Bytes of large bodies in memory.", func() float64 { return float64(r.bytes.Load()) }),
			gauge("waiting_bytes_limit", "How many there may be.", func() float64 { return float64(r.maxBytes) }),
			gauge("connections", "Open connections.", func() float64 { return float64(len(l.open)) }),
			gauge("connections_limit", "How many may be open.", func() float64 { return float64(cap(l.open)) }),
		},
	}
	return m
}

// expect makes a page's series, so that their rates begin at 0.
func (m *metrics) expect(page string) {
	for _, result := range []string{resultAccepted, resultDuplicate} {
		m.requests.WithLabelValues(page, "202", result)
	}
	m.bytes.WithLabelValues(page)
}

func (m *metrics) answered(page string, status int, result string, took time.Duration) {
	code := strconv.Itoa(status)
	m.requests.WithLabelValues(page, code, result).Inc()
	m.seconds.WithLabelValues(code).Observe(took.Seconds())
}

func (m *metrics) all() []prometheus.Collector {
	return append([]prometheus.Collector{m.requests, m.seconds, m.bytes}, m.gauges...)
}

// Describe is part of prometheus.Collector: a Door is registered as a whole.
func (d *Door) Describe(to chan<- *prometheus.Desc) {
	for _, c := range d.metrics.all() {
		c.Describe(to)
	}
}

// Collect is part of prometheus.Collector.
func (d *Door) Collect(to chan<- prometheus.Metric) {
	for _, c := range d.metrics.all() {
		c.Collect(to)
	}
}
