package worker

import (
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/brazier-relay/brazier/queue"
	"github.com/brazier-relay/brazier/queue/queuetest"
)

// counted counts what is written through it.
type counted struct {
	io.Writer
	bytes int
}

func (c *counted) Write(b []byte) (int, error) {
	c.bytes += len(b)
	return c.Writer.Write(b)
}

// BenchmarkDeliveredLine is what logging costs for each message: encoding alone, and with the write to a file, which is one system
// call for each line. deploy/LOGS.md has the figures, in CPU time: on a machine that does much else the time per line is longer.
func BenchmarkDeliveredLine(b *testing.B) {
	q := queuetest.New(b)
	job := &queue.Delivery{Job: queue.Job{ID: queue.NewID(), Page: "1029384756", Lane: queue.Bulk, Recipient: "…6010", Accepted: time.Now(),
		Tracking: queue.Tracking{Campaign: "5b5b2c2a-6d1f-4f2e-9d4d-0d7a3a6a8f11", Dispatch: "6f1e0f3a5b7c4d2e8a9b0c1d2e3f4a5b", User: "5d1f2a3b4c5d6e7f8a9b0c1d"}}}
	sent := Verdict{Outcome: Delivered, MessageID: "m_AG5Hz2Uq7tuwNEhXfYYKj8mJEM_QPpz5jdCK48PnKAjSdjfipqxqMvK8ma6AC8fplwlqLP_5cgXIbu7I3rBN0P", Took: 800 * time.Millisecond}
	file, err := os.Create(filepath.Join(b.TempDir(), "log"))
	if err != nil {
		b.Fatal(err)
	}
	defer file.Close()
	for name, to := range map[string]io.Writer{"discarded": io.Discard, "file": file} {
		b.Run(name, func(b *testing.B) {
			out := &counted{Writer: to}
			config := zapcore.EncoderConfig{TimeKey: "ts", LevelKey: "level", MessageKey: "msg", EncodeTime: zapcore.RFC3339NanoTimeEncoder,
				EncodeLevel: zapcore.LowercaseLevelEncoder, EncodeDuration: zapcore.StringDurationEncoder}
			log := zap.New(zapcore.NewCore(zapcore.NewJSONEncoder(config), zapcore.Lock(zapcore.AddSync(out)), zap.InfoLevel)).With(zap.String("component", "worker"))
			w, err := New(Config{Queue: q, Log: log})
			if err != nil {
				b.Fatal(err)
			}
			p := &page{w: w, log: log.With(zap.String("page", "acme"))}
			b.ReportAllocs()
			for b.Loop() {
				p.logDelivered(job, 1, sent)
			}
			b.ReportMetric(float64(out.bytes)/float64(b.N), "B/line")
		})
	}
}
