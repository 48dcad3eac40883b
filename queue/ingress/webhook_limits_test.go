package ingress_test

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/brazier-relay/brazier/queue"
	"github.com/brazier-relay/brazier/queue/ingress"
	"github.com/brazier-relay/brazier/queue/queuetest"
)

// mids returns n names of messages.
func mids(prefix string, n int) (all []string) {
	for i := range n {
		all = append(all, fmt.Sprint("m_", prefix, "_", i))
	}
	return all
}

// onceEach takes all events and compares them with the mids that were answered 200.
func (h *harness) onceEach(want ...string) {
	h.t.Helper()
	got := h.mids()
	for _, mid := range want {
		if got[mid] != 1 {
			h.t.Errorf("%s is stored %d times", mid, got[mid])
		}
		delete(got, mid)
	}
	if len(got) > 0 {
		h.t.Errorf("stored besides: %v", got)
	}
}

// A webhook of which one event cannot be stored is answered 503. Facebook repeats all of it, and each event is stored once.
func TestWebhookQueueFull(t *testing.T) {
	t.Parallel()
	seen, lines := observer.New(zap.InfoLevel)
	var space atomic.Int64 // asked for once for each event
	jobs := withRoadBack(t)
	jobs.HasSpace = func() bool { return space.Add(-1) >= 0 }
	h := openWebhooks(t, ingress.Config{Log: zap.New(seen)}, jobs)
	all := mids("full", 40)
	h.unavailable(h.webhook(eventBody(all...)))
	if got := logged(lines.TakeAll()); !strings.Contains(got, "webhook_error full") {
		t.Errorf("logged: %s", got)
	}
	space.Store(25)
	h.unavailable(h.webhook(eventBody(all...)))
	space.Store(1 << 30)
	h.deliver(eventBody(all...))
	h.deliver(eventBody(all...))
	h.onceEach(all...)
}

// Without the queue a webhook is answered 503 in the time that Facebook waits, whatever Config.Wait is, and once the queue is back
// it is stored once.
func TestWebhookQueueGone(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	srv := queuetest.Server(t, dir)
	var nats swappable
	nats.swap(srv)
	h := openWebhooks(t, ingress.Config{Wait: 80 * time.Second}, queue.Config{InProcess: &nats})
	h.deliver(eventBody("m_before"))
	if err := srv.Close(); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	// More events than are on their way at one time, so that some wait for their turn.
	many := mids("gone", 1100)
	h.unavailable(h.webhook(eventBody(many...)))
	if took := time.Since(began); took > 40*time.Second {
		t.Errorf("answered after %v", took)
	}
	nats.swap(queuetest.Server(t, dir))
	h.eventually("the queue is back", func() bool { return h.q.Ready(t.Context()) == nil })
	h.deliver(eventBody(many...))
	h.onceEach(append(many, "m_before")...)
}

// Webhooks that wait take no permit of the messages, and messages none of the webhooks.
func TestWebhookPermits(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	srv := queuetest.Server(t, dir)
	var nats swappable
	nats.swap(srv)
	h := openWebhooks(t, ingress.Config{MaxWaiting: 1, MaxWebhooksWaiting: 1, Wait: time.Minute}, queue.Config{InProcess: &nats})
	if err := srv.Close(); err != nil {
		t.Fatal(err)
	}
	message := make(chan answer, 1)
	go func() { message <- h.post() }()
	h.gauge("waiting_requests", 1)
	stop := make(chan struct{})
	var repeating sync.WaitGroup
	repeating.Go(func() { // each time it waits for as long as Facebook would
		for {
			select {
			case <-stop:
				return
			default:
				h.unavailable(h.webhook(eventBody("m_1")))
			}
		}
	})
	h.gauge("brazier_webhook_waiting_requests", 1) // it is not refused at once, though the messages have no permit left
	overloaded := func(a answer) bool {
		h.unavailable(a)
		return strings.Contains(a.Error.Message, "too many requests are waiting")
	}
	if a := h.post(withBody(sendText(1))); !overloaded(a) {
		t.Errorf("a second message: %s", a.body)
	}
	h.eventually("a second webhook is refused at once", func() bool { return overloaded(h.webhook(eventBody("m_2"))) })
	close(stop)
	repeating.Wait()
	h.gauge("brazier_webhook_waiting_requests", 0)
	h.gauge("waiting_requests", 1) // the message waits on
	nats.swap(queuetest.Server(t, dir))
	h.accepted(<-message, "queued")
	h.deliver(eventBody("m_2"))
}

// The bodies of webhooks that arrive slowly, from senders without a secret, take no memory of the messages, and the other way
// round.
func TestWebhookBytes(t *testing.T) {
	t.Parallel()
	const most = 64 << 10
	h := openWebhooks(t, ingress.Config{MaxBody: most, MaxWaitingBytes: most, MaxWebhookBody: most, MaxWebhookBytes: most, BodyTimeout: time.Minute}, withRoadBack(t))
	large := func(body string) string { return body + strings.Repeat(" ", 50<<10) }
	slow := func(path, header, gauge string) {
		conn := h.dial()
		t.Cleanup(func() { conn.Close() })
		fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: brazier.example\r\n%s\r\nContent-Length: %d\r\n\r\n%s", path, header, 60<<10, strings.Repeat(" ", 40<<10))
		h.gauge(gauge, 56<<10) // the buffer doubles, up to the length
	}
	h.eventually("a webhook is refused", func() bool { // the slow one has only the time that Facebook waits
		slow("/webhook", "X-Hub-Signature-256: sha256=00", "brazier_webhook_waiting_bytes")
		return h.webhook(large(eventBody("m_1"))).status == http.StatusServiceUnavailable
	})
	h.accepted(h.post(withBody(large(nested))), "queued")
	h.gauge("brazier_webhook_waiting_bytes", 0) // once the time of the slow one is over
	h.deliver(large(eventBody("m_1")))

	slow(messages, "Authorization: Bearer "+acmeKey, "waiting_bytes")
	h.unavailable(h.post(withBody(large(nested))))
	h.deliver(large(eventBody("m_2")))
	h.onceEach("m_1", "m_2")
}

// A storm of webhooks beyond their limit is refused in part, and no message is refused for it. What is answered 200 is stored, and
// once.
func TestWebhookStorm(t *testing.T) {
	t.Parallel()
	const senders, callers, each = 8, 4, 25
	h := openWebhooks(t, ingress.Config{MaxWebhooksWaiting: 2, MaxWaiting: callers}, withRoadBack(t))
	s := storm{h: h, stop: make(chan struct{})}
	var sending, calling sync.WaitGroup
	for sender := range senders {
		sending.Go(func() { s.send(sender) })
	}
	for caller := range callers {
		calling.Go(func() {
			for n := range each {
				h.accepted(h.post(withBody(sendText(caller*each+n))), "queued")
			}
		})
	}
	calling.Wait()
	h.eventually("some webhooks are refused, and some are not", func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.refused > 0 && len(s.stored) > 0
	})
	close(s.stop)
	sending.Wait()
	got := h.mids()
	for _, mid := range s.stored {
		if got[mid] != 1 {
			t.Errorf("%s was answered 200 and is stored %d times", mid, got[mid])
		}
	}
	for mid, n := range got { // of a webhook that was answered 503 some events may be stored
		if n != 1 {
			t.Errorf("%s is stored %d times", mid, n)
		}
	}
	if jobs := h.take(acme); len(jobs) != callers*each {
		t.Errorf("%d messages are stored, want %d", len(jobs), callers*each)
	}
	t.Logf("%d events stored, %d webhooks refused beside %d messages", len(s.stored), s.refused, callers*each)
}

// storm is senders of webhooks that wait for no answer but their own.
type storm struct {
	h    *harness
	stop chan struct{}

	mu      sync.Mutex
	stored  []string // mids of what was answered 200
	refused int      // webhooks
}

func (s *storm) send(sender int) {
	again := time.NewTicker(20 * time.Millisecond)
	defer again.Stop()
	for n := 0; ; n++ {
		all := mids(fmt.Sprint(sender, "_", n), 10)
		a := s.h.webhook(eventBody(all...))
		s.mu.Lock()
		if a.status == http.StatusOK {
			s.stored = append(s.stored, all...)
		} else {
			s.h.unavailable(a)
			s.refused++
		}
		s.mu.Unlock()
		select {
		case <-s.stop:
			return
		case <-again.C:
		}
	}
}
