package process

import (
	"context"

	"github.com/prometheus/client_golang/prometheus"
)

// stored tells, at each scrape, what the queue stores, over all processes, and whether this process can use it.
type stored struct{ p *Process }

var (
	connectedDesc = prometheus.NewDesc("brazier_nats_connected", "Whether this process has a connection to NATS: 1 or 0.", nil, nil)
	readyDesc     = prometheus.NewDesc("brazier_ready", "Whether /readyz answers 200: 1 or 0.", nil, nil)
	bytesDesc     = prometheus.NewDesc("brazier_queue_bytes", "Disk space that undelivered messages take, by stream.", []string{"stream"}, nil)
	limitDesc     = prometheus.NewDesc("brazier_queue_limit_bytes", "Most disk space that undelivered messages may take, by stream. Missing where there is no limit.", []string{"stream"}, nil)
	deadDesc      = prometheus.NewDesc("brazier_dead_letters", "Dead letters that are kept.", nil, nil)
)

// Describe is part of prometheus.Collector.
func (s stored) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{connectedDesc, readyDesc, bytesDesc, limitDesc, deadDesc} {
		to <- d
	}
}

// Collect is part of prometheus.Collector. Where NATS does not answer, what it stores is missing.
func (s stored) Collect(to chan<- prometheus.Metric) {
	gauge := func(desc *prometheus.Desc, value float64, labels ...string) {
		to <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value, labels...)
	}
	ctx, cancel := context.WithTimeout(context.Background(), readyTimeout)
	defer cancel()
	gauge(readyDesc, oneIf(s.p.ready(ctx) == nil))
	jobs := s.p.serving.Load()
	gauge(connectedDesc, oneIf(jobs != nil && jobs.Connected()))
	if jobs == nil {
		return
	}
	sizes, err := jobs.Sizes(ctx)
	for _, size := range sizes.Jobs {
		gauge(bytesDesc, float64(size.Bytes), size.Stream)
		if size.MaxBytes > 0 {
			gauge(limitDesc, float64(size.MaxBytes), size.Stream)
		}
	}
	if err == nil {
		gauge(deadDesc, float64(sizes.Dead))
	}
}

func oneIf(yes bool) float64 {
	if yes {
		return 1
	}
	return 0
}

// reloads tells what became of the last page file.
type reloads struct{ ok, at prometheus.Gauge }

func newReloads() *reloads {
	return &reloads{
		ok: prometheus.NewGauge(prometheus.GaugeOpts{Name: "brazier_page_file_last_reload_successful", Help: "Whether the page file was taken when it changed last, or at the start: 1 or 0."}),
		at: prometheus.NewGauge(prometheus.GaugeOpts{Name: "brazier_page_file_last_reload_success_timestamp_seconds", Help: "When the page file was taken last."}),
	}
}

// note takes in whether the page file was taken.
func (r *reloads) note(taken bool) {
	r.ok.Set(oneIf(taken))
	if taken {
		r.at.SetToCurrentTime()
	}
}

// newCertificateMetric tells until when a certificate is valid.
func newCertificateMetric(c *certificate) prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "brazier_ingress_certificate_not_after_timestamp_seconds", Help: "Until when the TLS certificate of the ingress is valid."},
		func() float64 { return float64(c.pair.Load().Leaf.NotAfter.Unix()) })
}
