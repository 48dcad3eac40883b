package ingress

import (
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/brazier-relay/brazier/sendapi/webhook"
)

// Results of a webhook that was answered 200. resultAccepted is one of them.
const (
	resultVerified   = "verified"   // the URL
	resultUnreadable = "unreadable" // signed, and no JSON object
)

// Results of an event. The others are skipped_ and the reason, a webhook.Why.
const (
	eventStored      = "stored"
	eventDuplicate   = "duplicate"    // stored before
	eventUnknownPage = "unknown_page" // no app that has signed has the page
	eventReceipt     = "receipt"      // tells of a message of the page; nobody wants to know
	eventNoRoom      = "no_room"      // a receipt that is dropped, since too many wait
)

// webhookMetrics are the metrics of webhooks. Labels are constants of the code. Facebook adds kinds of events at will, so those
// that the code does not know have one label together.
type webhookMetrics struct {
	requests *prometheus.CounterVec
	events   *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
	gauges   []prometheus.Collector
}

// webhookBuckets, in seconds, end where Facebook abandons a webhook.
var webhookBuckets = []float64{.001, .002, .004, .008, .015, .03, .06, .125, .25, .5, 1, 2, 3, 4, 5}

func newWebhookMetrics(limits *limits) *webhookMetrics {
	const prefix = "brazier_webhook_"
	gauge := func(name, help string, value func() float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: prefix + name, Help: help}, value)
	}
	return &webhookMetrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{Name: prefix + "requests_total",
			Help: "Webhooks answered, by HTTP status, and result: accepted, verified, unreadable, or the reason of the refusal."},
			[]string{"status", "result"}),
		events: prometheus.NewCounterVec(prometheus.CounterOpts{Name: prefix + "events_total",
			Help: "Events of webhooks, by kind and result: stored, duplicate, receipt, unknown_page, or skipped_ and why. Events of a webhook that was answered 503 come again."},
			[]string{"kind", "result"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: prefix + "request_duration_seconds",
			Help: "Time from the headers of a webhook to its answer, by HTTP status. Facebook abandons the request after 5 s.", Buckets: webhookBuckets},
			[]string{"status"}),
		gauges: []prometheus.Collector{
			gauge("waiting_requests", "Webhooks waiting for the queue.", func() float64 { return float64(len(limits.permits)) }),
			gauge("waiting_requests_limit", "Webhooks that may wait for the queue.", func() float64 { return float64(cap(limits.permits)) }),
			gauge("waiting_bytes", "Bytes of large bodies of webhooks in memory.", func() float64 { return float64(limits.bodyBytes.Load()) }),
			gauge("waiting_bytes_limit", "Bytes of large bodies of webhooks that may be in memory.", func() float64 { return float64(limits.maxBodyBytes) }),
		},
	}
}

// observe counts an answer.
func (m *webhookMetrics) observe(status int, result string, took time.Duration) {
	code := strconv.Itoa(status)
	m.requests.WithLabelValues(code, result).Inc()
	m.seconds.WithLabelValues(code).Observe(took.Seconds())
}

func (m *webhookMetrics) event(kind webhook.Kind, result string) {
	m.events.WithLabelValues(string(kind), result).Inc()
}

func (m *webhookMetrics) all() []prometheus.Collector {
	return append([]prometheus.Collector{m.requests, m.events, m.seconds}, m.gauges...)
}
