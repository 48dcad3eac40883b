package main

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap/zaptest"

	"github.com/brazier-relay/brazier/cmd/brazier/admin"
	"github.com/brazier-relay/brazier/cmd/brazier/cli"
	"github.com/brazier-relay/brazier/queue"
	"github.com/brazier-relay/brazier/queue/queuetest"
	"github.com/brazier-relay/brazier/sendapi"
)

// traceFixture is a queue, the commands beside it, and a worker's part in it.
type traceFixture struct {
	t     *testing.T
	q     *queue.Queue
	flags []string
	lane  *queue.Source
}

func newTraceFixture(t *testing.T) *traceFixture {
	t.Helper()
	dir := t.TempDir()
	q, err := queue.Open(t.Context(), queue.Config{InProcess: queuetest.Server(t, dir), Log: zaptest.NewLogger(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(q.Close)
	lane := q.Source(peoplePage, queue.Bulk, 1)
	t.Cleanup(lane.Stop)
	return &traceFixture{t: t, q: q, flags: []string{"--data=" + dir, "--pages=" + refPages(t)}, lane: lane}
}

func (f *traceFixture) run(args ...string) ended {
	f.t.Helper()
	got := command(f.t, "", slices.Concat([]string{"trace"}, args, f.flags)...)
	keepsSecrets(f.t, got.out+got.err, marker, peopleText, peoplePSID)
	return got
}

// says checks what trace says of a message.
func (f *traceFixture) says(id string, wants ...string) {
	f.t.Helper()
	got := f.run(id)
	for _, want := range wants {
		if got.code != cli.ExitOK || !strings.Contains(strings.Join(strings.Fields(got.out), " "), want) {
			f.t.Errorf("%q is missing: code %d, errors %q, output\n%s", want, got.code, got.err, got.out)
		}
	}
}

// json returns what trace --json says.
func (f *traceFixture) json(args ...string) (found []admin.TracedMessage) {
	f.t.Helper()
	got := f.run(append(args, "--json")...)
	if got.code != cli.ExitOK {
		f.t.Fatalf("trace %v: %+v", args, got)
	}
	for line := range strings.Lines(got.out) {
		var v admin.TracedMessage
		if err := json.Unmarshal([]byte(line), &v); err != nil {
			f.t.Fatalf("%s: %v", line, err)
		}
		found = append(found, v)
	}
	return found
}

// publish stores a message of a user.
func (f *traceFixture) publish(user string) (id string) {
	f.t.Helper()
	now := time.Now()
	j := &queue.Job{ID: queue.NewID(), Page: peoplePage, Lane: queue.Bulk, Recipient: "…6007", RecipientDigest: sendapi.PSID(peoplePSID).Digest(), Accepted: now,
		Expire: now.Add(time.Hour), Tracking: queue.Tracking{Campaign: "spring", User: user, ExternalID: "external-" + user}, Body: []byte(message(peoplePSID, peopleText))}
	if _, err := f.q.Publish(f.ctx(), j); err != nil {
		f.t.Fatal(err)
	}
	return j.ID
}

func (f *traceFixture) ctx() context.Context {
	ctx, cancel := context.WithTimeout(f.t.Context(), peopleDefault)
	f.t.Cleanup(cancel)
	return ctx
}

// begin has a worker begin the next message.
func (f *traceFixture) begin() *queue.Delivery {
	f.t.Helper()
	d, err := f.lane.Next(f.ctx())
	if err == nil {
		err = d.Begin(f.ctx())
	}
	if err != nil {
		f.t.Fatal(err)
	}
	return d
}

// refused ends an attempt as a worker does.
func (f *traceFixture) refused(d *queue.Delivery, class sendapi.Class, code, subcode int, trace string, settle func(*queue.Delivery) error) {
	f.t.Helper()
	d.AddTry(queue.Try{At: f.q.Now(), Class: string(class), Code: code, Subcode: subcode, TraceID: trace, Took: 120 * time.Millisecond})
	if err := settle(d); err != nil {
		f.t.Fatal(err)
	}
}

func (f *traceFixture) retry(delay time.Duration) func(*queue.Delivery) error {
	return func(d *queue.Delivery) error { return d.Retry(f.ctx(), d.Attempts+1, "transient", delay) }
}

func (f *traceFixture) die(class sendapi.Class) func(*queue.Delivery) error {
	return func(d *queue.Delivery) error {
		return d.DeadLetter(f.ctx(), queue.Reason{Class: string(class), Code: 551, Subcode: 1545041, TraceID: "TRACE-DEAD", Attempts: d.Attempts + 1, Text: "This person isn't available right now."})
	}
}

func (f *traceFixture) holds(page string, s queue.PageState) {
	f.t.Helper()
	old, err := f.q.PageState(f.ctx(), page)
	if err == nil {
		old.Hold(s)
		_, err = f.q.SetPageState(f.ctx(), page, old)
	}
	if err != nil {
		f.t.Fatal(err)
	}
}

// A message is followed from its acceptance, over attempts that failed, to its end.
func TestTraceDelivered(t *testing.T) {
	t.Parallel()
	f := newTraceFixture(t)
	id := f.publish("ada")
	f.says(id, "id "+id, "state waits, and no worker has tried it yet", "page acme (1029384756)", "lane bulk", "recipient …6007", "campaign spring", "user ada", "accepted 20", "expires 20")
	d := f.begin()
	f.says(id, "is sending it, as it said at 20")
	f.refused(d, sendapi.ClassTransient, 2, 0, "TRACE-1", f.retry(0))
	f.refused(f.begin(), sendapi.ClassTransient, 1200, 0, "TRACE-2", f.retry(time.Hour))
	f.says(id, "waits, not to be tried before 20", "transient, after 2 attempts", "attempts that did not deliver it:", "AT CLASS CODE TOOK FBTRACE ID",
		"transient 2 120ms TRACE-1", "transient 1200 120ms TRACE-2")
	held := f.publish("eve")
	f.refused(f.begin(), sendapi.ClassThrottle, 613, 0, "TRACE-3", func(d *queue.Delivery) error { return d.Retry(f.ctx(), 0, "throttle", 0) })
	f.says(held, "state waits to be tried again: throttle, no attempt counted", "throttle 613 120ms TRACE-3")
	if err := f.begin().Done(f.ctx()); err != nil {
		t.Fatal(err)
	}

	v := f.json(id)[0]
	if v.ID != id || v.State != queue.TraceWaiting || v.Page != peoplePage || v.PageName != "acme" || v.Attempts != 2 || v.Class != "transient" || v.Hold != nil ||
		v.NotBefore == nil || v.NotBefore.Before(time.Now().Add(50*time.Minute)) || v.User != "ada" || v.Recipient != "…6007" || len(v.Tries) != 2 ||
		v.Tries[1].Code != 1200 || v.Tries[1].FBTraceID != "TRACE-2" || v.Tries[1].TookMS != 120 || v.Tries[1].At.Before(v.Tries[0].At) {
		t.Errorf("%+v", v)
	}

	quick := f.publish("bob")
	if err := f.begin().Done(f.ctx()); err != nil {
		t.Fatal(err)
	}
	f.says(quick, "state delivered 20", "after 1 attempt. The log has Facebook's message id (mid): search it for the id "+quick)
	if v := f.json(quick)[0]; v.State != queue.TraceDelivered || v.Attempts != 1 || v.Accepted != nil || v.Tries == nil || len(v.Tries) > 0 {
		t.Errorf("%+v", v)
	}
}

// A page's hold is why its messages wait, and so is that of its app.
func TestTraceHeld(t *testing.T) {
	t.Parallel()
	f := newTraceFixture(t)
	id := f.publish("ada")
	now := time.Now()
	f.holds(queue.AppKey("acme-app"), queue.PageState{Class: "throttle_app", Code: 4, Reason: "too many calls", Since: now, Until: now.Add(time.Hour)})
	f.says(id, "hold all pages of the app of acme are held since 20", "(throttle_app 4) until 20", "too many calls")
	f.holds(peoplePage, queue.PageState{Class: "auth", Code: 190, Subcode: 463, Reason: "the token has expired", Since: now})
	f.says(id, "hold page acme is held since 20", "(auth 190/463) until it has another token or a person resumes it: the token has expired")
	if h := f.json(id)[0].Hold; h == nil || h.Of != "page" || h.Class != "auth" || h.Code != 190 || h.Until != nil {
		t.Errorf("%+v", h)
	}
	if got := f.run("--user=ada"); !strings.Contains(got.out, "page acme is held") {
		t.Errorf("%+v", got)
	}
	if err := f.begin().Done(f.ctx()); err != nil {
		t.Fatal(err)
	}
	if h := f.json(id)[0].Hold; h != nil {
		t.Errorf("a delivered message has a hold: %+v", h)
	}
}

// A dead message is followed over its replays, by each of its ids.
func TestTraceReplayed(t *testing.T) {
	t.Parallel()
	f := newTraceFixture(t)
	id := f.publish("ada")
	f.refused(f.begin(), sendapi.ClassRecipient, 551, 1545041, "TRACE-1", f.die(sendapi.ClassRecipient))
	f.says(id, "state dead since 20", "recipient 551/1545041, after 1 attempt", "reason This person isn't available right now.", "fbtrace id TRACE-DEAD",
		"recipient 551/1545041 120ms TRACE-1", "user ada")
	if got := command(t, "", append([]string{"deadletters", "show", id}, f.flags...)...); !strings.Contains(got.out, "attempts that did not deliver it:") || !strings.Contains(got.out, "TRACE-1") {
		t.Errorf("deadletters show: %+v", got)
	}
	ids := []string{id}
	for n := range 2 {
		seq := f.json(id)[n].Seq
		if got := command(t, "", slices.Concat([]string{"deadletters", "replay", "--yes", id}, f.flags)...); got.code != cli.ExitOK || !strings.Contains(got.out, "Replayed 1") {
			t.Fatalf("replay: %+v", got)
		}
		ids = append(ids, fmt.Sprintf("%s-%d", id, seq))
		if n == 0 {
			f.refused(f.begin(), sendapi.ClassWindow, 10, 2018278, "TRACE-2", f.die(sendapi.ClassWindow))
		}
	}
	if err := f.begin().Done(f.ctx()); err != nil {
		t.Fatal(err)
	}
	for _, id := range ids {
		f.says(id, "id "+ids[0]+" state replayed 20", "as "+ids[1]+"; it had died 20", "of recipient 551/1545041, after 1 attempt", "TRACE-1",
			"id "+ids[1]+" state replayed 20", "as "+ids[2]+"; it had died 20", "of window", "TRACE-2", "id "+ids[2]+" state delivered 20")
		found := f.json(id)
		if len(found) != 3 || found[0].ReplayedAs != ids[1] || found[1].ReplayedAs != ids[2] || found[2].State != queue.TraceDelivered || found[1].Died == nil {
			t.Errorf("%+v", found)
		}
	}
}

// What a user has in the queue is listed, the newest first.
func TestTraceUser(t *testing.T) {
	t.Parallel()
	f := newTraceFixture(t)
	dead := f.publish("ada")
	f.refused(f.begin(), sendapi.ClassRecipient, 551, 1545041, "TRACE-1", f.die(sendapi.ClassRecipient))
	f.publish("bob")
	waiting := f.publish("ada")
	for _, user := range []string{"ada", "external-ada"} {
		found := f.json("--user=" + user)
		if len(found) != 2 || found[0].ID != waiting || found[0].State != queue.TraceWaiting || found[1].ID != dead || found[1].State != queue.TraceDead || found[1].Seq != 1 {
			t.Errorf("user %s: %+v", user, found)
		}
	}
	got := f.run("--user=ada")
	for _, want := range []string{"ACCEPTED ", waiting, dead, "waits, and no worker has tried it yet", "dead since", "2 message(s), the newest first."} {
		if got.code != cli.ExitOK || !strings.Contains(got.out, want) {
			t.Errorf("%q is missing: %+v", want, got)
		}
	}
	if got := f.run("--user=ada", "--limit=1"); got.code != cli.ExitOK || strings.Contains(got.out, dead) || !strings.Contains(got.out, "These are the newest 1. Raise --limit to see more.") {
		t.Errorf("%+v", got)
	}
}

func TestTraceNothing(t *testing.T) {
	t.Parallel()
	f := newTraceFixture(t)
	f.publish("ada")
	for name, tt := range map[string]struct {
		args []string
		code int
		says string
	}{
		"an unknown id":     {[]string{"UNKNOWN"}, cli.ExitFailed, "nothing is known of the id UNKNOWN: the message ended longer ago than its idempotency key is remembered"},
		"no id":             {[]string{"*.>"}, cli.ExitFailed, "Search the log for the id *.>"},
		"an unknown user":   {[]string{"--user=carol"}, cli.ExitFailed, "user carol has no message in the queue and no dead letter"},
		"neither":           {nil, cli.ExitUsage, "name a message by its id, or a user with --user"},
		"both":              {[]string{"A", "--user=ada"}, cli.ExitUsage, "name a message by its id, or a user with --user"},
		"an unlimited list": {[]string{"--user=ada", "--limit=0"}, cli.ExitUsage, "--limit: must be from 1 to 1000 (got 0)"},
	} {
		if got := f.run(tt.args...); got.code != tt.code || !strings.Contains(got.err, tt.says) || got.out != "" {
			t.Errorf("%s: %+v", name, got)
		}
	}
}
