package sandbox

import (
	"testing"
	"time"
)

func TestConfigIsChecked(t *testing.T) {
	for _, c := range []struct {
		name string
		cfg  Config
		want string
	}{
		{"zero", Config{}, ""},
		{"all", Config{Keys: []string{"a"}, MaxObjects: 50, MaxBytes: 1, Hourly: Off, Burst: Off, Types: map[string]Type{"x": Nested},
			Blocked: []string{"x"}, Latency: time.Second, Jitter: time.Second, Reorder: true, Seed: 1, RecordLimit: 1}, ""},
		{"objects", Config{MaxObjects: -1}, "sandbox: MaxObjects: must be at least 1 (got -1)"},
		{"bytes", Config{MaxBytes: -1}, "sandbox: MaxBytes: must be at least 1 (got -1)"},
		{"hourly", Config{Hourly: -2}, "sandbox: Hourly: must be at least -1 (got -2)"},
		{"burst", Config{Burst: -2}, "sandbox: Burst: must be at least -1 (got -2)"},
		{"record", Config{RecordLimit: -1}, "sandbox: RecordLimit: must be at least 1 (got -1)"},
		{"type", Config{Types: map[string]Type{"x": "text"}}, `sandbox: Types: type of "x" must be one of [string number boolean time array object] (got "text")`},
		{"key", Config{Keys: []string{"a", ""}}, "sandbox: Keys: must not hold an empty key"},
		{"latency", Config{Latency: -1}, "sandbox: Latency: must be between 0 and 24h0m0s (got -1ns)"},
		{"jitter", Config{Jitter: 25 * time.Hour}, "sandbox: Jitter: must be between 0 and 24h0m0s (got 25h0m0s)"},
	} {
		s, err := New(c.cfg)
		got := ""
		if err != nil {
			got = err.Error()
		}
		if got != c.want || (s == nil) != (err != nil) {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

// The same seed gives the same sandbox.
func TestSeed(t *testing.T) {
	var ids [3]string
	for i, seed := range []uint64{7, 7, 8} {
		s, err := New(Config{Seed: seed})
		if err != nil {
			t.Fatal(err)
		}
		p, err := s.Create(Profile{ExternalID: "a"})
		if err != nil {
			t.Fatal(err)
		}
		ids[i] = p.BrazeID
	}
	if ids[0] != ids[1] || ids[0] == ids[2] {
		t.Errorf("ids %v", ids)
	}
}
