package braze_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/brazier-relay/brazier/worker/braze"
	"github.com/brazier-relay/brazier/worker/braze/sandbox"
)

// simulate starts a simulated Braze with profiles u0 to u(n-1).
func simulate(t testing.TB, cfg sandbox.Config, n int) (*sandbox.Sandbox, string) {
	t.Helper()
	s, err := sandbox.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(s)
	t.Cleanup(func() {
		s.Close()
		server.Close()
	})
	for i := range n {
		if _, err := s.Create(sandbox.Profile{ExternalID: fmt.Sprintf("u%d", i)}); err != nil {
			t.Fatal(err)
		}
	}
	return s, server.URL
}

// Two readings of the same facts agree: whatever the client takes for valid, the sandbox takes, with its value and its type.
func TestSandboxTakesWhatIsValid(t *testing.T) {
	s, url := simulate(t, sandbox.Config{Keys: []string{theKey}}, 0)
	made, err := s.Create(sandbox.Profile{ExternalID: "jon", Aliases: []sandbox.Alias{{Name: "n", Label: "l"}}})
	if err != nil {
		t.Fatal(err)
	}
	at := time.Date(2026, 11, 26, 10, 0, 0, 0, time.UTC)
	long := strings.Repeat("é", 255)
	ids := []braze.UserID{{BrazeID: made.BrazeID}, user("jon"), {Alias: braze.Alias{Name: "n", Label: "l"}}}
	c := client(t, url)
	results, v := track(t, c,
		braze.Object{User: ids[0], Attributes: map[string]any{"messenger_id": "24689753102468975", "messenger_reachable": false, "gone": nil}},
		braze.Object{User: ids[1], Attributes: map[string]any{"messenger_window_until": at, "n": 7, long: long}},
		braze.Object{User: ids[2], Event: &braze.Event{Name: "messenger_failed", Time: at, Properties: map[string]any{"class": "recipient", "code": 551, "at": at}}},
		braze.Object{User: user("unknown"), Attributes: map[string]any{"x": 1}},
	)
	if tally(results)["done"] != 4 || v.Meaning != braze.Taken || v.Unattributed != nil {
		t.Errorf("%+v, %+v", results, v)
	}
	p, err := s.Profile("jon")
	if err != nil {
		t.Fatal(err)
	}
	want := sandbox.Profile{BrazeID: made.BrazeID, ExternalID: "jon", Aliases: made.Aliases, Attributes: map[string]any{
		"messenger_id": "24689753102468975", "messenger_reachable": false, "messenger_window_until": "2026-11-26T10:00:00Z",
		"n": json.Number("7"), long: long,
	}, Events: []sandbox.Event{{Name: "messenger_failed", Time: at, Call: 1, Properties: map[string]any{
		"class": "recipient", "code": json.Number("551"), "at": "2026-11-26T10:00:00.000Z"}}}}
	if diff := cmp.Diff(want, p); diff != "" {
		t.Errorf("profile (-want +got):\n%s", diff)
	}
	types := map[string]sandbox.Type{"messenger_id": sandbox.String, "messenger_reachable": sandbox.Boolean,
		"messenger_window_until": sandbox.Time, "n": sandbox.Number, long: sandbox.String}
	if diff := cmp.Diff(types, s.Types()); diff != "" {
		t.Errorf("types (-want +got):\n%s", diff)
	}
	if sum := s.Summary(); sum.Ignored != 1 || sum.Created != 0 || sum.Invalid != 0 {
		t.Errorf("%+v", sum)
	}
}

// Each fault of the sandbox, and what the client says of it.
func TestSandboxFaults(t *testing.T) {
	for _, c := range []struct {
		name    string
		fault   sandbox.Fault
		meaning braze.Meaning
		results string // of an attribute and an event
	}{
		{"slow", sandbox.Fault{Action: sandbox.Pass, Delay: time.Millisecond}, braze.Taken, "done, done"},
		{"500", sandbox.Fault{Status: 500}, braze.Failed, "again in_doubt, dead in_doubt"},
		{"html", sandbox.Fault{Action: sandbox.HTML, Status: 200}, braze.Failed, "again in_doubt, dead in_doubt"},
		{"html 502", sandbox.Fault{Action: sandbox.HTML}, braze.Failed, "again in_doubt, dead in_doubt"},
		{"empty", sandbox.Fault{Action: sandbox.Empty, Accept: true}, braze.Failed, "again in_doubt, dead in_doubt"},
		{"cut", sandbox.Fault{Action: sandbox.CutBody, Accept: true}, braze.Failed, "again in_doubt, dead in_doubt"},
		{"reset", sandbox.Fault{Action: sandbox.Reset, Accept: true}, braze.NoAnswer, "again in_doubt, dead in_doubt"},
		{"hang", sandbox.Fault{Action: sandbox.Hang, Delay: time.Millisecond}, braze.NoAnswer, "again in_doubt, dead in_doubt"},
		{"limit", sandbox.Fault{Status: 429}, braze.Limited, "again not_taken, again not_taken"},
		{"key", sandbox.Fault{Status: 401, Message: "Invalid API Key"}, braze.Denied, "again not_taken, again not_taken"},
		{"instance", sandbox.Fault{Status: 404}, braze.Denied, "again not_taken, again not_taken"},
		{"bad request once", sandbox.Fault{Status: 400, Message: "Bad Request"}, braze.Taken, "done, done"},
		{"bad request always", sandbox.Fault{Status: 400, Message: "Bad Request", Times: sandbox.Standing}, braze.Rejected, "again refused, again refused"},
		{"bad event", sandbox.Fault{Status: 400, Message: "Bad Request", Times: sandbox.Standing, Name: "messenger_failed"}, braze.Taken, "done, dead refused"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, url := simulate(t, sandbox.Config{}, 2)
			s.Script(c.fault)
			results, v := track(t, client(t, url), attribute("u0"), event("u1"))
			var got []string
			for _, r := range results {
				got = append(got, strings.TrimSpace(fmt.Sprint(r.Outcome, " ", r.Cause)))
			}
			if strings.Join(got, ", ") != c.results || v.Meaning != c.meaning {
				t.Errorf("%v, %+v", got, v)
			}
		})
	}
}

// Limits that the client does not know of are found, whatever Braze answers.
func TestSandboxLimits(t *testing.T) {
	s, url := simulate(t, sandbox.Config{MaxObjects: 50}, 75)
	c := client(t, url)
	for range 2 {
		if results, v := track(t, c, many(75)...); tally(results)["done"] != 75 || v.Meaning != braze.Taken {
			t.Errorf("%v, %+v", tally(results), v)
		}
	}
	if sum := s.Summary(); sum.Statuses[400] != 1 || sum.Statuses[201] != 5 || sum.Attributes != 150 || sum.MaxObjects != 38 {
		t.Errorf("%+v", sum)
	}
	for seed := range uint64(6) { // 413 or 400, as Braze answers
		small, url := simulate(t, sandbox.Config{MaxBytes: 2000, Seed: seed + 1}, 75)
		if results, v := track(t, client(t, url), many(75)...); tally(results)["done"] != 75 || v.Meaning != braze.Taken {
			t.Errorf("seed %d: %v, %+v", seed, tally(results), v)
		}
		if sum := small.Summary(); sum.Attributes != 75 || sum.DuplicateEvents != 0 {
			t.Errorf("seed %d: %+v", seed, sum)
		}
	}
	limited, url := simulate(t, sandbox.Config{Hourly: 1, Burst: sandbox.Off}, 1)
	lim := client(t, url)
	track(t, lim, attribute("u0"))
	_, v := track(t, lim, attribute("u0"))
	if v.Meaning != braze.Limited || v.Wait.For < time.Second || v.Wait.For > time.Minute || limited.Summary().Statuses[429] != 1 {
		t.Errorf("%+v", v)
	}
}

// job is an object with the value it writes.
type job struct {
	id    string
	value int
}

// A Batcher, several calls in flight and faults: every user ends with the last value, no two calls hold a user, and events are written
// once where their answers are not lost. The sandbox writes overlapping calls in the wrong order, so order that is not kept shows.
func TestBatcherAgainstSandbox(t *testing.T) {
	const users, each, callers = 12, 20, 4
	s, url := simulate(t, sandbox.Config{Reorder: true, Latency: time.Millisecond, Jitter: time.Millisecond, Hourly: sandbox.Off, Burst: sandbox.Off}, users)
	s.Script(sandbox.Fault{Status: 401, Every: 7, Times: 3})
	s.Script(sandbox.Fault{Status: 429, Every: 5, Times: 3})
	s.Script(sandbox.Fault{Status: 400, Message: "Bad Request", Every: 11, Times: 1})
	c := client(t, url, func(c *braze.Config) { c.MaxObjects = 10 })

	var b braze.Batcher[job]
	rnd := rand.New(rand.NewPCG(1, 2))
	for n := range each {
		for _, u := range rnd.Perm(users) {
			id := fmt.Sprintf("u%d", u)
			b.Add(braze.Object{User: user(id), Attributes: map[string]any{"n": n}}, job{id, n})
			b.Add(braze.Object{User: user(id), Event: &braze.Event{Name: "e", Time: time.Unix(int64(n), 0)}}, job{id, n})
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var mu sync.Mutex
	left := sync.NewCond(&mu)
	flying, dead := 0, 0
	var wg sync.WaitGroup
	for range callers {
		wg.Go(func() {
			mu.Lock()
			defer mu.Unlock()
			for b.Len()+flying > 0 && ctx.Err() == nil {
				batch := b.Next(c.Limits())
				if batch == nil {
					left.Wait()
					continue
				}
				flying++
				mu.Unlock()
				results, _ := c.Track(ctx, batch.Objects)
				mu.Lock()
				flying--
				for _, r := range results {
					if r.Outcome == braze.Dead {
						dead++
					}
				}
				b.Settle(batch, func(i int) bool { return results[i].Outcome == braze.Again })
				left.Broadcast()
			}
			left.Broadcast()
		})
	}
	wg.Wait()
	sum := s.Summary()
	if b.Len() != 0 || dead != 0 || sum.Overlaps != 0 || sum.DuplicateEvents != 0 || sum.Events != users*each {
		t.Errorf("%d left, %d dead, %+v", b.Len(), dead, sum)
	}
	for u := range users {
		p, err := s.Profile(fmt.Sprintf("u%d", u))
		if err != nil || fmt.Sprint(p.Attributes["n"]) != fmt.Sprint(each-1) || len(p.Events) != each {
			t.Errorf("u%d: %v, %d events, %v", u, p.Attributes, len(p.Events), err)
		}
		for n, e := range p.Events {
			if e.Time.Unix() != int64(n) {
				t.Errorf("u%d: event %d is of %d", u, n, e.Time.Unix())
			}
		}
	}
}
