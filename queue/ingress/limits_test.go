package ingress_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/brazier-relay/brazier/queue"
	"github.com/brazier-relay/brazier/queue/ingress"
	"github.com/brazier-relay/brazier/queue/queuetest"
)

// fresh is the configuration of a queue of the test's own.
func fresh(t testing.TB) queue.Config {
	return queue.Config{InProcess: queuetest.Server(t, "")}
}

// A flood of unknown keys logs at most 10 lines a second and the count of the others, and does not suppress the lines about
// a page.
func TestRefusalsAreSampled(t *testing.T) {
	t.Parallel()
	seen, lines := observer.New(zap.InfoLevel)
	server, err := ingress.Open(ingress.Config{Queue: queuetest.New(t), Pages: testPages(), Listen: "127.0.0.1:0", Log: zap.New(seen)})
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	synctest.Test(t, func(t *testing.T) {
		post := func(key string) {
			r := httptest.NewRequest(http.MethodPost, messages, strings.NewReader("{"))
			r.Header.Set("Authorization", "Bearer "+key)
			server.ServeHTTP(httptest.NewRecorder(), r)
		}
		logged := func() (rejected, leftOut map[any]int) {
			rejected, leftOut = map[any]int{}, map[any]int{}
			for _, line := range lines.TakeAll() {
				switch fields := line.ContextMap(); fields["event"] {
				case "rejected":
					rejected[fields["page"]]++
				case "left_out":
					leftOut[fields["page"]] += int(fields["count"].(int64))
				}
			}
			return rejected, leftOut
		}
		second := func() { <-time.After(time.Second); synctest.Wait() }
		for range 1000 {
			post(unknownKey)
		}
		post(acmeKey)
		rejected, leftOut := logged()
		if rejected[""] != 10 || rejected["acme"] != 1 || len(leftOut) != 0 {
			t.Errorf("at once: %v rejected, %v left out", rejected, leftOut)
		}
		second()
		if rejected, leftOut = logged(); len(rejected) != 0 || leftOut[""] != 990 || leftOut["acme"] != 0 {
			t.Errorf("a second later: %v rejected, %v left out", rejected, leftOut)
		}
		second()
		for range 11 {
			post(unknownKey)
		}
		second()
		if rejected, leftOut = logged(); rejected[""] != 10 || leftOut[""] != 1 {
			t.Errorf("the next time: %v rejected, %v left out", rejected, leftOut)
		}
	})
}

// panicking is a body that panics when it is read, as a defect of the handler would.
type panicking struct{}

func (panicking) Read([]byte) (int, error) { panic(errors.New(greeting)) }

func TestPanic(t *testing.T) {
	t.Parallel()
	seen, lines := observer.New(zap.ErrorLevel)
	h := openOn(t, ingress.Config{Log: zap.New(seen)}, fresh(t))
	r := httptest.NewRequest(http.MethodPost, messages, panicking{})
	r.Header.Set("Authorization", "Bearer "+acmeKey)
	w := httptest.NewRecorder()
	h.server.ServeHTTP(w, r)
	h.unavailable(h.read(w.Result()))
	found := lines.FilterField(zap.String("event", "panic")).All()
	if len(found) != 1 {
		t.Fatalf("%d lines of panic", len(found))
	}
	fields := found[0].ContextMap()
	if fields["page"] != "acme" || fields["cause"] != "*errors.errorString" || !strings.Contains(fmt.Sprint(fields["stack"]), "panicking.Read") {
		t.Errorf("fields: %v", fields)
	}
	h.accepted(h.post(), "queued")
	h.only(acme)
}

// Large bodies share MaxWaitingBytes. During an outage of the queue a large body beyond it is refused at once while small
// ones may wait, and after the outage large bodies are accepted again.
func TestLargeBodiesShareABudget(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	srv := queuetest.Server(t, dir)
	var nats swappable
	nats.swap(srv)
	h := openOn(t, ingress.Config{MaxBody: 64 << 10, MaxWaitingBytes: 64 << 10, Wait: time.Minute}, queue.Config{InProcess: &nats})
	if err := srv.Close(); err != nil {
		t.Fatal(err)
	}
	large := nested + strings.Repeat(" ", 40<<10)
	answers := make(chan answer, 3)
	send := func(options ...func(*http.Request)) { go func() { answers <- h.post(options...) }() }
	send(withBody(large))
	h.gauge("waiting_requests", 1)
	for name, option := range map[string]func(*http.Request){
		"with a length": func(*http.Request) {},
		"in chunks":     func(r *http.Request) { r.ContentLength = -1 },
	} {
		a := h.post(withBody(large), option)
		h.unavailable(a)
		if !strings.Contains(a.Error.Message, "too many requests are waiting") {
			t.Errorf("%s: %s", name, a.body)
		}
	}
	h.gauge("waiting_bytes", len(large)-4<<10)
	send()
	h.gauge("waiting_requests", 2)
	nats.swap(queuetest.Server(t, dir))
	h.accepted(<-answers, "queued")
	h.accepted(<-answers, "queued")
	h.accepted(h.post(withBody(large)), "queued")
	h.gauge("waiting_requests", 0)
	h.gauge("waiting_bytes", 0)
	if jobs := h.take(acme); len(jobs) != 3 {
		t.Errorf("%d jobs are stored, want 3", len(jobs))
	}
}

// A large Content-Length reserves no memory before the bytes arrive. Slow headers are cut off without an answer, and a slow
// body is answered 408.
func TestSlowSendersAreCutOff(t *testing.T) {
	t.Parallel()
	h := openOn(t, ingress.Config{HeaderTimeout: time.Second, BodyTimeout: 2 * time.Second}, fresh(t))
	headers, body := h.dial(), h.dial()
	defer headers.Close()
	defer body.Close()
	fmt.Fprintf(headers, "POST %s HTTP/1.1\r\nHost: brazier", messages)
	fmt.Fprintf(body, "POST %s HTTP/1.1\r\nHost: brazier.example\r\nAuthorization: Bearer %s\r\nContent-Length: 200000\r\n\r\n{", messages, acmeKey)
	status, text := h.readRaw(body)
	if status != http.StatusRequestTimeout {
		t.Errorf("slow body: status %d: %s", status, text)
	}
	for name, conn := range map[string]io.Reader{"headers": headers, "body": body} {
		// A reset ends the connection too.
		if _, err := io.ReadAll(conn); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("slow %s: the connection is still open", name)
		}
	}
	h.gauge("waiting_bytes", 0)
	h.nothingStored()
}
