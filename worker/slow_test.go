package worker

import (
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
)

// Slow calls are logged once when they begin and once when they are over, by whole windows.
func TestSlowness(t *testing.T) {
	t.Parallel()
	type window struct {
		fast, slow int // calls of 100 ms and of 9 s
		lasts      time.Duration
	}
	for _, c := range []struct {
		name    string
		windows []window
		want    []string
	}{
		{"fast", []window{{100, 5, time.Minute}}, nil},
		{"slow", []window{{94, 6, time.Minute}}, []string{"graph_slow"}},
		{"slow for long", []window{{50, 50, time.Minute}, {50, 50, time.Minute}}, []string{"graph_slow"}},
		{"slow, then fast", []window{{50, 50, time.Minute}, {100, 0, time.Minute}, {100, 0, time.Minute}}, []string{"graph_slow", "graph_fast"}},
		{"few calls make no window", []window{{0, 10, time.Minute}}, nil},
		{"a window of many minutes", []window{{0, 10, time.Minute}, {0, 10, time.Minute}}, []string{"graph_slow"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			core, logs := observer.New(zapcore.InfoLevel)
			s := &slowness{log: zap.New(core), host: "graph", limit: 5 * time.Second}
			now := time.Unix(1_800_000_000, 0)
			for _, w := range c.windows {
				for range w.fast {
					s.note("acme", 100*time.Millisecond, now)
				}
				for range w.slow {
					s.note("nordwind", 9*time.Second, now)
				}
				now = now.Add(w.lasts)
			}
			s.note("acme", 100*time.Millisecond, now) // ends the last window
			var got []string
			for _, line := range logs.All() {
				fields := line.ContextMap()
				got = append(got, fields["event"].(string))
				if p95 := fields["p95_ms"].(int64); fields["event"] == "graph_slow" && (p95 < 9000 || p95 > 9900 || fields["pages"] != int64(1) || fields["slowest_page"] != "nordwind") {
					t.Errorf("line %v", fields)
				}
			}
			if len(got) != len(c.want) || len(got) > 0 && got[len(got)-1] != c.want[len(got)-1] {
				t.Errorf("lines %v, want %v", got, c.want)
			}
		})
	}
}
