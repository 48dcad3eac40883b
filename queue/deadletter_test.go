package queue_test

import (
	"bytes"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/brazier-relay/brazier/queue"
)

// A dead letter is the whole job with its reason, and its job is gone.
func TestDeadLetter(t *testing.T) {
	t.Parallel()
	q, srv := fresh(t)
	js := raw(t, srv)
	full := job(acme, queue.Urgent)
	full.Key, full.Recipient = "order 17", "…0001"
	full.Tracking = queue.Tracking{Campaign: "Sommer ☀", Canvas: "c", Dispatch: "d", Message: "m", User: "u", ExternalID: "e"}
	bare := job(acme, queue.Media)
	deadLetter := func(j *queue.Job, why queue.Reason) *jetstream.RawStreamMsg {
		t.Helper()
		publish(t, q, j)
		s := source(t, q, acme, j.Lane, 1)
		const slack = time.Second // the server's time is known to half a round trip, which is long on a busy machine
		before := time.Now().Add(-slack)
		if err := next(t, s).DeadLetter(within(t, 2*testTimeout), why); err != nil {
			t.Fatal(err)
		}
		msg := deadLetters(t, js, acme)["brazier.dead."+acme+"."+why.Class+" "+j.ID]
		if msg == nil {
			t.Fatalf("no dead letter for %s among %v", j.ID, deadLetters(t, js, acme))
		}
		if string(msg.Data) != string(j.Body) {
			t.Errorf("body is %q", msg.Data)
		}
		died, err := strconv.ParseInt(msg.Header.Get("Brazier-Died"), 10, 64)
		if at := time.UnixMilli(died); err != nil || at.Before(before) || at.After(time.Now().Add(slack)) {
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

	got := deadLetter(full, queue.Reason{Class: "window", Code: 10, Subcode: 2018278, TraceID: "A1b2", Attempts: 3, Text: "outside the window — too late"})
	equal(t, "headers of a full dead letter", got.Header, nats.Header{
		"Nats-Msg-Id": {full.ID + "." + millis(full.Accepted)}, "Brazier-Id": {full.ID}, "Brazier-Key": {"order 17"}, "Brazier-Recipient": {"…0001"},
		"Brazier-Campaign": {"Sommer ☀"}, "Brazier-Canvas": {"c"}, "Brazier-Dispatch": {"d"}, "Brazier-Message": {"m"},
		"Brazier-User": {"u"}, "Brazier-External-Id": {"e"},
		"Brazier-Accepted": {millis(full.Accepted)}, "Brazier-Expire": {millis(full.Expire)}, "Brazier-Lane": {"urgent"},
		"Brazier-Class": {"window"}, "Brazier-Code": {"10"}, "Brazier-Subcode": {"2018278"}, "Brazier-Trace-Id": {"A1b2"},
		"Brazier-Attempts": {"3"}, "Brazier-Reason": {"outside the window — too late"},
	})
	got = deadLetter(bare, queue.Reason{Class: "expired"})
	equal(t, "headers of a bare dead letter", got.Header, nats.Header{
		"Nats-Msg-Id": {bare.ID + "." + millis(bare.Accepted)}, "Brazier-Id": {bare.ID},
		"Brazier-Accepted": {millis(bare.Accepted)}, "Brazier-Expire": {millis(bare.Expire)}, "Brazier-Lane": {"media"},
		"Brazier-Class": {"expired"}, "Brazier-Attempts": {"0"},
	})
	isEmpty(t, q, acme)
	if b, err := q.Backlog(within(t, 2*testTimeout), acme); err != nil || b.Dead != 2 {
		t.Errorf("backlog %+v, %v; want 2 dead", b, err)
	}
}

// A worker that died between the dead letter and the acknowledgement leaves both. The dead letter stays single.
func TestDeadLetterTwice(t *testing.T) {
	t.Parallel()
	q, srv := fresh(t)
	js := raw(t, srv)
	j := job(acme, queue.Bulk)
	publish(t, q, j)
	s := source(t, q, acme, queue.Bulk, 1)
	d := next(t, s)
	deadLetter := &nats.Msg{Subject: "brazier.dead." + acme + ".message", Data: j.Body, Header: nats.Header{"Brazier-Id": {j.ID}}}
	if _, err := js.PublishMsg(t.Context(), deadLetter, jetstream.WithMsgID(j.ID+"."+strconv.FormatInt(j.Accepted.UnixMilli(), 10))); err != nil {
		t.Fatal(err)
	}
	// The class may be another the second time: the first dead letter is the one that counts.
	if err := d.DeadLetter(within(t, 2*testTimeout), queue.Reason{Class: "in_doubt", Attempts: 1}); err != nil {
		t.Fatal(err)
	}
	found := deadLetters(t, js, acme)
	if len(found) != 1 || found[deadLetter.Subject+" "+j.ID] == nil {
		t.Errorf("dead letters: %v", found)
	}
	isEmpty(t, q, acme)
}

// A job as large as the server takes one still becomes a dead letter, with as much of the reason as fits.
func TestLargeDeadLetter(t *testing.T) {
	t.Parallel()
	q, srv := fresh(t)
	j := job(acme, queue.Bulk)
	const limit, headers = 8 << 20, 4 << 10 // of the embedded server, and what the headers may take
	j.Body = bytes.Repeat([]byte("ä"), (limit-headers)/2)
	publish(t, q, j)
	d := next(t, source(t, q, acme, queue.Bulk, 1))
	reason := queue.Reason{Class: "message", Code: 100, Attempts: 1, Text: strings.Repeat("ö", headers)}
	if err := d.DeadLetter(within(t, testTimeout), reason); err != nil {
		t.Fatal(err)
	}
	isEmpty(t, q, acme)
	for subject, deadLetter := range deadLetters(t, raw(t, srv), acme) {
		text := deadLetter.Header.Get("Brazier-Reason")
		if !bytes.Equal(deadLetter.Data, j.Body) || !strings.HasPrefix(reason.Text, text) || len(text) < headers/2 {
			t.Errorf("dead letter %s has %d bytes of %d, and %d of the reason", subject, len(deadLetter.Data), len(j.Body), len(text))
		}
		return
	}
	t.Error("there is no dead letter")
}
