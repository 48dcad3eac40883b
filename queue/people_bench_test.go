package queue_test

import (
	"fmt"
	"io/fs"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/brazier-relay/brazier/queue"
	"github.com/brazier-relay/brazier/queue/embedded"
	"github.com/brazier-relay/brazier/queue/queuetest"
)

// BenchmarkEntries writes two entries for each of b.N people, of the size that package capture writes, and reports what a person takes
// of the server's memory and disk, and how long it takes until the queue is open again with all of them.
func BenchmarkEntries(b *testing.B) {
	dir := b.TempDir()
	before := heapInUse()
	srv, err := embedded.Start(queuetest.Unflushed(dir))
	if err != nil {
		b.Fatal(err)
	}
	q := open(b, queue.Config{InProcess: srv, Embedded: true, RoadBack: true})
	value := func(i int) []byte {
		return fmt.Appendf(nil, `{"r":"%032x","m":1795596400,"a":1795600000123,"u":{"b":"%024x"},"p":"%016d","l":true,"w":1795686400123}`, i, i, i)
	}
	b.ResetTimer()
	var next atomic.Int64
	var writing sync.WaitGroup
	for range 512 {
		writing.Go(func() {
			for i := int(next.Add(1)) - 1; i < b.N; i = int(next.Add(1)) - 1 {
				for _, key := range []string{fmt.Sprintf("%016d", i), fmt.Sprintf("u%032x", i)} {
					if _, err := q.People().Set(b.Context(), acme, queue.Entry{Key: key, Value: value(i)}); err != nil {
						b.Error(err)
						return
					}
				}
			}
		})
	}
	writing.Wait()
	b.StopTimer()
	b.ReportMetric(float64(heapInUse()-before)/float64(b.N), "B-heap/person")
	q.Close()
	if err := srv.Close(); err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(diskUsed(b, dir))/float64(b.N), "B-disk/person")
	began := time.Now()
	if srv, err = embedded.Start(queuetest.Unflushed(dir)); err != nil {
		b.Fatal(err)
	}
	defer srv.Close()
	q = open(b, queue.Config{InProcess: srv, Embedded: true, RoadBack: true})
	if _, err := q.People().Read(b.Context(), acme, "0"); err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(time.Since(began).Seconds(), "s-to-start")
}

func heapInUse() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

func diskUsed(b *testing.B, dir string) (n int64) {
	err := filepath.WalkDir(dir, func(_ string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		info, err := entry.Info()
		if err == nil {
			n += info.Size()
		}
		return err
	})
	if err != nil {
		b.Fatal(err)
	}
	return n
}
