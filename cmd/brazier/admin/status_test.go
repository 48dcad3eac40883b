package admin

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/brazier-relay/brazier/queue"
	"github.com/brazier-relay/brazier/queue/queuetest"
)

var (
	noon    = time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)
	rewrite = flag.Bool("rewrite", false, "write what is printed to testdata")
)

func ptr[T any](v T) *T { return &v }

// healthy is what is seen where nothing needs a person.
func healthy() sight {
	alive := func(role, name string) queue.AliveProcess {
		return queue.AliveProcess{Role: role, Name: name, Version: "v1", Pages: 2, PageIDs: []string{"1", "2"}, Started: noon.Add(-time.Hour), Seen: noon.Add(-4 * time.Second)}
	}
	stream := func(name string) queue.StreamState {
		return queue.StreamState{Stream: name, Messages: 12, Bytes: 5 << 20, MaxBytes: 10 << 30, Replicas: 3, Current: 3, Leader: "nats-1"}
	}
	return sight{
		names: pageNames{"1": {name: "acme", rate: 40}, "2": {name: "nordwind", rate: 10}}, file: "pages.yaml", oldest: time.Hour, now: noon,
		pages: []StatusPage{
			{Page: Page{Page: "acme", ID: "1", State: stateOpen, InFile: true, Pending: 12, Dead: 3}, InFlight: 4, Retrying: 1, OldestAge: ptr(int64(30))},
			{Page: Page{Page: "nordwind", ID: "2", State: stateOpen, InFile: true}},
		},
		alive: []queue.AliveProcess{alive("ingress", "front-1"), alive("worker", "w-1")}, aliveRead: true,
		streams: []queue.StreamState{stream(queue.StreamJobs), stream(queue.StreamDead)},
	}
}

// hold holds the first page.
func hold(class string, code int, until time.Duration) func(*sight) {
	return func(s *sight) {
		p := &s.pages[0]
		p.State, p.Class, p.Code, p.Reason, p.Since = stateHeld, class, code, "as Facebook says", ptr(noon.Add(-time.Hour))
		if until > 0 {
			p.Until = ptr(noon.Add(until))
		}
	}
}

// Each thing that needs a person is one sentence with its remedy, and what ends by itself is none.
func TestStatusJudges(t *testing.T) {
	t.Parallel()
	stopped := func(s *sight) { s.alive[1].Stopped = true }
	for name, c := range map[string]struct {
		change func(*sight)
		kinds  []string // of the needs
		says   []string // in the sentences
	}{
		"nothing": {change: func(*sight) {}},
		"token": {hold("auth", 190, 0), []string{needHold},
			[]string{"Page acme is held since 2026-11-26T11:00:00Z, since Facebook refuses its token (class auth, code 190: as Facebook says)", "token_file"}},
		"restriction": {hold("page", 368, time.Hour), []string{needHold}, []string{"class page, code 368", `"brazier pages resume acme"`}},
		"in doubt":    {hold("in_doubt", 0, time.Hour), []string{needHold}, []string{"class in_doubt"}},
		"by somebody": {func(s *sight) { hold("manual", 0, 0)(s); s.pages[0].By = "ada@ops" }, []string{needManual}, []string{"is held by hand by ada@ops since 2026-11-26T11:00:00Z (as"}},
		"by hand": {hold("manual", 0, time.Hour), []string{needManual},
			[]string{"by hand since 2026-11-26T11:00:00Z until 2026-11-26T13:00:00Z (as Facebook says)", `"brazier pages resume acme" ends`}},
		"throttled":     {change: hold("throttle", 613, time.Minute)},
		"app throttled": {change: hold("throttle_app", 4, time.Minute)},
		"throttled for long": {func(s *sight) { hold("throttle", 613, time.Minute)(s); s.pages[0].OldestAge = ptr(int64(7200)) }, []string{needOldest},
			[]string{"2h0m0s, longer than 1h0m0s (--oldest)", "lower its rate"}},
		"held while probed":     {func(s *sight) { hold("auth", 190, 0)(s); s.pages[0].State = stateProbing }, []string{needHold}, nil},
		"no worker":             {func(s *sight) { s.alive = s.alive[:1] }, []string{needWorker}, []string{"12 message(s) wait, and no worker is alive", `"brazier worker"`}},
		"worker stopped":        {stopped, []string{needWorker}, nil},
		"no worker, and serve":  {func(s *sight) { s.alive, s.embedded = nil, true }, []string{needWorker}, []string{`"brazier serve"`}},
		"no worker, no message": {change: func(s *sight) { stopped(s); s.pages[0].Pending = 0 }},
		"worker without record": {change: func(s *sight) { stopped(s); s.fetched = true }},
		"alive not known":       {change: func(s *sight) { s.alive, s.aliveRead = nil, false }},
		"no worker for long":    {func(s *sight) { stopped(s); s.pages[0].OldestAge = ptr(int64(7200)) }, []string{needWorker}, nil},
		"page not in the file": {func(s *sight) {
			s.pages[0].Page.Page, s.pages[0].ID, s.pages[0].InFile, s.pages[0].State = "42", "42", false, stateMissing
		}, []string{needPage}, []string{"12 message(s) wait for page 42, which is not in pages.yaml", "put the page back"}},
		"page in no worker's file": {func(s *sight) { s.names, s.pages[0].ID = nil, "42" }, []string{needPage}, []string{"which is in no worker's page file"}},
		"workers say not all":      {change: func(s *sight) { s.names, s.pages[0].ID, s.alive[1].PageIDs = nil, "42", nil }},
		"old message":              {func(s *sight) { s.pages[0].OldestAge = ptr(int64(3601)) }, []string{needOldest}, []string{"1h0m", "worker's log"}},
		"old message, no limit":    {change: func(s *sight) { s.pages[0].OldestAge, s.oldest = ptr(int64(1e6)), 0 }},
		"queue filling":            {func(s *sight) { s.streams[0].Bytes = 9 << 30 }, []string{needQueue}, []string{"90 % full (9216.0 MiB of 10240.0 MiB)", "--max-queue"}},
		"queue without a limit":    {change: func(s *sight) { s.streams[0].Bytes, s.streams[0].MaxBytes = 9<<30, -1 }},
		"no leader": {func(s *sight) {
			for i := range s.streams {
				s.streams[i].Leader, s.streams[i].Fault, s.streams[i].Remedy = "", "no leader for stream "+s.streams[i].Stream, "start the missing NATS servers"
			}
			s.unread = []unread{{"the pages", errors.New("timeout")}}
		}, []string{needStream}, []string{"BRAZIER_JOBS and BRAZIER_DEAD cannot be used (no leader for stream BRAZIER_JOBS): start the missing NATS servers."}},
		"replica missing": {func(s *sight) { s.streams[1].Current = 2 }, []string{needReplicas}, []string{"BRAZIER_DEAD (2 of 3)"}},
		"not read":        {func(s *sight) { s.unread = []unread{{"the pages", errors.New("timeout")}} }, []string{needUnread}, []string{"the pages", "timeout"}},
		"drift": {func(s *sight) {
			s.drift = []queue.Difference{{Stream: queue.StreamJobs, Setting: "max_bytes", Have: "1", Want: "2"}}
		}, []string{needDrift}, []string{`BRAZIER_JOBS: max_bytes is 1, not 2; "brazier setup" changes it.`}},
		"subscription": {func(s *sight) { s.lost = []LostWebhook{{"acme", []string{"messages"}}} }, []string{needSubscription}, []string{`"brazier webhook subscribe acme"`}},
		"clock behind": {func(s *sight) { s.alive[1].ServerAhead = 7 }, []string{needClock}, []string{"The clock of the worker on w-1 is 7.0 s behind the NATS server's: set it by NTP."}},
		"clock ahead":  {func(s *sight) { s.alive[0].ServerAhead = -5.5 }, []string{needClock}, []string{"ingress on front-1 is 5.5 s ahead of"}},
		"not ready": {func(s *sight) {
			s.alive[0].Unready = "queue: no space"
			s.alive = append(s.alive, s.alive[0])
			s.alive[2].Name = "front-2"
		}, []string{needReady}, []string{"the ingress on front-1 and the ingress on front-2 (queue: no space)"}},
		"clock a bit": {change: func(s *sight) { s.alive[0].ServerAhead = -4.9 }},
		"several": {func(s *sight) { hold("auth", 190, 0)(s); s.streams[0].Bytes = 9 << 30; s.alive[1].ServerAhead = 60 },
			[]string{needQueue, needHold, needClock}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := healthy()
			c.change(&s)
			v := s.status()
			var kinds []string
			var text strings.Builder
			for _, n := range v.Needs {
				kinds = append(kinds, n.Kind)
				text.WriteString(n.Sentence + "\n")
				if !strings.HasSuffix(n.Sentence, ".") || strings.Contains(n.Sentence, "%!") {
					t.Errorf("no sentence: %s", n.Sentence)
				}
			}
			if !slices.Equal(kinds, c.kinds) || v.OK != (c.kinds == nil) {
				t.Errorf("needs %v, ok %t; want %v", kinds, v.OK, c.kinds)
			}
			for _, part := range c.says {
				if !strings.Contains(text.String(), part) {
					t.Errorf("it says\n%swant %q", text.String(), part)
				}
			}
		})
	}
}

// What is printed, for people and for programs, is what deploy/README.md and scripts go by.
func TestStatusIsPrinted(t *testing.T) {
	t.Parallel()
	s := healthy()
	hold("page", 368, time.Hour)(&s)
	s.pages[1].Pending, s.pages[1].OldestAge = 1, ptr(int64(5))
	s.alive[1].Slowed = map[string]queue.RateInForce{"2": {Rate: 2.5, Why: "usage"}}
	s.streams = append(s.streams, queue.StreamState{Stream: queue.StreamEvents, Messages: 2, Replicas: 1, Current: 1, Oldest: noon.Add(-time.Minute)})
	s.inForce()
	v := s.status()
	var text, programs bytes.Buffer
	if err := v.print(&text); err != nil {
		t.Fatal(err)
	}
	enc := json.NewEncoder(&programs)
	enc.SetIndent("", "  ")
	if err := enc.Encode(v); err != nil {
		t.Fatal(err)
	}
	for name, got := range map[string]string{"status.txt": text.String(), "status.json": programs.String()} {
		path := "testdata/" + name
		if *rewrite {
			if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if got != string(want) {
			t.Errorf("%s (go test -rewrite writes it):\n%s\nwant\n%s", name, got, want)
		}
	}
}

// Everything is read from a real queue, also while nothing ever ran against it.
func TestStatusReads(t *testing.T) {
	t.Parallel()
	srv := queuetest.Server(t, "")
	q, err := queue.Open(t.Context(), queue.Config{InProcess: srv, Role: "worker"})
	if err != nil {
		t.Fatal(err)
	}
	defer q.Close()
	c := StatusCommand{Oldest: time.Hour}
	names := pageNames{"1029384756": {name: "acme", rate: 40}}
	if v := c.look(t.Context(), q, names); !v.OK || v.Processes != nil || v.Webhooks != nil || len(v.Pages) != 1 || *v.Pages[0].Rate != 40 || len(v.Streams) == 0 {
		t.Errorf("with nothing there: %+v", v)
	}
	now := time.Now()
	for _, page := range []string{"1029384756", "5647382910"} {
		job := &queue.Job{ID: queue.NewID(), Page: page, Lane: queue.Bulk, Accepted: now, Expire: now.Add(time.Hour), Body: []byte("{}")}
		if _, err := q.Publish(t.Context(), job); err != nil {
			t.Fatal(err)
		}
	}
	v := c.look(t.Context(), q, names)
	if v.OK || v.Pending != 2 || len(v.Pages) != 2 || v.Pages[0].Page.Page != "5647382910" || v.Pages[1].OldestAge == nil || len(v.Needs) != 1 || v.Needs[0].Kind != needPage {
		t.Errorf("with two messages: %+v", v)
	}
}

// Every key and every kind is in deploy/README.md.
func TestStatusIsDocumented(t *testing.T) {
	t.Parallel()
	readme, err := os.ReadFile("../../../deploy/README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(readme), "\n## Status\n")
	section, _, _ = strings.Cut(section, "\n## ")
	names := []string{needHold, needManual, needWorker, needPage, needOldest, needQueue, needStream, needReplicas, needDrift, needSubscription, needReady, needClock, needUnread}
	var keys func(of reflect.Type)
	keys = func(of reflect.Type) {
		for of.Kind() == reflect.Pointer || of.Kind() == reflect.Slice {
			of = of.Elem()
		}
		if of.Kind() != reflect.Struct || of == reflect.TypeFor[time.Time]() {
			return
		}
		for f := range of.Fields() {
			if name, _, _ := strings.Cut(f.Tag.Get("json"), ","); name != "" && name != "-" {
				names = append(names, name)
			}
			if f.Tag.Get("json") != "-" {
				keys(f.Type)
			}
		}
	}
	keys(reflect.TypeFor[Status]())
	for _, name := range names {
		if !strings.Contains(section, "`"+name+"`") {
			t.Errorf("deploy/README.md does not explain %s", name)
		}
	}
}
