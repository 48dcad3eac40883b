package worker

import (
	"testing"
	"time"
)

func TestManyDead(t *testing.T) {
	t.Parallel()
	type stats struct {
		after           time.Duration
		delivered, dead int64
	}
	for _, c := range []struct {
		name  string
		stats []stats
		want  int // warnings
	}{
		{"few", []stats{{0, 0, 19}}, 0},
		{"many", []stats{{0, 0, 20}}, 1},
		{"many of very many", []stats{{0, 381, 20}}, 0},
		{"one in twenty", []stats{{0, 380, 20}}, 1},
		{"bit by bit", []stats{{0, 0, 10}, {time.Minute, 0, 10}}, 1},
		{"once in a window", []stats{{0, 0, 20}, {time.Minute, 0, 20}}, 1},
		{"again in the next", []stats{{0, 0, 20}, {10 * time.Minute, 0, 20}}, 2},
		{"few in each", []stats{{0, 0, 15}, {10 * time.Minute, 0, 15}}, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var e ends
			now, warnings := time.Unix(1_800_000_000, 0), 0
			for _, s := range c.stats {
				now = now.Add(s.after)
				if e.add(s.delivered, s.dead, now) {
					warnings++
				}
			}
			if warnings != c.want {
				t.Errorf("%d warnings, want %d", warnings, c.want)
			}
		})
	}
}
