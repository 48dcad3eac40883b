package sandbox

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// within is a context for what has to happen soon.
func within(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// inFlight sends a body and returns when the sandbox has it. It is answered when release is called, which returns once it was.
func (r *rig) inFlight(body string) (release func()) {
	r.t.Helper()
	entered, leave, answered := make(chan struct{}), make(chan struct{}), make(chan struct{})
	r.Script(Fault{Action: Pass, OnHit: func(Call) {
		close(entered)
		<-leave
	}})
	go func() {
		defer close(answered)
		if got, err := r.do(r.request(body)); err != nil || got.status != 201 {
			r.t.Errorf("in flight: %+v, %v", got, err)
		}
	}()
	<-entered
	return func() {
		close(leave)
		<-answered
	}
}

// Two calls in flight with the same user are seen, by whatever id; with different ones, or one after the other, there is nothing to see.
func TestOverlaps(t *testing.T) {
	r := start(t, Config{})
	jon, err := r.Create(Profile{ExternalID: "jon", Aliases: []Alias{{"n", "l"}}})
	if err != nil {
		t.Fatal(err)
	}
	r.make("ann")
	want := 0
	step := func(name, first, second string, more int, who ...string) {
		t.Helper()
		before := len(r.Summary().Overlapping)
		release := r.inFlight(first)
		r.taken(second)
		release()
		r.taken(second)
		want += more
		sum := r.Summary()
		if sum.Overlaps != want {
			t.Errorf("%s: %d overlaps, want %d", name, sum.Overlaps, want)
		}
		if diff := cmp.Diff(who, append([]string(nil), sum.Overlapping[before:]...)); diff != "" {
			t.Errorf("%s: users (-want +got):\n%s", name, diff)
		}
	}
	user := "braze_id:" + jon.BrazeID
	byBraze := attributes(`{"braze_id":"` + jon.BrazeID + `","x":"2"}`)
	byAlias := attributes(`{"user_alias":{"alias_name":"n","alias_label":"l"},"x":"3"}`)
	step("different users", attributes(attribute("jon", `"x":"1"`)), attributes(attribute("ann", `"x":"1"`)), 0)
	step("the same user", attributes(attribute("jon", `"x":"1"`)), events(event("jon", "e")), 1, user)
	step("by braze_id", attributes(attribute("jon", `"x":"1"`)), byBraze, 1, user)
	step("by alias", byAlias, byBraze, 1, user)
	step("one of several", attributes(attribute("ann", `"x":"1"`), attribute("jon", `"x":"1"`)), attributes(attribute("jon", `"x":"1"`), attribute("u", `"x":"1"`)), 1, user)
	step("nobody's profile", attributes(attribute("u", `"x":"1"`)), attributes(attribute("u", `"x":"2"`)), 1, "external_id:u")
	step("one call with a user twice", attributes(attribute("jon", `"x":"1"`), attribute("jon", `"x":"2"`)), attributes(attribute("ann", `"x":"1"`)), 0)
}

// A caller that abandoned a call may send its users again: the sandbox notices later than the caller.
func TestNoOverlapWithAnAbandonedCall(t *testing.T) {
	for _, c := range []struct {
		name  string
		fault Fault
	}{
		{"slow", Fault{Action: Pass, Delay: time.Hour}},
		{"hangs", Fault{Action: Hang}},
		{"hangs, written", Fault{Action: Hang, Accept: true}},
	} {
		r := start(t, Config{})
		r.make("a")
		entered := make(chan struct{})
		c.fault.OnHit = func(Call) { close(entered) }
		id := r.Script(c.fault)
		ctx, cancel := context.WithCancel(within(t))
		ended := make(chan error)
		go func() {
			_, err := r.do(r.request(attributes(attribute("a", `"x":"1"`))).WithContext(ctx))
			ended <- err
		}()
		<-entered
		r.taken(attributes(attribute("a", `"x":"2"`))) // as if the caller had abandoned the call just before
		cancel()
		if err := <-ended; err == nil {
			t.Errorf("%s: answered", c.name)
		}
		r.Clear(id)
		if err := r.finished(); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		if sum := r.Summary(); sum.Overlaps != 0 {
			t.Errorf("%s: %d overlaps", c.name, sum.Overlaps)
		}
	}
}

// finished returns when no call is in flight.
func (r *rig) finished() error {
	return r.Wait(within(r.t), func(Summary) bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		return len(r.flights) == 0
	})
}

// A caller that waits for each answer overlaps with nobody, however fast; callers with users of their own do neither.
func TestNoOverlapInOrder(t *testing.T) {
	r := start(t, Config{Hourly: Off, Burst: Off, Latency: 100 * time.Microsecond, Jitter: 100 * time.Microsecond})
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for n := range 100 {
				got, err := r.do(r.request(attributes(attribute(fmt.Sprintf("u%d", i), fmt.Sprintf(`"x":"%d"`, n)))))
				if err != nil || got.status != 201 {
					t.Errorf("%+v, %v", got, err)
				}
			}
		})
	}
	wg.Wait()
	if sum := r.Summary(); sum.Overlaps != 0 || sum.Calls != 800 || sum.Ignored != 800 {
		t.Errorf("%+v", sum)
	}
}

// Told to reorder, the sandbox writes two calls in flight with the same user in the wrong order, and calls one after the other in
// the right one, whatever else is in flight.
func TestReorder(t *testing.T) {
	for _, reorder := range []bool{false, true} {
		r := start(t, Config{Reorder: reorder})
		r.make("a", "b")
		write := func(id, value string) string { return attributes(attribute(id, `"x":"`+value+`"`)) }
		release := r.inFlight(write("a", "1"))
		r.taken(write("a", "2"))
		for n := range 5 {
			r.taken(write("b", fmt.Sprint(n)))
		}
		release()
		want := "2"
		if reorder {
			want = "1"
		}
		if got := r.profile("a").Attributes["x"]; got != want {
			t.Errorf("reorder %v: a has %v, want %v", reorder, got, want)
		}
		if got := r.profile("b").Attributes["x"]; got != "4" {
			t.Errorf("reorder %v: b has %v", reorder, got)
		}
		if sum := r.Summary(); sum.Attributes != 7 || sum.Ignored != 0 || sum.Overlaps != 1 {
			t.Errorf("reorder %v: %+v", reorder, sum)
		}
		r.SetReorder(false)
		release = r.inFlight(write("a", "3"))
		r.taken(write("a", "4"))
		release()
		if got := r.profile("a").Attributes["x"]; got != "4" {
			t.Errorf("reorder off again: %v", got)
		}
	}
}

// With Reorder the users who do not exist are counted all the same.
func TestReorderCountsIgnored(t *testing.T) {
	r := start(t, Config{Reorder: true})
	r.taken(attributes(attribute("nobody", `"x":"1"`)))
	if sum := r.Summary(); sum.Ignored != 1 || sum.Attributes != 0 {
		t.Errorf("%+v", sum)
	}
}
