package worker

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/brazier-relay/brazier/sendapi"
)

// metrics are what Prometheus learns of a worker. Labels hold names from the page file, outcomes and classes: closed sets
// all of them.
type metrics struct {
	settled   *prometheus.CounterVec
	seconds   *prometheus.HistogramVec
	delivered *prometheus.HistogramVec
	slots     *prometheus.CounterVec
}

// From a cached refusal to the longest that a call may take.
var sendBuckets = []float64{.01, .025, .05, .1, .2, .4, .8, 1.6, 3.2, 6.4, 12.8, 30, 60, 90}

// From a message that is sent at once to one that is about to expire by default.
var deliveryBuckets = []float64{.1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600, 4 * 3600, 12 * 3600, 24 * 3600}

func newMetrics() *metrics {
	return &metrics{
		settled: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "brazier_worker_messages_total",
			Help: "Deliveries that were settled, by page, outcome (delivered, dead, retry, hold, release) and class of Facebook's answer."},
			[]string{"page", "outcome", "class"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "brazier_worker_send_duration_seconds",
			Help: "How long calls to Facebook took, by page.", Buckets: sendBuckets},
			[]string{"page"}),
		delivered: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "brazier_worker_delivery_duration_seconds",
			Help: "How long delivered messages took from when they were accepted, by page.", Buckets: deliveryBuckets},
			[]string{"page"}),
		slots: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "brazier_worker_slots_total",
			Help: "Times at which the page's rate allowed a call, by page and result: used, or unused although messages waited here, since this process was too slow for them."},
			[]string{"page", "result"}),
	}
}

// expect creates the series of a page that alerts are about. A counter whose first value that Prometheus reads is 9 has not increased for it,
// and a page is held after ten messages.
func (m *metrics) expect(page string) {
	for outcome, classes := range map[Outcome][]sendapi.Class{
		Delivered: {""},
		Dead:      {sendapi.ClassMessage, sendapi.ClassRecipient, sendapi.ClassWindow, sendapi.ClassInDoubt, sendapi.ClassExpired},
		Retry:     {sendapi.ClassInDoubt},
		Hold:      {sendapi.ClassThrottle, sendapi.ClassThrottleApp},
	} {
		for _, class := range classes {
			m.settled.WithLabelValues(page, string(outcome), string(class))
		}
	}
}

// note counts what becomes of a delivery. age is that of the message.
func (m *metrics) note(page string, v Verdict, age time.Duration) {
	if v.Outcome == Delivered {
		m.delivered.WithLabelValues(page).Observe(age.Seconds())
	}
	m.settled.WithLabelValues(page, string(v.Outcome), string(v.Class)).Inc()
	if v.Took > 0 {
		m.seconds.WithLabelValues(page).Observe(v.Took.Seconds())
	}
}

var (
	descInFlight = prometheus.NewDesc("brazier_worker_in_flight", "Messages in flight in this process, by page.", []string{"page"}, nil)
	descRate     = prometheus.NewDesc("brazier_page_rate", "Calls a second in force, all workers together, by page and kind (text, media).", []string{"page", "kind"}, nil)
	descHeld     = prometheus.NewDesc("brazier_page_held", "Whether the page is held: 1 or 0.", []string{"page"}, nil)
	descHold     = prometheus.NewDesc("brazier_page_hold_info", "1 for each page that is held, by page and the class of what holds it.", []string{"page", "class"}, nil)
	descOldest   = prometheus.NewDesc("brazier_page_oldest_age_seconds", "Age of the page's oldest message that is not settled, 0 where there is none, as of the last look.", []string{"page"}, nil)
	descCircuit  = prometheus.NewDesc("brazier_worker_circuit_open", "Whether this process does not reach Facebook, and sends nothing but a message now and then to find out: 1 or 0.", nil, nil)
	descPending  = prometheus.NewDesc("brazier_page_pending", "Messages that are stored and not settled, by page and lane.", []string{"page", "lane"}, nil)
)

// Describe is part of prometheus.Collector: a Worker is registered as a whole.
func (w *Worker) Describe(to chan<- *prometheus.Desc) {
	w.metrics.settled.Describe(to)
	w.metrics.seconds.Describe(to)
	w.metrics.delivered.Describe(to)
	w.metrics.slots.Describe(to)
	for _, desc := range []*prometheus.Desc{descInFlight, descRate, descHeld, descHold, descOldest, descCircuit, descPending} {
		to <- desc
	}
}

// Collect is part of prometheus.Collector. It asks nobody: the backlog is as of the last look at the lanes.
func (w *Worker) Collect(to chan<- prometheus.Metric) {
	w.metrics.settled.Collect(to)
	w.metrics.seconds.Collect(to)
	w.metrics.delivered.Collect(to)
	w.metrics.slots.Collect(to)
	gauge := func(desc *prometheus.Desc, value float64, labels ...string) {
		to <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value, labels...)
	}
	_, open := w.circuit.after()
	gauge(descCircuit, oneIf(open))
	names := map[string]string{}
	for _, p := range w.all() {
		names[p.ID] = p.Name
		gauge(descInFlight, float64(p.inFlight.Load()), p.Name)
		for kind, full := range map[string]float64{"text": p.Rate, "media": p.MediaRate} {
			rate, _ := p.inForce(full)
			gauge(descRate, rate, p.Name, kind)
		}
		class, _ := p.stoppedBy()
		gauge(descHeld, oneIf(class != ""), p.Name)
		if class != "" {
			gauge(descHold, 1, p.Name, class)
		}
		oldest := 0.0
		if since := p.oldest.Load(); since != 0 {
			oldest = max(w.cfg.Queue.Now().Sub(time.UnixMilli(since)).Seconds(), 0)
		}
		gauge(descOldest, oldest, p.Name)
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

func oneIf(yes bool) float64 {
	if yes {
		return 1
	}
	return 0
}
