package worker_test

import (
	"context"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/brazier-relay/brazier/queue"
	"github.com/brazier-relay/brazier/worker"
)

// What Prometheus is told of a worker, in names from the page file.
func TestMetrics(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.publish(acme, queue.Bulk, 3)
	f.publish(nordwind, queue.Urgent, 2) // which this worker does not have
	w, err := worker.New(worker.Config{Queue: f.q, Log: f.log, Pages: []worker.Page{{ID: acme, Name: "acme", Rate: 30,
		Handler: handler(func(context.Context, *queue.Delivery) worker.Verdict { return delivered })}}})
	if err != nil {
		t.Fatal(err)
	}
	registry := prometheus.NewPedanticRegistry()
	if err := registry.Register(w); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- w.Run(ctx) }()
	f.await("delivered", 3)
	value := func(name string, labels ...string) float64 {
		t.Helper()
		families, err := registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, family := range families {
			for _, m := range family.GetMetric() {
				found := 0
				for _, l := range m.GetLabel() {
					for i := 0; i < len(labels); i += 2 {
						if l.GetName() == labels[i] && l.GetValue() == labels[i+1] {
							found++
						}
					}
				}
				if family.GetName() == name && found == len(labels)/2 {
					return m.GetGauge().GetValue() + m.GetCounter().GetValue() + float64(m.GetHistogram().GetSampleCount())
				}
			}
		}
		return -1
	}
	for _, tt := range []struct {
		name   string
		labels []string
		want   float64
	}{
		{"brazier_worker_messages_total", []string{"page", "acme", "outcome", "delivered"}, 3},
		{"brazier_worker_messages_total", []string{"page", "acme", "outcome", "dead", "class", "message"}, 0},
		{"brazier_worker_messages_total", []string{"page", "acme", "outcome", "hold", "class", "throttle"}, 0},
		{"brazier_worker_send_duration_seconds", []string{"page", "acme"}, 3},
		{"brazier_page_rate", []string{"page", "acme", "kind", "text"}, 30},
		{"brazier_page_rate", []string{"page", "acme", "kind", "media"}, worker.DefaultMediaRate},
		{"brazier_page_held", []string{"page", "acme"}, 0},
		{"brazier_page_pending", []string{"page", nordwind, "lane", "urgent"}, 2},
	} {
		if got := value(tt.name, tt.labels...); got != tt.want {
			t.Errorf("%s%v is %v, want %v", tt.name, tt.labels, got, tt.want)
		}
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
