package queue_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/brazier-relay/brazier/queue"
	"github.com/brazier-relay/brazier/queue/queuetest"
)

// Attempts go with the job, and a delay is kept.
func TestRetry(t *testing.T) {
	t.Parallel()
	q, _ := fresh(t)
	s := source(t, q, acme, queue.Bulk, 2)
	j := job(acme, queue.Bulk)
	publish(t, q, j)
	d := next(t, s)
	for attempt, delay := range []time.Duration{300 * time.Millisecond, 0, time.Millisecond} {
		put := time.Now()
		if err := d.Retry(within(t, 2*patience), attempt+1, "transient", delay); err != nil {
			t.Fatal(err)
		}
		d = next(t, s)
		if waited := time.Since(put); waited < delay {
			t.Errorf("it came back after %v, before its delay of %v", waited, delay)
		}
		if d.ID != j.ID || d.Attempts != attempt+1 || d.InDoubt {
			t.Errorf("got %s with attempts %d, in doubt %v %q; want %s with %d, not in doubt", d.ID, d.Attempts, d.InDoubt, d.Doubt, j.ID, attempt+1)
		}
		equal(t, "job", d.Job, *j)
	}
	done(t, d)
	isEmpty(t, q, acme)

	if state := q.State(t, acme, queue.Bulk, j.ID); state != "done" {
		t.Errorf("its record says %q", state)
	}
}

// Attempts are counted by the reason of their retry, over restarts of the worker. Those that an older version counted all
// together count for the reason of the last.
func TestRetryCounts(t *testing.T) {
	t.Parallel()
	q, srv := fresh(t)
	s := source(t, q, acme, queue.Bulk, 1)
	j := job(acme, queue.Bulk)
	publish(t, q, j)
	d := next(t, s)
	for _, step := range []struct {
		reason  string
		counted bool
		want    map[string]int
	}{
		{"transient", true, map[string]int{"transient": 1}},
		{"thread", true, map[string]int{"transient": 1, "thread": 1}},
		{"throttle", false, map[string]int{"transient": 1, "thread": 1}},
		{"transient", true, map[string]int{"transient": 2, "thread": 1}},
	} {
		if err := d.Begin(within(t, 2*patience)); err != nil {
			t.Fatal(err)
		}
		attempts := d.Attempts
		if step.counted {
			attempts++
		}
		if err := d.Retry(within(t, 2*patience), attempts, step.reason, 0); err != nil {
			t.Fatal(err)
		}
		d = next(t, s)
		equal(t, "counts", d.Counts, step.want)
		if err := d.Release(within(t, 2*patience)); err != nil {
			t.Fatal(err)
		}
		d = next(t, s)
		equal(t, "counts after a release", d.Counts, step.want)
	}
	done(t, d)

	old := job(acme, queue.Bulk)
	record := fmt.Appendf(nil, `{"state":"waiting","attempts":4,"lost":1,"reason":"thread","write":"x"}`)
	if _, err := raw(t, srv).Publish(t.Context(), "brazier.records."+acme+".bulk."+old.ID, record); err != nil {
		t.Fatal(err)
	}
	publish(t, q, old)
	d = next(t, s)
	if err := d.Release(within(t, 2*patience)); err != nil { // its first delivery is not looked up
		t.Fatal(err)
	}
	d = next(t, s)
	equal(t, "counts of an old record", d.Counts, map[string]int{"thread": 3})
	done(t, d)
}

// A job that waits for its next attempt stands in nobody's way.
func TestRetryLetsOthersPass(t *testing.T) {
	t.Parallel()
	q, _ := fresh(t)
	s := source(t, q, acme, queue.Bulk, 1)
	first, second := job(acme, queue.Bulk), job(acme, queue.Bulk)
	publish(t, q, first, second)
	d := next(t, s)
	if err := d.Retry(within(t, 2*patience), 1, "transient", time.Second); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{second.ID, first.ID} {
		d := next(t, s)
		if d.ID != want {
			t.Errorf("next is %s, want %s", d.ID, want)
		}
		done(t, d)
	}
}

// A job that is released is another's at once, and nothing of it is counted.
func TestRelease(t *testing.T) {
	t.Parallel()
	q, srv := fresh(t)
	other := queuetest.On(t, srv)
	j := job(acme, queue.Bulk)
	publish(t, q, j)
	s := source(t, q, acme, queue.Bulk, 1)
	d := next(t, s)
	if err := d.Retry(within(t, 2*patience), 4, "transient", 0); err != nil {
		t.Fatal(err)
	}
	d = next(t, s)
	for _, q := range []*queue.Queue{other, q, other} {
		rest(t, s)
		if err := d.Release(within(t, 2*patience)); err != nil {
			t.Fatal(err)
		}
		released := time.Now()
		s = source(t, q, acme, queue.Bulk, 1)
		d = next(t, s)
		if took := time.Since(released); took > queue.Lease/2 {
			t.Errorf("it came after %v", took)
		}
		if d.ID != j.ID || d.Attempts != 4 || d.InDoubt {
			t.Errorf("got %s with attempts %d, in doubt %v %q; want %s with 4, not in doubt", d.ID, d.Attempts, d.InDoubt, d.Doubt, j.ID)
		}
	}
	done(t, d)
	isEmpty(t, q, acme)
}

// lease is short, for tests that wait until one is over.
const lease = time.Second

// A job whose worker was lost with it is in doubt, and stays so until somebody has acted on that. Its attempts are kept, and
// the lost ones counted.
func TestInDoubt(t *testing.T) {
	t.Parallel()
	_, srv := fresh(t)
	cfg := queue.Config{InProcess: srv}.WithLease(lease)
	workers := []*queue.Queue{open(t, cfg)}
	j := job(acme, queue.Bulk)
	publish(t, workers[0], j)
	// lose has a worker begin the job and end without a word. It returns what the next worker gets.
	lose := func(d *queue.Delivery) *queue.Delivery {
		t.Helper()
		if err := d.Begin(within(t, 2*patience)); err != nil {
			t.Fatal(err)
		}
		last := workers[len(workers)-1]
		last.Close()
		workers = append(workers, open(t, cfg))
		return next(t, source(t, workers[len(workers)-1], acme, queue.Bulk, 1))
	}
	want := func(d *queue.Delivery, doubt bool, attempts, lost int) {
		t.Helper()
		if d.ID != j.ID || d.InDoubt != doubt || (d.Doubt != "") != doubt || d.Attempts != attempts || d.Lost != lost {
			t.Errorf("got %s, in doubt %v %q, attempts %d, lost %d; want %s, %v, %d, %d", d.ID, d.InDoubt, d.Doubt, d.Attempts, d.Lost, j.ID, doubt, attempts, lost)
		}
	}
	d := lose(next(t, source(t, workers[0], acme, queue.Bulk, 1)))
	want(d, true, 1, 1)
	q := workers[len(workers)-1]
	s := source(t, q, acme, queue.Bulk, 1)
	for _, begin := range []bool{false, true} {
		if begin {
			if err := d.Begin(within(t, 2*patience)); err != nil {
				t.Fatal(err)
			}
		}
		if err := d.Release(within(t, 2*patience)); err != nil {
			t.Fatal(err)
		}
		d = next(t, s)
		want(d, true, 1, 1)
	}
	if err := d.Retry(within(t, 2*patience), 2, "in_doubt", 0); err != nil {
		t.Fatal(err)
	}
	d = next(t, s)
	want(d, false, 2, 1)
	s.Stop()
	d = lose(d)
	want(d, true, 3, 2)
	d = lose(d)
	want(d, true, 4, 3)
	done(t, d)
	isEmpty(t, workers[len(workers)-1], acme)
}

// What a server counts as handed out, to a worker that never began it, is not in doubt: whoever gets it begins it.
func TestNotBegun(t *testing.T) {
	t.Parallel()
	_, srv := fresh(t)
	cfg := queue.Config{InProcess: srv}.WithLease(lease)
	first, second := open(t, cfg), open(t, cfg)
	j := job(acme, queue.Bulk)
	publish(t, first, j)
	idle := next(t, source(t, first, acme, queue.Bulk, 1))
	first.Close()
	d := next(t, source(t, second, acme, queue.Bulk, 1))
	if d.ID != j.ID || d.InDoubt || d.Attempts != 0 || d.Deliveries != 2 {
		t.Errorf("got %s, delivery %d, in doubt %v %q, attempts %d; want %s, not in doubt", d.ID, d.Deliveries, d.InDoubt, d.Doubt, d.Attempts, idle.ID)
	}
	done(t, d)
}

// Of two workers that have the same job in hand one begins it. The other releases it, which harms nobody.
func TestBeginOnce(t *testing.T) {
	t.Parallel()
	_, srv := fresh(t)
	cfg := queue.Config{InProcess: srv}.WithLease(lease)
	slow, quick := open(t, cfg), open(t, cfg)
	publish(t, slow, job(acme, queue.Bulk))
	buffered := next(t, source(t, slow, acme, queue.Bulk, 1))
	consumer, err := raw(t, srv).Consumer(t.Context(), queue.StreamJobs, acme+"-bulk")
	if err != nil {
		t.Fatal(err)
	}
	config := consumer.CachedInfo().Config
	if err := raw(t, srv).DeleteConsumer(t.Context(), queue.StreamJobs, config.Durable); err != nil { // what it handed out is forgotten
		t.Fatal(err)
	}
	working := next(t, source(t, quick, acme, queue.Bulk, 1))
	if err := working.Begin(within(t, 2*patience)); err != nil || working.ID != buffered.ID {
		t.Fatalf("begin %s: %v; want %s", working.ID, err, buffered.ID)
	}
	if err := buffered.Begin(within(t, 2*patience)); !errors.Is(err, queue.ErrTaken) {
		t.Errorf("the other delivery begins with error %v", err)
	}
	if err := buffered.Release(within(t, 2*patience)); err != nil {
		t.Fatal(err)
	}
	done(t, working)
	isEmpty(t, slow, acme)
	if state := slow.State(t, acme, queue.Bulk, working.ID); state != "done" {
		t.Errorf("its record says %q", state)
	}
}

// A delay is kept also where the server was never told of it.
func TestDelayWithoutNak(t *testing.T) {
	t.Parallel()
	_, srv := fresh(t)
	w := &wire{server: srv}
	cfg := queue.Config{InProcess: w}.WithLease(lease)
	q := open(t, cfg)
	j := job(acme, queue.Bulk)
	publish(t, q, j)
	d := next(t, source(t, q, acme, queue.Bulk, 1))
	// The worker writes down that the job waits, and is gone before it has told the consumer.
	const delay = 3 * lease
	put := time.Now()
	js := raw(t, srv)
	value := fmt.Sprintf(`{"state":"waiting","attempts":1,"not_before":%d}`, put.Add(delay).UnixMilli())
	if _, err := js.Publish(within(t, 2*patience), "brazier.records."+acme+".bulk."+j.ID, []byte(value)); err != nil {
		t.Fatal(err)
	}
	q.Close()
	other := open(t, queue.Config{InProcess: srv}.WithLease(lease))
	again := next(t, source(t, other, acme, queue.Bulk, 1))
	if waited := time.Since(put); waited < delay-100*time.Millisecond || again.ID != d.ID || again.Attempts != 1 || again.InDoubt {
		t.Errorf("%s with attempts %d, in doubt %v, came after %v; want %s after %v", again.ID, again.Attempts, again.InDoubt, waited, d.ID, delay)
	}
	done(t, again)
}

// A record that cannot be read puts its job in doubt. It does not stop the lane.
func TestUnreadableRecord(t *testing.T) {
	t.Parallel()
	_, srv := fresh(t)
	q := open(t, queue.Config{InProcess: srv}.WithLease(lease))
	s := source(t, q, acme, queue.Bulk, 1)
	j := job(acme, queue.Bulk)
	publish(t, q, j)
	d := next(t, s)
	if _, err := raw(t, srv).Publish(within(t, 2*patience), "brazier.records."+acme+".bulk."+j.ID, []byte("by hand")); err != nil {
		t.Fatal(err)
	}
	if err := d.Begin(within(t, 2*patience)); !errors.Is(err, queue.ErrTaken) {
		t.Errorf("begin: %v", err)
	}
	if err := d.Release(within(t, 2*patience)); err != nil {
		t.Fatal(err)
	}
	if d = next(t, s); d.ID != j.ID || !d.InDoubt {
		t.Errorf("got %s, in doubt %v", d.ID, d.InDoubt)
	}
	done(t, d)
}

// A dead letter is the whole job with its reason, and its job is gone.
func TestBury(t *testing.T) {
	t.Parallel()
	q, srv := fresh(t)
	js := raw(t, srv)
	full := job(acme, queue.Urgent)
	full.Key, full.Recipient = "order 17", "…0001"
	full.Tracking = queue.Tracking{Campaign: "Sommer ☀", Canvas: "c", Dispatch: "d", Message: "m", User: "u", ExternalID: "e"}
	bare := job(acme, queue.Media)
	letter := func(j *queue.Job, why queue.Reason) *jetstream.RawStreamMsg {
		t.Helper()
		publish(t, q, j)
		s := source(t, q, acme, j.Lane, 1)
		before := time.Now()
		if err := next(t, s).Bury(within(t, 2*patience), why); err != nil {
			t.Fatal(err)
		}
		msg := letters(t, js, acme)["brazier.dead."+acme+"."+why.Class+" "+j.ID]
		if msg == nil {
			t.Fatalf("no letter for %s among %v", j.ID, letters(t, js, acme))
		}
		if string(msg.Data) != string(j.Body) {
			t.Errorf("body is %q", msg.Data)
		}
		died, err := strconv.ParseInt(msg.Header.Get("Brazier-Died"), 10, 64)
		if at := time.UnixMilli(died); err != nil || at.Before(before.Truncate(time.Millisecond)) || at.After(time.Now()) {
			t.Errorf("died at %v, %v", at, err)
		}
		msg.Header.Del("Brazier-Died")
		if f := msg.Header.Get("Brazier-Fingerprint"); strings.Count(f, ".") != 2 {
			t.Errorf("fingerprint %q", f)
		}
		msg.Header.Del("Brazier-Fingerprint")
		for name := range msg.Header { // the server's own
			if strings.HasPrefix(name, "Nats-") && name != nats.MsgIdHdr {
				msg.Header.Del(name)
			}
		}
		return msg
	}
	millis := func(at time.Time) string { return strconv.FormatInt(at.UnixMilli(), 10) }

	got := letter(full, queue.Reason{Class: "window", Code: 10, Subcode: 2018278, TraceID: "A1b2", Attempts: 3, Text: "outside the window — too late"})
	equal(t, "headers of a full letter", got.Header, nats.Header{
		"Nats-Msg-Id": {full.ID + "." + millis(full.Accepted)}, "Brazier-Id": {full.ID}, "Brazier-Key": {"order 17"}, "Brazier-Recipient": {"…0001"},
		"Brazier-Campaign": {"Sommer ☀"}, "Brazier-Canvas": {"c"}, "Brazier-Dispatch": {"d"}, "Brazier-Message": {"m"},
		"Brazier-User": {"u"}, "Brazier-External-Id": {"e"},
		"Brazier-Accepted": {millis(full.Accepted)}, "Brazier-Expire": {millis(full.Expire)}, "Brazier-Lane": {"urgent"},
		"Brazier-Class": {"window"}, "Brazier-Code": {"10"}, "Brazier-Subcode": {"2018278"}, "Brazier-Trace-Id": {"A1b2"},
		"Brazier-Attempts": {"3"}, "Brazier-Reason": {"outside the window — too late"},
	})
	got = letter(bare, queue.Reason{Class: "expired"})
	equal(t, "headers of a bare letter", got.Header, nats.Header{
		"Nats-Msg-Id": {bare.ID + "." + millis(bare.Accepted)}, "Brazier-Id": {bare.ID},
		"Brazier-Accepted": {millis(bare.Accepted)}, "Brazier-Expire": {millis(bare.Expire)}, "Brazier-Lane": {"media"},
		"Brazier-Class": {"expired"}, "Brazier-Attempts": {"0"},
	})
	isEmpty(t, q, acme)
	if b, err := q.Backlog(within(t, 2*patience), acme); err != nil || b.Dead != 2 {
		t.Errorf("backlog %+v, %v; want 2 dead", b, err)
	}
}

// A worker that died between the letter and the acknowledgement leaves both. The letter stays single.
func TestBuryTwice(t *testing.T) {
	t.Parallel()
	q, srv := fresh(t)
	js := raw(t, srv)
	j := job(acme, queue.Bulk)
	publish(t, q, j)
	s := source(t, q, acme, queue.Bulk, 1)
	d := next(t, s)
	letter := &nats.Msg{Subject: "brazier.dead." + acme + ".message", Data: j.Body, Header: nats.Header{"Brazier-Id": {j.ID}}}
	if _, err := js.PublishMsg(t.Context(), letter, jetstream.WithMsgID(j.ID+"."+strconv.FormatInt(j.Accepted.UnixMilli(), 10))); err != nil {
		t.Fatal(err)
	}
	// The class may be another the second time: the first letter is the one that counts.
	if err := d.Bury(within(t, 2*patience), queue.Reason{Class: "in_doubt", Attempts: 1}); err != nil {
		t.Fatal(err)
	}
	found := letters(t, js, acme)
	if len(found) != 1 || found[letter.Subject+" "+j.ID] == nil {
		t.Errorf("letters: %v", found)
	}
	isEmpty(t, q, acme)
}

// Done is repeated until the server has confirmed it, also when its first confirmation was lost.
func TestDoneIsConfirmed(t *testing.T) {
	t.Parallel()
	srv := queuetest.Server(t, "")
	w := &wire{server: srv}
	q, other := open(t, queue.Config{InProcess: w}), queuetest.On(t, srv)
	publish(t, q, job(acme, queue.Bulk))
	d := next(t, source(t, q, acme, queue.Bulk, 1))

	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := d.Done(ended); err == nil {
		t.Error("done under an ended context: no error")
	}

	cut := w.mute()
	confirmed := make(chan error, 1)
	go func() { confirmed <- d.Done(within(t, patience)) }()
	eventually(t, "the settlement is stored", func() bool { return other.State(t, acme, queue.Bulk, d.ID) == "done" })
	cut()
	if err := <-confirmed; err != nil {
		t.Errorf("done: %v", err)
	}
	isEmpty(t, other, acme)
}

// Settlements wait for a server that is away.
func TestSettleOverOutage(t *testing.T) {
	t.Parallel()
	for name, settle := range map[string]func(context.Context, *queue.Delivery) error{
		"done":    func(ctx context.Context, d *queue.Delivery) error { return d.Done(ctx) },
		"retry":   func(ctx context.Context, d *queue.Delivery) error { return d.Retry(ctx, 1, "transient", 0) },
		"release": func(ctx context.Context, d *queue.Delivery) error { return d.Release(ctx) },
		"bury":    func(ctx context.Context, d *queue.Delivery) error { return d.Bury(ctx, queue.Reason{Class: "message"}) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newMachine(t)
			m.start()
			q := m.open()
			publish(t, q, job(acme, queue.Bulk))
			s := source(t, q, acme, queue.Bulk, 1)
			d := next(t, s)
			m.stop()
			eventually(t, "the connection is lost", func() bool { return !q.Connected() })
			if err := settle(within(t, 50*time.Millisecond), d); err == nil {
				t.Error("settled without a server")
			}
			settled := make(chan error, 1)
			go func() { settled <- settle(within(t, patience), d) }()
			m.start()
			if err := <-settled; err != nil {
				t.Fatal(err)
			}
			if name == "retry" || name == "release" {
				if d = next(t, s); d.InDoubt {
					t.Errorf("in doubt: %s", d.Doubt)
				}
				done(t, d)
			} else {
				go func() { _, _ = s.Next(within(t, 2*patience)) }() // the server hands it out again, and its record ends that
			}
			eventually(t, "the job is gone", func() bool {
				b, err := q.Backlog(within(t, 2*patience), acme)
				return err == nil && b.Pending == 0
			})
		})
	}
}

// A job as large as the server takes one still becomes a letter, with as much of the reason as there is room for.
func TestLargeLetter(t *testing.T) {
	t.Parallel()
	q, srv := fresh(t)
	j := job(acme, queue.Bulk)
	const limit, headers = 8 << 20, 4 << 10 // of the embedded server, and what the headers may take
	j.Body = bytes.Repeat([]byte("ä"), (limit-headers)/2)
	publish(t, q, j)
	d := next(t, source(t, q, acme, queue.Bulk, 1))
	reason := queue.Reason{Class: "message", Code: 100, Attempts: 1, Text: strings.Repeat("ö", headers)}
	if err := d.Bury(within(t, patience), reason); err != nil {
		t.Fatal(err)
	}
	isEmpty(t, q, acme)
	for subject, letter := range letters(t, raw(t, srv), acme) {
		text := letter.Header.Get("Brazier-Reason")
		if !bytes.Equal(letter.Data, j.Body) || !strings.HasPrefix(reason.Text, text) || len(text) < headers/2 {
			t.Errorf("letter %s has %d bytes of %d, and %d of the reason", subject, len(letter.Data), len(j.Body), len(text))
		}
		return
	}
	t.Error("there is no letter")
}

// The record of a settled job stays for the window of its key, counted from when it was accepted.
func TestRecordAge(t *testing.T) {
	t.Parallel()
	srv := queuetest.Server(t, "")
	q := open(t, queue.Config{InProcess: srv, Window: 3 * time.Hour})
	for _, tt := range []struct {
		key  string
		age  time.Duration
		want time.Duration
	}{
		{"order-1", time.Hour, 2 * time.Hour},
		{"order-2", 4 * time.Hour, 10 * time.Minute}, // the acknowledgement may be under way
		{"", 0, 10 * time.Minute},
	} {
		j := keyed(acme, tt.key, "ada")
		if tt.key == "" {
			j = job(acme, queue.Bulk)
		}
		j.Accepted = time.Now().Add(-tt.age)
		publish(t, q, j)
		done(t, next(t, source(t, q, acme, queue.Bulk, 1)))
		stream, err := raw(t, srv).Stream(t.Context(), queue.StreamRecords)
		if err != nil {
			t.Fatal(err)
		}
		record, err := stream.GetLastMsgForSubject(t.Context(), "brazier.records."+acme+".bulk."+j.ID)
		if err != nil {
			t.Fatal(err)
		}
		ttl, err := time.ParseDuration(record.Header.Get(jetstream.MsgTTLHeader))
		if err != nil || ttl > tt.want || ttl < tt.want-time.Minute {
			t.Errorf("key %q, accepted %v ago: the record stays for %v, %v; want %v", tt.key, tt.age, ttl, err, tt.want)
		}
	}
}
