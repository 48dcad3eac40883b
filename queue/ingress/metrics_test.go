package ingress_test

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
)

// metrics scrapes the door and returns its series, each under its name and labels. Of a histogram it is the count.
func (h *house) metrics() map[string]float64 {
	h.t.Helper()
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(h.door)
	families, err := registry.Gather()
	if err != nil {
		h.t.Fatal(err)
	}
	series := make(map[string]float64)
	for _, family := range families {
		for _, m := range family.GetMetric() {
			name := strings.TrimPrefix(family.GetName(), "brazier_door_")
			for _, label := range m.GetLabel() {
				name += " " + label.GetValue()
			}
			switch {
			case m.GetHistogram() != nil:
				series[name] = float64(m.GetHistogram().GetSampleCount())
			case m.GetCounter() != nil:
				series[name] = m.GetCounter().GetValue()
			default:
				series[name] = m.GetGauge().GetValue()
			}
			fmt.Fprintln(&spoken, name)
		}
	}
	return series
}

// gauge waits until a gauge has a value.
func (h *house) gauge(name string, want int) {
	h.t.Helper()
	deadline := time.Now().Add(time.Minute)
	for poll := time.NewTicker(5 * time.Millisecond); h.metrics()[name] != float64(want); <-poll.C {
		if time.Now().After(deadline) {
			h.t.Fatalf("%s is %v, want %d", name, h.metrics()[name], want)
		}
	}
}

func TestMetrics(t *testing.T) {
	t.Parallel()
	h := open(t)
	h.post(with("Idempotency-Key", "a"))
	h.post(with("Idempotency-Key", "a"))
	h.post(with("Idempotency-Key", "a"), withBody(strings.Replace(nested, psid, psid[1:]+"9", 1)))
	h.post(with("Authorization", "Bearer "+nordwindKey))
	h.post(with("Authorization", "Bearer "+strangeKey), at(messages+"?access_token="+acmeKey))
	h.post(at("/" + psid + "/messages"))
	h.post(at("/elsewhere/" + psid))
	h.post(func(r *http.Request) { r.Method = "GET" })
	h.post(withBody(greeting))
	h.post(withBody(strings.Repeat(" ", 1<<20)))
	h.post(with("X-Brazier-Lane", greeting))
	size := float64(len(nested))
	want := map[string]float64{
		"requests_total acme accepted 202": 1, "requests_total acme duplicate 202": 1, "requests_total acme conflict 409": 1,
		"requests_total 5647382910 accepted 202": 1, "requests_total 5647382910 duplicate 202": 0,
		"requests_total  key 401": 1, "requests_total acme page 403": 1, "requests_total  path 404": 1, "requests_total  method 405": 1,
		"requests_total acme message 400": 1, "requests_total acme too_large 413": 1, "requests_total acme header 400": 1,
		"accepted_bytes_total acme": size, "accepted_bytes_total 5647382910": size,
		"request_duration_seconds 202": 3, "request_duration_seconds 400": 2, "request_duration_seconds 401": 1, "request_duration_seconds 403": 1,
		"request_duration_seconds 404": 1, "request_duration_seconds 405": 1, "request_duration_seconds 409": 1, "request_duration_seconds 413": 1,
		"waiting_requests": 0, "waiting_requests_limit": 8192, "waiting_bytes": 0, "waiting_bytes_limit": 64 << 20,
		"connections_limit": 16384,
	}
	got := h.metrics()
	want["connections"] = got["connections"] // the client's, as many as it likes
	if diff := cmp.Diff(slices.Sorted(maps.Keys(want)), slices.Sorted(maps.Keys(got))); diff != "" {
		t.Errorf("series (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("values (-want +got):\n%s", diff)
	}
	h.take(acme)
	h.take(nordwind)
}
