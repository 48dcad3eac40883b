package ingress

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/brazier-relay/brazier/queue/queuetest"
)

// TestDefaults compares what the zero value stands for with what the documentation says: README.md on how long a request
// waits for the queue, and the table of bounds in deploy/README.md.
func TestDefaults(t *testing.T) {
	t.Parallel()
	got := Config{Queue: queuetest.New(t)}
	if err := got.setDefaults(); err != nil {
		t.Fatal(err)
	}
	want := Config{
		Listen:          "127.0.0.1:8080",
		MaxBody:         256 << 10,
		Wait:            40 * time.Second,
		MaxWaiting:      8192,
		MaxWaitingBytes: 64 << 20,
		MaxConnections:  16384,
		HeaderTimeout:   10 * time.Second,
		BodyTimeout:     30 * time.Second,
		AnswerTimeout:   15 * time.Second,
		IdleTimeout:     2 * time.Minute,
	}
	if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(Config{}, "Queue", "Log"), cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("defaults (-documented +code):\n%s", diff)
	}
	if DefaultMaxConnections <= DefaultMaxWaiting {
		t.Errorf("of %d connections none is left for a 503 beside %d requests that wait", DefaultMaxConnections, DefaultMaxWaiting)
	}
}
