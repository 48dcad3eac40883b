package deliver_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/brazier-relay/brazier/queue"
	"github.com/brazier-relay/brazier/sendapi"
	"github.com/brazier-relay/brazier/sendapi/sandbox"
	"github.com/brazier-relay/brazier/worker"
	"github.com/brazier-relay/brazier/worker/deliver"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	page  = "1029384756"
	token = "page-token-of-this-test"
	text  = "Hi Ada, this is private"
)

type fixture struct {
	handler *deliver.Handler
	fb      *sandbox.Sandbox
}

func newFixture(t *testing.T, inDoubt deliver.InDoubt, credentials func() (sendapi.Credentials, error)) fixture {
	t.Helper()
	return newFixtureWith(t, deliver.Config{}, inDoubt, credentials)
}

// newFixtureWith fills in what cfg lacks.
func newFixtureWith(t *testing.T, cfg deliver.Config, inDoubt deliver.InDoubt, credentials func() (sendapi.Credentials, error)) fixture {
	t.Helper()
	return newFixtureFor(t, cfg, deliver.Page{InDoubt: inDoubt, Credentials: credentials})
}

// newFixtureFor fills in what cfg and p lack.
func newFixtureFor(t *testing.T, cfg deliver.Config, p deliver.Page) fixture {
	t.Helper()
	fb, err := sandbox.New(sandbox.Config{Pages: []sandbox.Page{{ID: page, Token: token}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = fb.Close() })
	client, err := sendapi.NewClient(sendapi.Config{GraphURL: fb.URL(), Timeout: 10 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	p.ID, p.Name = page, "acme"
	if p.Credentials == nil {
		p.Credentials = func() (sendapi.Credentials, error) { return sendapi.Credentials{Token: token}, nil }
	}
	cfg.Client = client
	h, err := deliver.New(cfg, p)
	if err != nil {
		t.Fatal(err)
	}
	return fixture{h, fb}
}

func job(psid string) *queue.Delivery {
	return &queue.Delivery{StreamSeq: 7, ConsumerSeq: 8, Deliveries: 2, Job: queue.Job{ID: "JOB1", Page: page, Lane: queue.Bulk,
		Recipient: "…" + psid[len(psid)-4:], Tracking: queue.Tracking{Campaign: "c", Dispatch: "d", User: "u"},
		Body: fmt.Appendf(nil, `{"recipient":{"id":%q},"messaging_type":"UPDATE","message":{"text":%q}}`, psid, text)}}
}

// keeps checks that the verdict does not hold what must not be there: the log has its text.
func (f fixture) keeps(t *testing.T, v worker.Verdict, psid string) {
	t.Helper()
	written := fmt.Sprintf("%+v", v)
	for _, secret := range []string{token, text, psid} {
		if strings.Contains(written, secret) {
			t.Errorf("%q was written: %s", secret, written)
		}
	}
}

// Each kind of answer leads to the outcome that the README promises.
func TestAnswers(t *testing.T) {
	tests := []struct {
		name, psid string
		fault      sandbox.Fault
		outcome    worker.Outcome
		class      sendapi.Class
		code       int
	}{
		{name: "sent", psid: "2000000000000001", outcome: worker.Delivered},
		{name: "not reachable", psid: "9000000551000001", outcome: worker.Dead, class: sendapi.ClassRecipient, code: 551},
		{name: "outside the window", psid: "9000000278000001", outcome: worker.Dead, class: sendapi.ClassWindow, code: 10},
		{name: "another app's thread", psid: "9000000300000001", outcome: worker.Retry, class: sendapi.ClassThread, code: 10},
		{name: "a wrong message", psid: "9000000100000001", outcome: worker.Dead, class: sendapi.ClassMessage, code: 100},
		{name: "an outage", psid: "9000000002000001", outcome: worker.Retry, class: sendapi.ClassTransient, code: 2},
		{name: "an HTML page", psid: "9000000502000001", outcome: worker.Retry, class: sendapi.ClassInDoubt},
		{name: "taken without an id", psid: "2000000000000001", fault: sandbox.Fault{Status: 200, Body: "{}", Accept: true}, outcome: worker.Delivered, class: sendapi.ClassDeliveredAnyway},
		{name: "sent, says the documentation", psid: "9000000046000001", outcome: worker.Delivered, class: sendapi.ClassDeliveredAnyway, code: 1},
		{name: "no answer", psid: "9000000444000001", outcome: worker.Retry, class: sendapi.ClassInDoubt},
		{name: "throttled", psid: "2000000000000001", fault: sandbox.Fault{Status: 400, Code: 613}, outcome: worker.Hold, class: sendapi.ClassThrottle, code: 613},
		{name: "the app throttled", psid: "2000000000000001", fault: sandbox.AppLimit(), outcome: worker.Hold, class: sendapi.ClassThrottleApp, code: 4},
		{name: "a dead token", psid: "2000000000000001", fault: sandbox.Fault{Status: 400, Code: 190, Subcode: 463}, outcome: worker.Hold, class: sendapi.ClassAuth, code: 190},
		{name: "a restricted page", psid: "2000000000000001", fault: sandbox.Fault{Status: 400, Code: 368}, outcome: worker.Hold, class: sendapi.ClassPage, code: 368},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := newFixture(t, deliver.Resend, nil)
			if tt.fault.Status != 0 {
				f.fb.Script(tt.fault)
			}
			v := f.handler.Handle(t.Context(), job(tt.psid))
			if v.Outcome != tt.outcome || v.Class != tt.class || v.Code != tt.code {
				t.Errorf("got %s %s %d, want %s %s %d", v.Outcome, v.Class, v.Code, tt.outcome, tt.class, tt.code)
			}
			switch {
			case v.Outcome == worker.Delivered && v.Class == "" && v.MessageID == "":
				t.Error("delivered without a message id")
			case v.Outcome == worker.Retry && (v.Delays.First == 0 || v.Delays.Max < v.Delays.First):
				t.Errorf("a retry without a plan: %+v", v)
			case v.Outcome == worker.Hold && (v.Delays.First == 0 || v.Delays.Max < v.Delays.First), v.Class == sendapi.ClassAuth && v.Credentials == "":
				t.Errorf("a hold without a plan: %+v", v)
			case v.Took == 0:
				t.Error("the call took no time")
			}
			if calls := f.fb.Calls(); len(calls) != 1 || calls[0].Auth != "bearer" || calls[0].Page != page {
				t.Errorf("calls: %+v", calls)
			}
			f.keeps(t, v, tt.psid)
		})
	}
}

// A yes of Facebook's that names no message is a yes, and is logged as an odd one. A page of HTML is no answer of Facebook's.
func TestUnnamed(t *testing.T) {
	for body, class := range map[string]sendapi.Class{`{}`: sendapi.ClassDeliveredAnyway, `{"success":true}`: sendapi.ClassDeliveredAnyway,
		`<html>welcome</html>`: sendapi.ClassInDoubt, `[]`: sendapi.ClassInDoubt} {
		f := newFixture(t, deliver.Resend, nil)
		f.fb.Script(sandbox.Fault{Status: 200, Body: body})
		v := f.handler.Handle(t.Context(), job("2000000000000001"))
		sent := class == sendapi.ClassDeliveredAnyway
		if v.Class != class || (v.Outcome == worker.Delivered) != sent || sent && v.Text == "" {
			t.Errorf("%s: %+v", body, v)
		}
	}
}

func TestHoldAsLongAsFacebookSays(t *testing.T) {
	f := newFixture(t, deliver.Resend, nil)
	f.fb.Script(sandbox.Fault{Status: 400, Code: 80006, Header: map[string][]string{
		"X-Business-Use-Case-Usage": {`{"1029384756":[{"type":"messenger","call_count":107,"estimated_time_to_regain_access":17}]}`}}})
	if v := f.handler.Handle(t.Context(), job("2000000000000001")); v.HoldFor != 17*time.Minute {
		t.Errorf("held for %v", v.HoldFor)
	}
}

// A message in doubt is sent again as often as its page says, and then parked. Attempts that ended otherwise do not count.
func TestInDoubt(t *testing.T) {
	const lostAnswer, plain = "9000000444000001", "2000000000000001"
	tests := []struct {
		name    string
		page    deliver.Page
		psid    string
		counts  map[string]int
		lost    int  // earlier attempts that ended with their worker
		again   bool // the last one was one of those
		outcome worker.Outcome
		calls   int
	}{
		{name: "an answer is lost", psid: lostAnswer, outcome: worker.Retry, calls: 1},
		{name: "for the second time", psid: lostAnswer, counts: map[string]int{"in_doubt": 1}, outcome: worker.Dead, calls: 1},
		{name: "after a lost worker", psid: lostAnswer, lost: 1, again: true, outcome: worker.Dead, calls: 1},
		{name: "after other attempts", psid: lostAnswer, counts: map[string]int{"transient": 9, "thread": 2}, outcome: worker.Retry, calls: 1},
		{name: "after a lost answer it is sent", psid: plain, counts: map[string]int{"in_doubt": 1}, outcome: worker.Delivered, calls: 1},
		{name: "three repetitions, twice in doubt", page: deliver.Page{Repeats: 3}, psid: lostAnswer, counts: map[string]int{"in_doubt": 1}, lost: 1, outcome: worker.Retry, calls: 1},
		{name: "three repetitions, three times in doubt", page: deliver.Page{Repeats: 3}, psid: lostAnswer, counts: map[string]int{"in_doubt": 3}, outcome: worker.Dead, calls: 1},
		{name: "an answer is lost, park", page: deliver.Page{InDoubt: deliver.Park}, psid: lostAnswer, outcome: worker.Dead, calls: 1},
		{name: "a worker was lost", psid: plain, lost: 1, again: true, outcome: worker.Delivered, calls: 1},
		{name: "a worker was lost again", psid: plain, lost: 2, again: true, outcome: worker.Dead, calls: 0},
		{name: "a worker was lost, park", page: deliver.Page{InDoubt: deliver.Park}, psid: plain, lost: 1, again: true, outcome: worker.Dead, calls: 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := newFixtureFor(t, deliver.Config{}, tt.page)
			j := job(tt.psid)
			j.Counts, j.Lost = tt.counts, tt.lost
			for _, n := range tt.counts {
				j.Attempts += n
			}
			j.Attempts += tt.lost
			if tt.again {
				j.InDoubt, j.Doubt = true, "a worker began it"
			}
			v := f.handler.Handle(t.Context(), j)
			if v.Outcome != tt.outcome || (v.Outcome != worker.Delivered && v.Class != sendapi.ClassInDoubt) {
				t.Errorf("got %+v, want %s", v, tt.outcome)
			}
			if n := len(f.fb.Calls()); n != tt.calls {
				t.Errorf("%d calls, want %d", n, tt.calls)
			}
			f.keeps(t, v, tt.psid)
		})
	}
}

// A handler that panicked leaves its message in doubt, and what the page wants done about those is done.
func TestPanicIsInDoubt(t *testing.T) {
	for _, c := range []struct {
		page    deliver.Page
		counts  map[string]int
		outcome worker.Outcome
	}{
		{outcome: worker.Retry},
		{counts: map[string]int{"in_doubt": 1}, outcome: worker.Dead},
		{page: deliver.Page{InDoubt: deliver.Park}, outcome: worker.Dead},
	} {
		f := newFixtureFor(t, deliver.Config{}, c.page)
		j := job("2000000000000001")
		j.Counts = c.counts
		if v := f.handler.InDoubt(j, "the handler panicked"); v.Outcome != c.outcome || v.Class != sendapi.ClassInDoubt || !strings.Contains(v.Text, "panicked") {
			t.Errorf("page %+v, counts %v: %+v, want %s", c.page, c.counts, v, c.outcome)
		}
	}
}

func TestCredentials(t *testing.T) {
	f := newFixture(t, deliver.Resend, func() (sendapi.Credentials, error) {
		return sendapi.Credentials{}, errors.New("token_file: acme.token cannot be read")
	})
	v := f.handler.Handle(t.Context(), job("2000000000000001"))
	if v.Outcome != worker.Hold || v.Class != sendapi.ClassAuth || !strings.Contains(v.Text, "acme.token") {
		t.Errorf("got %+v", v)
	}
	if n := len(f.fb.Calls()); n != 0 {
		t.Errorf("%d calls", n)
	}
}

// A worker that is being stopped has not tried what it did not send.
func TestStopped(t *testing.T) {
	f := newFixture(t, deliver.Resend, nil)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if v := f.handler.Handle(ctx, job("2000000000000001")); v.Outcome != worker.Release {
		t.Errorf("got %+v", v)
	}
}

func TestNew(t *testing.T) {
	client, err := sendapi.NewClient(sendapi.Config{})
	if err != nil {
		t.Fatal(err)
	}
	none := func() (sendapi.Credentials, error) { return sendapi.Credentials{}, nil }
	for want, c := range map[string]struct {
		client *sendapi.Client
		page   deliver.Page
	}{
		"Client":      {nil, deliver.Page{ID: page, Credentials: none}},
		"Credentials": {client, deliver.Page{ID: page}},
		"InDoubt":     {client, deliver.Page{ID: page, Credentials: none, InDoubt: "maybe"}},
		"Repeats":     {client, deliver.Page{ID: page, Credentials: none, Repeats: 4}},
	} {
		if _, err := deliver.New(deliver.Config{Client: c.client}, c.page); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v does not name %s", err, want)
		}
	}
}

// A call that is cut under way may have been carried out: that is no call that was not tried.
func TestCutUnderWay(t *testing.T) {
	f := newFixture(t, deliver.Resend, nil)
	ctx, cancel := context.WithCancel(t.Context())
	f.fb.Script(sandbox.Fault{Action: sandbox.Hang, Delay: time.Minute, OnHit: func(sandbox.Call) { cancel() }})
	v := f.handler.Handle(ctx, job("2000000000000001"))
	if v.Outcome != worker.Retry || v.Class != sendapi.ClassInDoubt {
		t.Errorf("got %+v", v)
	}
	f.keeps(t, v, "2000000000000001")
}

// A new token is used from the next call on.
func TestNewToken(t *testing.T) {
	const renewed = "renewed-token-of-this-test"
	current := token
	f := newFixture(t, deliver.Resend, func() (sendapi.Credentials, error) { return sendapi.Credentials{Token: current}, nil })
	if err := f.fb.SetToken(page, renewed); err != nil {
		t.Fatal(err)
	}
	if v := f.handler.Handle(t.Context(), job("2000000000000001")); v.Outcome != worker.Hold || v.Class != sendapi.ClassAuth {
		t.Errorf("with the old token: %+v", v)
	}
	current = renewed
	v := f.handler.Handle(t.Context(), job("2000000000000001"))
	if v.Outcome != worker.Delivered {
		t.Errorf("with the new token: %+v", v)
	}
	if written := fmt.Sprintf("%+v", v); strings.Contains(written, renewed) {
		t.Errorf("the new token was written: %s", written)
	}
}

// A page that may not send is tried as often as the configuration says, and never sooner for having been tried often. Where the
// refusal may be the message's it is tried sooner at first, since others may go.
func TestProbeEvery(t *testing.T) {
	for _, every := range []time.Duration{0, 7 * time.Minute, time.Second} {
		for _, code := range []int{2022, 368} {
			f := newFixtureWith(t, deliver.Config{ProbeEvery: every}, deliver.Resend, nil)
			f.fb.Script(sandbox.Fault{Status: 400, Code: code})
			v := f.handler.Handle(t.Context(), job("2000000000000001"))
			last := cmp.Or(every, deliver.DefaultProbeEvery)
			want := last
			if code == 368 {
				want = min(want, 10*time.Second)
			}
			if first, later := v.Delays.Steady(1), v.Delays.Steady(9); first != want || later != last {
				t.Errorf("code %d, with ProbeEvery %v the first probe comes after %v, the ninth after %v", code, every, first, later)
			}
		}
	}
}

// What Facebook's headers say of the limits comes with every verdict, good or bad.
func TestUsage(t *testing.T) {
	header := map[string][]string{
		"X-Business-Use-Case-Usage": {`{"1029384756":[{"type":"pages","call_count":81,"total_cputime":3,"total_time":12}]}`},
		"X-App-Usage":               {`{"call_count":28,"total_time":25,"total_cputime":25}`},
	}
	for name, fault := range map[string]sandbox.Fault{
		"delivered": {Status: 200, Accept: true, Header: header},
		"refused":   {Status: 400, Code: 551, Subcode: 1545041, Header: header},
		"throttled": {Status: 400, Code: 613, Header: header},
	} {
		f := newFixture(t, deliver.Resend, nil)
		f.fb.Script(fault)
		if v := f.handler.Handle(t.Context(), job("2000000000000001")); v.Usage.Page != 81 || v.Usage.App != 28 {
			t.Errorf("%s: %s with usage %+v", name, v.Outcome, v.Usage)
		}
	}
}
