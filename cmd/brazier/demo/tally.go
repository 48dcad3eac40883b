package demo

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap/zapcore"

	"github.com/brazier-relay/brazier/cmd/brazier/cli"
	"github.com/brazier-relay/brazier/sendapi"
)

// tally counts what became of the messages. It sees Brazier as its operators do, through its log lines; only the
// ingress's answers come from the campaign.
type tally struct {
	mu        sync.Mutex
	start     time.Time
	counts    counts
	ages      []time.Duration // from accepted to delivered
	reasons   map[string]int  // of what did not go straight through
	screen    *cli.Screen
	following bool   // after the campaign: each line is shown
	blocked   string // id of the message to the person who cannot be reached
}

// counts is what became of the messages so far.
type counts struct {
	accepted, duplicate, rejected, unanswered    int // by the ingress's answer
	delivered, dead, retried, inDoubt, throttled int // by the log
	elapsed                                      time.Duration
}

func newTally() *tally { return &tally{start: time.Now(), reasons: map[string]int{}} }

func (t *tally) begin(s *cli.Screen) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.screen = s
}

// follow shows each event from now on.
func (t *tally) follow(*cli.Screen) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.following = true
}

func (t *tally) now() counts {
	t.mu.Lock()
	defer t.mu.Unlock()
	c := t.counts
	c.elapsed = time.Since(t.start)
	return c
}

// answered counts an answer of the ingress.
func (t *tally) answered(status int, text string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case status == http.StatusAccepted && text == "duplicate":
		t.counts.duplicate++
	case status == http.StatusAccepted:
		t.counts.accepted++
	case status == 0:
		t.counts.unanswered++
	default:
		t.counts.rejected++
		t.reasons[fmt.Sprintf("rejected\x00%d  %s", status, text)]++
	}
}

// quantile returns the q-th quantile of the time from accepted to delivered.
func (t *tally) quantile(q float64) time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.ages) == 0 {
		return 0
	}
	slices.Sort(t.ages)
	return t.ages[min(int(q*float64(len(t.ages))), len(t.ages)-1)]
}

// unreachable returns the id of the message to the person who cannot be reached.
func (t *tally) unreachable() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.blocked
}

// why returns the reasons of one kind, the most frequent first.
func (t *tally) why(kind string) (reasons []string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	names := slices.Sorted(maps.Keys(t.reasons))
	slices.SortStableFunc(names, func(a, b string) int { return t.reasons[b] - t.reasons[a] })
	for _, name := range names {
		if of, reason, _ := strings.Cut(name, "\x00"); of == kind {
			reasons = append(reasons, fmt.Sprintf("%d × %s", t.reasons[name], reason))
		}
	}
	return reasons
}

// event is a log line, its fields by name.
type event map[string]any

func (e event) text(name string) string { s, _ := e[name].(string); return s }

func (e event) number(name string) int64 { n, _ := e[name].(int64); return n }

// error names Facebook's error as people look it up.
func (e event) error() string {
	code, subcode := int(e.number("code")), int(e.number("subcode"))
	if code == 0 {
		return strings.TrimPrefix(e.text("reason"), "sendapi: ")
	}
	number := strconv.Itoa(code)
	if subcode != 0 {
		number += "/" + strconv.Itoa(subcode)
	}
	row, _ := sendapi.Explain(code, subcode, "")
	return fmt.Sprintf("%s %s: %s", e.text("class"), number, row.Meaning)
}

func (t *tally) happened(e event) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.screen == nil {
		return
	}
	c := &t.counts
	switch e.text("event") {
	case "delivered":
		if c.delivered++; c.delivered == 1 {
			t.screen.Say("  first message delivered %.1f s after the start", time.Since(t.start).Seconds())
		}
		t.ages = append(t.ages, time.Duration(e.number("age_ms"))*time.Millisecond)
		t.tell("delivered to %s for %s, %d ms after it was accepted", e.text("recipient"), e.text("page"), e.number("age_ms"))
	case "dead":
		c.dead++
		if t.blocked == "" && e.text("class") == string(sendapi.ClassRecipient) {
			t.blocked = e.text("id")
		}
		t.reasons["dead\x00"+e.error()]++
		t.tell("dead letter on %s: %s", e.text("page"), e.error())
	case "retry":
		c.retried++
		t.reasons["retried\x00"+e.error()]++
		t.tell("%s: will try again in %d ms (%s)", e.text("page"), e.number("delay_ms"), e.error())
	case "in_doubt":
		c.inDoubt++
		t.reasons["in doubt\x00"+strings.TrimPrefix(e.text("cause"), "sendapi: ")+" ("+e.text("action")+")"]++
	case "held":
		c.throttled++
		t.reasons["held\x00"+e.text("page")+": "+e.error()]++
		t.screen.Say("  Facebook throttles %s (error %d): it is held, and the other page goes on", e.text("page"), e.number("code"))
	case "resumed":
		t.screen.Say("  %s is tried again with one message", e.text("page"))
	case "rejected":
		t.tell("rejected with %d: %s", e.number("status"), e.text("reason"))
	case "linked":
		t.tell("%s on %s is a user of Braze now: %s", e.text("recipient"), e.text("page"), e.text("user"))
	case "duplicate":
		t.tell("accepted before, not sent again: %s", e.text("id"))
	}
}

// tell shows a line after the campaign.
func (t *tally) tell(format string, args ...any) {
	if t.following {
		t.screen.Say("  "+format, args...)
	}
}

// core passes log entries to a tally. With makes a child that knows the fields given before.
type core struct {
	zapcore.LevelEnabler
	tally *tally
	known []zapcore.Field
}

func (t *tally) core() zapcore.Core { return core{LevelEnabler: zapcore.DebugLevel, tally: t} }

func (c core) With(fields []zapcore.Field) zapcore.Core {
	c.known = append(slices.Clip(c.known), fields...)
	return c
}

func (c core) Check(entry zapcore.Entry, checked *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	return checked.AddCore(entry, c)
}

func (c core) Write(_ zapcore.Entry, fields []zapcore.Field) error {
	e := zapcore.NewMapObjectEncoder()
	for _, f := range append(slices.Clip(c.known), fields...) {
		f.AddTo(e)
	}
	c.tally.happened(e.Fields)
	return nil
}

func (core) Sync() error { return nil }
