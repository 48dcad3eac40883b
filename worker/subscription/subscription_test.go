package subscription_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/brazier-relay/brazier/queue"
	"github.com/brazier-relay/brazier/queue/queuetest"
	"github.com/brazier-relay/brazier/sendapi"
	"github.com/brazier-relay/brazier/worker/subscription"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m, queuetest.Strays()...) }

const token = "page-token-for-the-test"

// graph serves GET subscribed_apps.
type graph struct {
	client *sendapi.Client

	mu     sync.Mutex
	fields map[string][]string // by page id; nil: the page is not subscribed
	fails  bool
	calls  map[string]int
}

func newGraph(t *testing.T) *graph {
	t.Helper()
	g := &graph{fields: map[string][]string{}, calls: map[string]int{}}
	srv := httptest.NewServer(g)
	t.Cleanup(srv.Close)
	var err error
	if g.client, err = sendapi.NewClient(sendapi.Config{GraphURL: srv.URL}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.client.Close)
	return g
}

func (g *graph) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	g.mu.Lock()
	defer g.mu.Unlock()
	page := strings.Split(r.URL.Path, "/")[2]
	g.calls[page]++
	if g.fails {
		w.WriteHeader(http.StatusForbidden)
		_, _ = io.WriteString(w, `{"error":{"message":"token `+token+`","type":"OAuthException","code":200}}`)
		return
	}
	type app struct {
		ID     string   `json:"id"`
		Fields []string `json:"subscribed_fields"`
	}
	list := struct {
		Data []app `json:"data"`
	}{[]app{}}
	if fields := g.fields[page]; fields != nil {
		list.Data = append(list.Data, app{"77", fields})
	}
	_ = json.NewEncoder(w).Encode(list)
}

func (g *graph) set(f func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	f()
}

func (g *graph) called(page string) (n int) {
	g.set(func() { n = g.calls[page] })
	return n
}

// awaitCalls returns once the page was read so many more times.
func (g *graph) awaitCalls(t *testing.T, page string, more int) {
	t.Helper()
	from := g.called(page)
	eventually(t, "the fields are read again", func() bool { return g.called(page) >= from+more })
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited for a minute: %s", what)
		}
	}
}

func page(id, name string) subscription.Page {
	return subscription.Page{ID: id, Name: name, Credentials: func() (sendapi.Credentials, error) { return sendapi.Credentials{Token: token}, nil }}
}

// watch runs a Watcher until the test ends or stop is called.
func watch(t *testing.T, q *queue.Queue, g *graph, pages ...subscription.Page) (w *subscription.Watcher, logs *observer.ObservedLogs, stop func()) {
	t.Helper()
	core, logs := observer.New(zapcore.InfoLevel)
	w, err := subscription.New(subscription.Config{Queue: q, Client: g.client, Pages: pages, Log: zap.New(core)})
	if err != nil {
		t.Fatal(err)
	}
	w.Every(20 * time.Millisecond)
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() {
		if err := w.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	stop = func() { cancel(); running.Wait() }
	t.Cleanup(stop)
	return w, logs, stop
}

func events(logs *observer.ObservedLogs) (names []string) {
	for _, e := range logs.All() {
		names = append(names, e.ContextMap()["event"].(string))
	}
	return names
}

func (g *graph) gauge(t *testing.T, w *subscription.Watcher, want string) {
	t.Helper()
	if want != "" {
		want = "# HELP brazier_webhook_subscribed Whether Facebook sends the page's webhooks, with all fields that are needed: 1 or 0. Of the workers, one knows.\n" +
			"# TYPE brazier_webhook_subscribed gauge\n" + want
	}
	var err error
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(2 * time.Millisecond) {
		if err = testutil.CollectAndCompare(w, strings.NewReader(want)); err == nil {
			return
		}
	}
	t.Error(err)
}

// A loss is logged once with what is missing and how to repair it, and so is its end.
func TestLostAndFound(t *testing.T) {
	t.Parallel()
	g := newGraph(t)
	g.fields["10"] = sendapi.WebhookFields(false)
	q := queuetest.New(t)
	w, logs, stop := watch(t, q, g, page("10", "acme"))
	missing := func(want ...string) {
		t.Helper()
		eventually(t, "others know what is missing", func() bool {
			got, err := subscription.Missing(t.Context(), q, "10")
			return err == nil && slices.Equal(got, want)
		})
	}
	g.awaitCalls(t, "10", 3)
	missing()
	g.gauge(t, w, "brazier_webhook_subscribed{page=\"acme\"} 1\n")
	if logs.Len() > 0 {
		t.Errorf("a page that is subscribed is logged: %v", logs.All())
	}
	g.set(func() { g.fields["10"] = nil })
	g.awaitCalls(t, "10", 4)
	g.gauge(t, w, "brazier_webhook_subscribed{page=\"acme\"} 0\n")
	missing(sendapi.WebhookFields(false)...)
	lost := logs.TakeAll()
	if len(lost) != 1 || lost[0].Level != zapcore.ErrorLevel {
		t.Fatalf("lines of a loss: %v", lost)
	}
	keys := lost[0].ContextMap()
	if keys["event"] != "subscription_lost" || keys["page"] != "acme" || keys["remedy"] != "brazier webhook subscribe acme" ||
		len(keys["missing"].([]any)) != len(sendapi.WebhookFields(false)) {
		t.Errorf("line: %v", keys)
	}
	g.set(func() { g.fields["10"] = sendapi.WebhookFields(false)[1:] }) // it was repaired by somebody who forgot one
	eventually(t, "it is logged what is missing still", func() bool { return logs.Len() > 0 })
	g.awaitCalls(t, "10", 3)
	missing("messages")
	if lost := logs.TakeAll(); len(lost) != 1 || lost[0].ContextMap()["missing"].([]any)[0] != "messages" {
		t.Errorf("lines of what is missing still: %v", lost)
	}
	g.set(func() { g.fields["10"] = append(sendapi.WebhookFields(false), "feed") })
	eventually(t, "the end is logged", func() bool { return logs.Len() > 0 })
	g.awaitCalls(t, "10", 3)
	missing()
	if names := events(logs); len(names) != 1 || names[0] != "subscription_ok" {
		t.Errorf("lines of the end: %v", logs.All())
	}
	g.gauge(t, w, "brazier_webhook_subscribed{page=\"acme\"} 1\n")
	stop()
	g.gauge(t, w, "")
}

// Of two workers one reads, and the other goes on when that one stops.
func TestOneOfTwo(t *testing.T) {
	t.Parallel()
	g := newGraph(t)
	srv := queuetest.Server(t, "")
	first, firstLogs, stop := watch(t, queuetest.On(t, srv), g, page("10", "acme"))
	g.gauge(t, first, "brazier_webhook_subscribed{page=\"acme\"} 0\n")
	second, secondLogs, _ := watch(t, queuetest.On(t, srv), g, page("10", "acme"))
	g.awaitCalls(t, "10", 5)
	g.gauge(t, second, "")
	if firstLogs.Len() != 1 || secondLogs.Len() != 0 {
		t.Errorf("lines: %v and %v, want one of the first", firstLogs.All(), secondLogs.All())
	}
	stop()
	eventually(t, "the other one finds the loss", func() bool { return secondLogs.Len() == 1 })
	g.gauge(t, second, "brazier_webhook_subscribed{page=\"acme\"} 0\n")
}

// What cannot be read is logged once after some tries, without secrets, and changes nothing that is known.
func TestUnknown(t *testing.T) {
	t.Parallel()
	g := newGraph(t)
	g.fields["10"] = sendapi.WebhookFields(false)
	noToken := page("11", "nordwind")
	noToken.Credentials = func() (sendapi.Credentials, error) { return sendapi.Credentials{}, errors.New("token_file: gone") }
	w, logs, _ := watch(t, queuetest.New(t), g, page("10", "acme"), noToken)
	g.awaitCalls(t, "10", 2)
	g.set(func() { g.fails = true })
	eventually(t, "both pages are logged", func() bool { return logs.Len() >= 2 })
	g.awaitCalls(t, "10", 5)
	g.gauge(t, w, "brazier_webhook_subscribed{page=\"acme\"} 1\n")
	lines := map[string]string{}
	for _, e := range logs.All() {
		keys := e.ContextMap()
		if keys["event"] != "subscription_unknown" || e.Level != zapcore.WarnLevel || strings.Contains(keys["reason"].(string), token) {
			t.Errorf("line: %v", keys)
		}
		lines[keys["page"].(string)] += keys["reason"].(string)
	}
	if logs.Len() != 2 || !strings.Contains(lines["acme"], "200") || lines["nordwind"] != "token_file: gone" || g.called("11") != 0 {
		t.Errorf("lines: %v", lines)
	}
}

// Pages may change at any time; what is known of those that stay is kept.
func TestSetPages(t *testing.T) {
	t.Parallel()
	g := newGraph(t)
	w, logs, _ := watch(t, queuetest.New(t), g, page("10", "acme"))
	eventually(t, "the loss is logged", func() bool { return logs.Len() == 1 })
	if err := w.SetPages([]subscription.Page{page("10", "acme"), page("11", "nordwind")}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the new page is logged", func() bool { return logs.Len() == 2 })
	g.awaitCalls(t, "10", 3)
	if logs.Len() != 2 || logs.All()[1].ContextMap()["page"] != "nordwind" {
		t.Errorf("lines: %v", logs.All())
	}
	if err := w.SetPages([]subscription.Page{{ID: "12"}}); err == nil {
		t.Error("a page without credentials is taken")
	}
	if err := w.SetPages(nil); err != nil {
		t.Fatal(err)
	}
	g.gauge(t, w, "")
}
