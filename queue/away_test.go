package queue_test

import (
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/brazier-relay/brazier/queue"
)

// A lost connection is told again and again with the time since when, and at its end for how long.
func TestAwayIsToldAgain(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.start()
	core, lines := observer.New(zap.InfoLevel)
	q := open(t, queue.Config{InProcess: m, Log: zap.New(core)}.WithWaits(soon, soon))
	event := func(name string) []observer.LoggedEntry { return lines.FilterField(zap.String("event", name)).All() }
	equal(t, "connections", len(event("connected")), 1)
	if _, ok := event("connected")[0].ContextMap()["since"]; ok {
		t.Errorf("the first connection has a time before: %v", event("connected")[0].ContextMap())
	}
	m.stop()
	eventually(t, "the lost connection is told three times", func() bool { return len(event("disconnected")) >= 3 })
	m.start()
	eventually(t, "the connection is back", func() bool { return q.Connected() && len(event("connected")) == 2 })
	told := event("disconnected")
	since := told[0].ContextMap()["since"]
	for _, line := range append(told, event("connected")[1]) {
		fields := line.ContextMap()
		if _, ok := fields["for_s"]; !ok || fields["since"] != since {
			t.Errorf("%s: %v, want since %v", line.Message, fields, since)
		}
	}
}
