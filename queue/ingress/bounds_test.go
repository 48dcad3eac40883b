package ingress_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
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

// fresh is a queue of a test's own.
func fresh(t testing.TB) queue.Config {
	return queue.Config{InProcess: queuetest.Server(t, "")}
}

// A flood of wrong keys costs some lines a second and keeps its count, and a page's own refusals are still seen.
func TestRefusalsAreSampled(t *testing.T) {
	t.Parallel()
	seen, lines := observer.New(zap.InfoLevel)
	door, err := ingress.Open(ingress.Config{Queue: queuetest.New(t), Pages: testPages(), Listen: "127.0.0.1:0", Log: zap.New(seen)})
	if err != nil {
		t.Fatal(err)
	}
	defer door.Close()
	synctest.Test(t, func(t *testing.T) {
		post := func(key string) {
			r := httptest.NewRequest(http.MethodPost, messages, strings.NewReader("{"))
			r.Header.Set("Authorization", "Bearer "+key)
			door.ServeHTTP(httptest.NewRecorder(), r)
		}
		said := func() (rejected, leftOut map[any]int) {
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
			post(strangeKey)
		}
		post(acmeKey)
		rejected, leftOut := said()
		if rejected[""] != 10 || rejected["acme"] != 1 || len(leftOut) != 0 {
			t.Errorf("at once: %v rejected, %v left out", rejected, leftOut)
		}
		second()
		if rejected, leftOut = said(); len(rejected) != 0 || leftOut[""] != 990 || leftOut["acme"] != 0 {
			t.Errorf("a second later: %v rejected, %v left out", rejected, leftOut)
		}
		second()
		for range 11 {
			post(strangeKey)
		}
		second()
		if rejected, leftOut = said(); rejected[""] != 10 || leftOut[""] != 1 {
			t.Errorf("the next time: %v rejected, %v left out", rejected, leftOut)
		}
	})
}

// panicking is a body whose sender we cannot read without a defect.
type panicking struct{}

func (panicking) Read([]byte) (int, error) { panic(errors.New(greeting)) }

func TestPanic(t *testing.T) {
	t.Parallel()
	seen, lines := observer.New(zap.ErrorLevel)
	h := openOn(t, ingress.Config{Log: zap.New(seen)}, fresh(t))
	r := httptest.NewRequest(http.MethodPost, messages, panicking{})
	r.Header.Set("Authorization", "Bearer "+acmeKey)
	w := httptest.NewRecorder()
	h.door.ServeHTTP(w, r)
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

// Large bodies share a budget: who finds none left is refused at once, small ones still wait, and all is well again when
// the queue is.
func TestLargeBodiesShareABudget(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	srv := queuetest.Server(t, dir)
	var power outlet
	power.plug(srv)
	h := openOn(t, ingress.Config{MaxBody: 64 << 10, MaxWaitingBytes: 64 << 10, Wait: time.Minute}, queue.Config{InProcess: &power})
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
		if !strings.Contains(a.Error.Message, "too many requests wait") {
			t.Errorf("%s: %s", name, a.body)
		}
	}
	h.gauge("waiting_bytes", len(large)-4<<10)
	send()
	h.gauge("waiting_requests", 2)
	power.plug(queuetest.Server(t, dir))
	h.accepted(<-answers, "queued")
	h.accepted(<-answers, "queued")
	h.accepted(h.post(withBody(large)), "queued")
	h.gauge("waiting_requests", 0)
	h.gauge("waiting_bytes", 0)
	if jobs := h.take(acme); len(jobs) != 3 {
		t.Errorf("%d jobs are stored, want 3", len(jobs))
	}
}

// Who promises a large body and sends nothing of it takes no room. Who sends too slowly is cut off, and is told so where
// there is somebody to tell.
func TestSlowSendersAreCutOff(t *testing.T) {
	t.Parallel()
	h := openOn(t, ingress.Config{HeaderTimeout: 300 * time.Millisecond, BodyTimeout: 600 * time.Millisecond}, fresh(t))
	headers, body := h.dial(), h.dial()
	defer headers.Close()
	defer body.Close()
	fmt.Fprintf(headers, "POST %s HTTP/1.1\r\nHost: relay", messages)
	fmt.Fprintf(body, "POST %s HTTP/1.1\r\nHost: relay.example\r\nAuthorization: Bearer %s\r\nContent-Length: 200000\r\n\r\n{", messages, acmeKey)
	status, text := h.readRaw(body)
	if status != http.StatusRequestTimeout {
		t.Errorf("slow body: status %d: %s", status, text)
	}
	for name, conn := range map[string]io.Reader{"headers": headers, "body": body} {
		if rest, err := io.ReadAll(conn); err != nil && !errors.Is(err, io.EOF) {
			t.Errorf("slow %s: %q, then %v", name, rest, err)
		}
	}
	h.gauge("waiting_bytes", 0)
	h.nothingStored()
}
