package sandbox

import (
	"fmt"
	"net/http"
	"sync/atomic"
	"testing"
	"time"
)

// clock is a time that a test moves.
type clock struct{ at atomic.Int64 }

func (c *clock) set(at time.Time)        { c.at.Store(at.UnixNano()) }
func (c *clock) now() time.Time          { return time.Unix(0, c.at.Load()).UTC() }
func (c *clock) forward(d time.Duration) { c.at.Add(int64(d)) }

// limitHeaders are limit, remaining and reset.
func limitHeaders(h http.Header) string {
	return h.Get("X-RateLimit-Limit") + " " + h.Get("X-RateLimit-Remaining") + " " + h.Get("X-RateLimit-Reset")
}

// The hourly limit ends on the clock hour, not an hour after the first call, and calls that it refuses count.
func TestHourlyLimit(t *testing.T) {
	var c clock
	c.set(time.Date(2026, 11, 26, 10, 58, 0, 0, time.UTC))
	r := start(t, Config{Hourly: 2, Burst: Off, Now: c.now})
	r.make("a")
	hour := time.Date(2026, 11, 26, 11, 0, 0, 0, time.UTC)
	step := func(name string, status, left int, reset time.Time) {
		t.Helper()
		got := r.post(attributes(attribute("a", `"x":1`)))
		if want := fmt.Sprintf("2 %d %d", left, reset.Unix()); got.status != status || limitHeaders(got.header) != want {
			t.Errorf("%s: %d, %s, want %d, %s", name, got.status, limitHeaders(got.header), status, want)
		}
	}
	step("first", 201, 1, hour)
	step("second", 201, 0, hour)
	step("third", 429, 0, hour)
	c.forward(time.Minute)
	step("a minute later", 429, 0, hour)
	c.forward(time.Minute)
	step("on the hour", 201, 1, hour.Add(time.Hour))
	if sum := r.Summary(); sum.Statuses[429] != 2 || sum.Attributes != 3 {
		t.Errorf("%+v", sum)
	}
}

// The burst limit counts in three seconds. The headers show whichever limit has less left.
func TestBurstLimit(t *testing.T) {
	var c clock
	began := time.Date(2026, 11, 26, 10, 0, 0, 0, time.UTC)
	c.set(began)
	r := start(t, Config{Hourly: 5, Burst: 2, Now: c.now})
	r.make("a")
	step := func(name string, status int, want string) {
		t.Helper()
		if got := r.post(attributes(attribute("a", `"x":1`))); got.status != status || limitHeaders(got.header) != want {
			t.Errorf("%s: %d, %s, want %d, %s", name, got.status, limitHeaders(got.header), status, want)
		}
	}
	burst := func(left int, from time.Duration) string {
		return fmt.Sprintf("2 %d %d", left, began.Add(from+3*time.Second).Unix())
	}
	hourly := func(left int) string { return fmt.Sprintf("5 %d %d", left, began.Add(time.Hour).Unix()) }
	step("first", 201, burst(1, 0))
	step("second", 201, burst(0, 0))
	step("third", 429, burst(0, 0))
	c.forward(2999 * time.Millisecond)
	step("just before", 429, burst(0, 0))
	c.forward(time.Millisecond)
	step("three seconds later", 201, hourly(0))
	step("the hour is used up", 429, hourly(0))
}

// Who has no key uses up nobody's limit; who sends rubbish does.
func TestWhatCounts(t *testing.T) {
	r := start(t, Config{Keys: []string{"key"}, Hourly: 2, Burst: Off})
	for range 3 {
		if got := r.post("{}", "Authorization", "Bearer wrong"); got.status != 401 || got.header.Get("X-RateLimit-Limit") != "" {
			t.Errorf("%+v", got)
		}
	}
	for i, want := range []int{400, 400, 429} {
		if got := r.post("{}"); got.status != want {
			t.Errorf("call %d: %d, want %d", i+1, got.status, want)
		}
	}
}

// Without limits there are no headers.
func TestLimitsOff(t *testing.T) {
	r := start(t, Config{Hourly: Off, Burst: Off})
	if got := r.post(attributes(attribute("a", `"x":1`))); got.status != 201 || limitHeaders(got.header) != "  " {
		t.Errorf("%d, %q", got.status, limitHeaders(got.header))
	}
	if got := start(t, Config{Hourly: Off}).post(attributes(attribute("a", `"x":1`))); got.header.Get("X-RateLimit-Limit") != "3000" {
		t.Errorf("burst alone: %q", limitHeaders(got.header))
	}
	if got := start(t, Config{Burst: Off}).post(attributes(attribute("a", `"x":1`))); got.header.Get("X-RateLimit-Limit") != "250000" {
		t.Errorf("hourly alone: %q", limitHeaders(got.header))
	}
}

// A call over the limit is told so in more than one way, since nobody knows in which.
func TestLimitedBodiesVary(t *testing.T) {
	bodies := map[string]bool{}
	r := start(t, Config{Hourly: 1, Burst: Off})
	for range 50 {
		bodies[r.post(attributes(attribute("a", `"x":1`))).body] = true
	}
	if len(bodies) != 3 { // and one that was taken
		t.Errorf("bodies %v", bodies)
	}
}
