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

// metrics returns the value of each series of the server by its name and labels. The value of a histogram is its count.
func (h *harness) metrics() map[string]float64 {
	h.t.Helper()
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(h.server)
	families, err := registry.Gather()
	if err != nil {
		h.t.Fatal(err)
	}
	series := make(map[string]float64)
	for _, family := range families {
		for _, m := range family.GetMetric() {
			name := strings.TrimPrefix(family.GetName(), "brazier_ingress_")
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
			fmt.Fprintln(&output, name)
		}
	}
	return series
}

// gauge waits until a gauge has the value want.
func (h *harness) gauge(name string, want int) {
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
	h.post(with("Authorization", "Bearer "+unknownKey), at(messages+"?access_token="+acmeKey))
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
		"connections_limit":                16384,
		"brazier_webhook_waiting_requests": 0, "brazier_webhook_waiting_requests_limit": 512,
		"brazier_webhook_waiting_bytes": 0, "brazier_webhook_waiting_bytes_limit": 32 << 20,
	}
	for _, page := range []string{"acme", "5647382910"} { // series that alerts are about begin at 0
		for _, series := range []string{"message 400", "full 503", "page_full 503", "unavailable 503"} {
			want["requests_total "+page+" "+series] += 0
		}
	}
	got := h.metrics()
	want["connections"] = got["connections"] // as many as the HTTP client has opened
	if diff := cmp.Diff(slices.Sorted(maps.Keys(want)), slices.Sorted(maps.Keys(got))); diff != "" {
		t.Errorf("series (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("values (-want +got):\n%s", diff)
	}
	h.take(acme)
	h.take(nordwind)
}
