package braze_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/brazier-relay/brazier/worker/braze"
	"github.com/brazier-relay/brazier/worker/braze/sandbox"
)

// BenchmarkTrack is a call with 75 objects over the loopback interface, the simulated Braze's share included.
func BenchmarkTrack(b *testing.B) {
	for name, object := range map[string]func(string) braze.Object{"attributes": attribute, "events": event} {
		b.Run(name, func(b *testing.B) {
			_, url := simulate(b, sandbox.Config{Hourly: sandbox.Off, Burst: sandbox.Off}, 0)
			c, err := braze.New(braze.Config{URL: url, Key: func() (string, error) { return theKey, nil }})
			if err != nil {
				b.Fatal(err)
			}
			defer c.Close()
			objects := many(75)
			for i := range objects {
				objects[i] = object(objects[i].User.ExternalID)
			}
			for b.Loop() {
				if results, v := c.Track(context.Background(), objects); v.Meaning != braze.Taken || results[74].Outcome != braze.Done {
					b.Fatal(v)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N*75), "µs/object")
		})
	}
}

// BenchmarkSender sends events, each of another user, from the queue to a Braze that takes its time.
func BenchmarkSender(b *testing.B) {
	for _, latency := range []time.Duration{200 * time.Millisecond, time.Second} {
		b.Run(latency.String(), func(b *testing.B) {
			r := newFixture(b, sandbox.Config{Hourly: sandbox.Off, Burst: sandbox.Off})
			for n := 0; n < b.N; n += 1000 {
				updates := make([]update, min(1000, b.N-n))
				for i := range updates {
					updates[i] = update{Users: []string{fmt.Sprint("user-", n+i)}, Event: true}
				}
				r.publish(updates...)
			}
			if err := r.fake.SetLatency(latency, latency/4); err != nil {
				b.Fatal(err)
			}
			b.ResetTimer()
			r.start(r.open())
			r.emptied()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "objects/s")
			b.ReportMetric(float64(b.N)/float64(r.fake.Summary().Calls), "objects/call")
		})
	}
}

// BenchmarkNext takes a batch while so many objects of other users wait, and of users all of whom are in calls under way.
func BenchmarkNext(b *testing.B) {
	for _, waiting := range []int{1000, 10_000} {
		for name, users := range map[string]int{"free": waiting, "busy": 10} {
			b.Run(fmt.Sprint(waiting, " ", name), func(b *testing.B) {
				var batcher braze.Batcher[int]
				for i := range waiting {
					batcher.Add(attribute(fmt.Sprint(i%users)), i)
				}
				if name == "busy" {
					batcher.Next(75, braze.MaxBytes)
				}
				for b.Loop() {
					if batch := batcher.Next(75, braze.MaxBytes); batch != nil {
						batcher.Settle(batch, func(int) bool { return true })
					}
				}
			})
		}
	}
}
