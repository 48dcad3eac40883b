package cli

import (
	"testing"
	"time"
)

func TestParseDuration(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"0": 0, "90s": 90 * time.Second, "3d": 72 * time.Hour, "1w": 168 * time.Hour, "1w2d12h": 228 * time.Hour, "1.5d": 36 * time.Hour,
		"-2d": -48 * time.Hour, "30d": 720 * time.Hour, "100ms": 100 * time.Millisecond,
	} {
		if got, err := ParseDuration(text); err != nil || got != want {
			t.Errorf("%s: %v, error %v, want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"", "3", "d", "3 d", "3days", "d3", "9999999999w", "1e3d"} {
		if got, err := ParseDuration(text); err == nil {
			t.Errorf("%q was taken for %v", text, got)
		}
	}
}

func TestSize(t *testing.T) {
	for text, want := range map[string]struct {
		bytes Size
		shown string
	}{
		"0": {0, "0"}, "1023": {1023, "1023"}, "65536": {65536, "64KiB"}, "256KiB": {256 << 10, "256KiB"}, "10GB": {10e9, "9765625KiB"}, "10737418240": {10 << 30, "10GiB"},
		"1.5MiB": {3 << 19, "1536KiB"}, "2 TiB": {2 << 40, "2TiB"}, "-1": {-1, "-1"}, "7B": {7, "7"}, "1KB": {1000, "1000"},
	} {
		var got Size
		if err := got.UnmarshalText([]byte(text)); err != nil || got != want.bytes || got.String() != want.shown {
			t.Errorf("%s: %d, shown as %s, error %v; want %d, %s", text, got, got, err, want.bytes, want.shown)
		}
	}
	for _, text := range []string{"", "B", "10G", "ten", "10gib", "1e30GB", "NaN", "Inf"} {
		var got Size
		if err := got.UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q was taken for %d", text, got)
		}
	}
}
