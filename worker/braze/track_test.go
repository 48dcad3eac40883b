package braze_test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/brazier-relay/brazier/worker/braze"
)

// holds reports whether a call has an object of the user.
func (b body) holds(id string) bool { return slices.Contains(b.ids(), id) }

// What is sent is what Braze's page has, in the order that was given, and never makes a profile.
func TestBody(t *testing.T) {
	s := serve(t, always(201, success))
	at := time.Date(2026, 11, 26, 12, 30, 0, 5e6, time.FixedZone("", 3600))
	track(t, client(t, s.URL),
		braze.Object{User: braze.UserID{BrazeID: "5f3c6c1a2b3c4d5e6f708192"}, Attributes: map[string]any{
			"messenger_id": "24689753102468975", "messenger_reachable": true, "messenger_window_until": at, "old": nil, "n": 1.5}},
		braze.Object{User: user("e"), Event: &braze.Event{Name: "messenger_failed", Time: at, Properties: map[string]any{"code": int64(551), "class": "recipient"}}},
		braze.Object{User: braze.UserID{Alias: braze.Alias{Name: "123", Label: "messenger_id"}}, Attributes: map[string]any{"messenger_id": "123"}},
		braze.Object{User: user("f"), Event: &braze.Event{Name: "messenger_linked", Time: at}},
	)
	want := body{
		Attributes: []map[string]any{
			{"braze_id": "5f3c6c1a2b3c4d5e6f708192", "_update_existing_only": true, "messenger_id": "24689753102468975", "messenger_reachable": true,
				"messenger_window_until": "2026-11-26T11:30:00.005Z", "old": nil, "n": 1.5},
			{"user_alias": map[string]any{"alias_name": "123", "alias_label": "messenger_id"}, "_update_existing_only": true, "messenger_id": "123"},
		},
		Events: []map[string]any{
			{"external_id": "e", "_update_existing_only": true, "name": "messenger_failed", "time": "2026-11-26T11:30:00.005Z",
				"properties": map[string]any{"code": 551.0, "class": "recipient"}},
			{"external_id": "f", "_update_existing_only": true, "name": "messenger_linked", "time": "2026-11-26T11:30:00.005Z"},
		},
	}
	if diff := cmp.Diff([]body{want}, s.seen()); diff != "" {
		t.Errorf("calls (-want +got):\n%s", diff)
	}
	head := http.Header{"Authorization": {"Bearer " + theKey}, "Content-Type": {"application/json"}, "User-Agent": {"brazier/test"}}
	got := s.head()
	maps.DeleteFunc(got, func(k string, _ []string) bool { return k == "Content-Length" })
	if diff := cmp.Diff(head, got); diff != "" {
		t.Errorf("header (-want +got):\n%s", diff)
	}
}

// Only attributes of an alias make a profile, and only by the setting: as in Braze's own example of it.
func TestCreateAliases(t *testing.T) {
	s := serve(t, always(201, success))
	alias := braze.UserID{Alias: braze.Alias{Name: "example_name", Label: "example_label"}}
	objects := []braze.Object{
		{User: alias, Attributes: map[string]any{"messenger_id": "123"}},
		{User: alias, Event: &braze.Event{Name: "x", Time: time.Now()}},
		attribute("a"),
	}
	track(t, client(t, s.URL), objects...)
	track(t, client(t, s.URL, func(c *braze.Config) { c.CreateAliases = true }), objects...)
	var got []any
	for _, b := range s.seen() {
		got = append(got, b.Attributes[0]["_update_existing_only"], b.Events[0]["_update_existing_only"], b.Attributes[1]["_update_existing_only"])
	}
	if diff := cmp.Diff([]any{true, true, true, false, true, true}, got); diff != "" {
		t.Errorf("_update_existing_only (-want +got):\n%s", diff)
	}
}

// An index in an error counts within its array, whatever the order in which objects were given.
func TestErrorsFindTheirObject(t *testing.T) {
	s := serve(t, always(201, `{"message":"success","errors":[{"type":"one","input_array":"events","index":1},{"type":"two","input_array":"attributes","index":0}]}`))
	results, _ := track(t, client(t, s.URL), event("a"), attribute("b"), event("c"), attribute("d"))
	want := []braze.Result{{Outcome: braze.Done}, {Outcome: braze.Dead, Cause: braze.Refused, Reason: "two"},
		{Outcome: braze.Dead, Cause: braze.Refused, Reason: "one"}, {Outcome: braze.Done}}
	if diff := cmp.Diff(want, results); diff != "" {
		t.Errorf("results (-want +got):\n%s", diff)
	}
}

// An object that Braze cannot take is dead and not sent, and keeps no other from being sent.
func TestInvalidIsNotSent(t *testing.T) {
	s := serve(t, always(201, success))
	bad := attribute("b")
	bad.Attributes["x"] = strings.Repeat("é", 256)
	results, v := track(t, client(t, s.URL), attribute("a"), bad, event("c"))
	if diff := cmp.Diff(map[string]int{"done": 2, "dead invalid": 1}, tally(results)); diff != "" || results[1].Cause != braze.Invalid {
		t.Errorf("%+v", results)
	}
	if calls := s.seen(); v.Calls != 1 || calls[0].objects() != 2 {
		t.Errorf("%d calls, %+v", v.Calls, calls)
	}
	if _, v := track(t, client(t, s.URL), bad); v.Meaning != braze.Taken || v.Calls != 0 {
		t.Errorf("nothing to send: %+v", v)
	}
	if _, v := track(t, client(t, s.URL)); v.Meaning != braze.Taken || v.Calls != 0 {
		t.Errorf("nothing given: %+v", v)
	}
}

// One object that Braze refuses without naming it is found, and only it is dead, wherever it stands.
func TestRefusedWithoutAName(t *testing.T) {
	for bad := range 7 {
		name := fmt.Sprintf("u%d", bad)
		s := serve(t, func(_ int, b body, w http.ResponseWriter) {
			if b.holds(name) {
				answer(w, 400, `{"message":"Bad Request"}`)
				return
			}
			answer(w, 201, success)
		})
		c := client(t, s.URL)
		results, v := track(t, c, many(7)...)
		if diff := cmp.Diff(map[string]int{"done": 6, "dead refused": 1}, tally(results)); diff != "" || results[bad].Outcome != braze.Dead {
			t.Errorf("bad %d: %+v", bad, results)
		}
		if v.Meaning != braze.Taken || v.Calls > 7 {
			t.Errorf("bad %d: %+v", bad, v)
		}
		if n, _ := c.Limits(); n != braze.MaxObjects {
			t.Errorf("bad %d: the limit is %d, though the batch was not to blame", bad, n)
		}
		sent := map[string]int{} // in calls that were taken
		for _, b := range s.seen() {
			if !b.holds(name) {
				for _, id := range b.ids() {
					sent[id]++
				}
			}
		}
		for id, n := range sent {
			if n != 1 {
				t.Errorf("bad %d: %s was taken %d times", bad, id, n)
			}
		}
	}
}

// What is refused alone is dead where Braze takes others, and nobody's fault where Braze takes nothing.
func TestRefusedAlone(t *testing.T) {
	var refuse atomic.Bool
	s := serve(t, func(_ int, _ body, w http.ResponseWriter) {
		if refuse.Load() {
			answer(w, 400, "<h1>blocked</h1>") // a firewall's
			return
		}
		answer(w, 201, success)
	})
	c := client(t, s.URL)
	step := func(name string, n int, wrong bool, want string, meaning braze.Meaning) {
		t.Helper()
		refuse.Store(wrong)
		results, v := track(t, c, many(n)...)
		if tally(results)[want] != n || v.Meaning != meaning {
			t.Errorf("%s: %v, %+v, want %s and %s", name, tally(results), v, want, meaning)
		}
		if (v.Wait == braze.Wait{}) != (meaning == braze.Taken) {
			t.Errorf("%s: wait %+v", name, v.Wait)
		}
	}
	step("at the start", 1, true, "again refused", braze.Rejected)
	step("a batch at the start", 3, true, "again refused", braze.Rejected)
	step("taken", 1, false, "done", braze.Taken)
	step("alone after one was taken", 1, true, "dead refused", braze.Taken)
	step("alone again", 1, true, "again refused", braze.Rejected)
	step("taken again", 2, false, "done", braze.Taken)
	step("a whole batch after others were taken", 5, true, "again refused", braze.Rejected)
}

// A 400 that names some objects is about these; the others were not judged and are sent again.
func TestRefusedByNameInPart(t *testing.T) {
	s := serve(t, func(n int, _ body, w http.ResponseWriter) {
		if n == 1 {
			answer(w, 400, `{"message":"Valid data must be provided in the 'attributes', 'events', or 'purchases' fields.","errors":[`+
				`{"type":"bad","input_array":"attributes","index":1},{"type":"bad","input_array":"attributes","index":3}]}`)
			return
		}
		answer(w, 201, success)
	})
	results, v := track(t, client(t, s.URL), many(4)...)
	if diff := cmp.Diff(map[string]int{"done": 2, "dead refused": 2}, tally(results)); diff != "" || v.Calls != 2 {
		t.Errorf("%+v\n%s", v, diff)
	}
	if got := s.seen()[1].ids(); !slices.Equal(got, []string{"u0", "u2"}) {
		t.Errorf("sent again: %v", got)
	}
}

// Whoever has a contract with smaller calls is found out by halving, and remembered; for an hour, so that a mistake heals.
func TestTooManyIsRemembered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var sizes []int
		c := client(t, "http://127.0.0.1", func(c *braze.Config) {
			c.Transport = pretend(func(b body) (int, string) {
				sizes = append(sizes, b.objects())
				if b.objects() > 50 {
					return 400, `{"message":"attributes may have at most 50 entries"}`
				}
				return 201, success
			})
		})
		step := func(name string, n int, want ...int) {
			t.Helper()
			sizes = nil
			results, v := track(t, c, many(n)...)
			if tally(results)["done"] != n || v.Meaning != braze.Taken || !slices.Equal(sizes, want) {
				t.Errorf("%s: %v, %+v, calls of %v, want %v", name, tally(results), v, sizes, want)
			}
			if told := len(v.Unattributed) > 0; told != (want[0] > 50) {
				t.Errorf("%s: told %q", name, v.Unattributed)
			}
		}
		step("first", 75, 75, 38, 37)
		step("remembered", 75, 37, 37, 1)
		if n, bytes := c.Limits(); n != 37 || bytes != braze.MaxBytes {
			t.Errorf("limits %d, %d", n, bytes)
		}
		time.Sleep(59 * time.Minute)
		step("still", 40, 37, 3)
		time.Sleep(2 * time.Minute)
		step("forgotten", 75, 75, 38, 37)
	})
}

// 413 halves by bytes, and remembers the bytes.
func TestTooLargeIsRemembered(t *testing.T) {
	var sizes []int
	c := client(t, "http://127.0.0.1", func(c *braze.Config) {
		c.Transport = pretend(func(b body) (int, string) {
			sizes = append(sizes, b.objects())
			if b.objects() > 10 || b.holds("u33") {
				return 413, ""
			}
			return 201, success
		})
	})
	results, v := track(t, c, many(32)...)
	if tally(results)["done"] != 32 || v.Meaning != braze.Taken {
		t.Errorf("%v %+v", tally(results), v)
	}
	n, bytes := c.Limits()
	if want := braze.Size(attribute("u10")) * 8; n != braze.MaxObjects || bytes < want-want/10 || bytes > want+want/10 {
		t.Errorf("limits %d objects, %d bytes, want about %d bytes", n, bytes, want)
	}
	sizes = nil
	results, _ = track(t, c, many(35)...)
	if diff := cmp.Diff(map[string]int{"done": 34, "dead too_large": 1}, tally(results)); diff != "" || slices.Max(sizes) > 10 {
		t.Errorf("calls of %v\n%s", sizes, diff)
	}
}

// Small objects that are all too large for whatever stands before Braze are nobody's fault, and teach nothing of Braze's limits.
func TestTooLargeForAProxy(t *testing.T) {
	c := client(t, "http://127.0.0.1", func(c *braze.Config) {
		c.Transport = pretend(func(body) (int, string) { return 413, "<h1>413 Request Entity Too Large</h1>" })
	})
	results, v := track(t, c, many(5)...)
	if tally(results)["again too_large"] != 5 || v.Meaning != braze.Rejected || !strings.Contains(v.Text, "413") {
		t.Errorf("%v, %+v", tally(results), v)
	}
	if objects, bytes := c.Limits(); objects != braze.MaxObjects || bytes != braze.MaxBytes {
		t.Errorf("limits %d, %d", objects, bytes)
	}
}

// Objects beyond the limits make several calls, in order.
func TestMoreThanOneCall(t *testing.T) {
	s := serve(t, always(201, success))
	objects := many(160)
	results, v := track(t, client(t, s.URL), objects...)
	var sizes []int
	var ids []string
	for _, b := range s.seen() {
		sizes, ids = append(sizes, b.objects()), append(ids, b.ids()...)
	}
	if tally(results)["done"] != 160 || v.Calls != 3 || !slices.Equal(sizes, []int{75, 75, 10}) {
		t.Errorf("calls of %v, %+v", sizes, v)
	}
	for i, id := range ids {
		if id != objects[i].User.ExternalID {
			t.Fatalf("object %d is %s", i, id)
		}
	}
	one := client(t, s.URL, func(c *braze.Config) { c.MaxObjects = 1 })
	if _, v := track(t, one, many(3)...); v.Calls != 3 {
		t.Errorf("%d calls of one object", v.Calls)
	}
}

// The first answer that is about the workspace ends it: what was taken stays taken, what was not sent is as it was.
func TestWorkspaceAnswerEnds(t *testing.T) {
	for _, c := range []struct {
		status  int
		second  string // the objects of the second call
		meaning braze.Meaning
	}{
		{401, "again not_taken", braze.Denied},
		{429, "again not_taken", braze.Limited},
		{500, "again in_doubt", braze.Failed},
	} {
		s := serve(t, func(n int, _ body, w http.ResponseWriter) {
			if n == 2 {
				answer(w, c.status, "")
				return
			}
			answer(w, 201, success)
		})
		results, v := track(t, client(t, s.URL), many(200)...)
		want := map[string]int{"done": 75, "again not_taken": 50}
		want[c.second] += 75
		if diff := cmp.Diff(want, tally(results)); diff != "" || v.Meaning != c.meaning || v.Calls != 2 {
			t.Errorf("%d: %+v\n%s", c.status, v, diff)
		}
	}
}

// An object that no call can hold is dead before it is sent.
func TestObjectBeyondEveryCall(t *testing.T) {
	s := serve(t, always(201, success))
	huge := braze.Object{User: user("a"), Attributes: map[string]any{}}
	for n := range 16_000 {
		huge.Attributes[fmt.Sprintf("x%d", n)] = strings.Repeat("x", 255)
	}
	results, v := track(t, client(t, s.URL), huge, attribute("b"))
	if results[0].Outcome != braze.Dead || results[0].Cause != braze.TooLarge || results[1].Outcome != braze.Done || v.Calls != 1 {
		t.Errorf("%+v, %+v", results, v)
	}
}

// An object that was stored as JSON in between is the same to Braze.
func TestStoredObjects(t *testing.T) {
	s := serve(t, always(201, success))
	objects := []braze.Object{
		{User: braze.UserID{BrazeID: "5f3c6c1a2b3c4d5e6f708192"}, Attributes: map[string]any{"messenger_id": "24689753102468975", "old": nil, "ok": true, "n": 551}},
		{User: user("a"), Attributes: map[string]any{"messenger_window_until": time.Unix(1795600000, 0)}},
		{User: braze.UserID{Alias: braze.Alias{Name: "n", Label: "l"}}, Event: &braze.Event{Name: "e", Time: time.Unix(1795600000, 5e6), Properties: map[string]any{"x": 1}}},
	}
	raw, err := json.Marshal(objects)
	if err != nil {
		t.Fatal(err)
	}
	var stored []braze.Object
	if err := json.Unmarshal(raw, &stored); err != nil {
		t.Fatal(err)
	}
	track(t, client(t, s.URL), objects...)
	track(t, client(t, s.URL), stored...)
	calls := s.seen()
	for _, b := range calls { // the same time in another form
		for name, v := range b.Attributes[1] {
			if at, err := time.Parse(time.RFC3339, fmt.Sprint(v)); err == nil {
				b.Attributes[1][name] = at.UTC()
			}
		}
	}
	if diff := cmp.Diff(calls[0], calls[1]); diff != "" {
		t.Errorf("(-given +stored):\n%s", diff)
	}
}

// A context that has ended sends nothing, and nothing is an attempt.
func TestContextEndedBefore(t *testing.T) {
	s := serve(t, always(201, success))
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	results, v := client(t, s.URL).Track(ctx, many(3))
	if tally(results)["again not_taken"] != 3 || v.Meaning != braze.Unsent || v.Wait != (braze.Wait{}) || v.Calls != 0 || len(s.seen()) != 0 {
		t.Errorf("%v, %+v", tally(results), v)
	}
}

// A context that ends between two calls of one Track leaves what was taken, and what was not sent.
func TestContextEndsBetween(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	c := client(t, "http://127.0.0.1", func(c *braze.Config) {
		c.Transport = pretend(func(body) (int, string) {
			cancel()
			return 201, success
		})
	})
	results, v := c.Track(ctx, many(100))
	if diff := cmp.Diff(map[string]int{"done": 75, "again not_taken": 25}, tally(results)); diff != "" || v.Meaning != braze.Unsent || v.Calls != 1 {
		t.Errorf("%+v\n%s", v, diff)
	}
}
