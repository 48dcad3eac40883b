package sandbox

import (
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// Each message that a person got is echoed, delivered and read, in the forms that Facebook uses.
func TestReceipts(t *testing.T) {
	r, c := startHooked(t, Webhook{Receipts: true, Parallel: 1})
	began := time.Now().UnixMilli()
	const sent = 40
	var mids []string
	for i := range sent {
		mids = append(mids, r.send("77", "text "+strconv.Itoa(i)).body.MessageID)
	}
	if n := r.settled(); n.DeliveredEvents != 3*sent {
		t.Errorf("%+v", n)
	}
	var echoed, named []string
	forms := map[string]int{}
	for _, e := range events(t, c.received()) {
		switch {
		case e.Message != nil:
			echoed = append(echoed, e.Message.MID)
			if !e.Message.IsEcho || e.Recipient.ID != "77" || e.Sender.ID != "10" || e.Timestamp < began {
				t.Errorf("echo %+v", e)
			}
			switch id := e.Message.AppID.(type) {
			case string:
				forms["app_id as string"]++
			case float64:
				if strconv.FormatFloat(id, 'f', -1, 64) != (App{Name: "sandbox"}).id() {
					t.Errorf("app_id %v", id)
				}
				forms["app_id as number"]++
			}
		case e.Delivery != nil:
			named = append(named, e.Delivery.MIDs...)
			forms["delivery with mids "+strconv.FormatBool(len(e.Delivery.MIDs) > 0)]++
			forms["delivery with timestamp "+strconv.FormatBool(e.Timestamp > 0)]++
			if e.Delivery.Watermark < began || e.Sender.ID != "77" {
				t.Errorf("delivery %+v", e)
			}
		case e.Read != nil:
			forms["read"]++
			if len(e.Read.MIDs) > 0 || e.Read.Watermark < began || e.Timestamp < began {
				t.Errorf("read %+v", e)
			}
		}
	}
	if diff := cmp.Diff(mids, echoed); diff != "" {
		t.Errorf("echoes: %s", diff)
	}
	for _, mid := range named {
		if !slices.Contains(mids, mid) {
			t.Errorf("delivery of %s, which was not sent", mid)
		}
	}
	for _, form := range []string{"app_id as string", "app_id as number", "delivery with mids true", "delivery with mids false",
		"delivery with timestamp true", "delivery with timestamp false"} {
		if forms[form] == 0 {
			t.Errorf("no %s among %v", form, forms)
		}
	}
	if forms["read"] != sent {
		t.Errorf("%d reads", forms["read"])
	}
}

// An echo has the content of the message; one whose answer is lost is echoed too.
func TestEchoContent(t *testing.T) {
	r, c := startHooked(t, Webhook{Fields: []string{"message_echoes"}, Receipts: true})
	r.Script(Fault{Action: Reset, Accept: true, Text: "lost"})
	if _, err := r.trySend("1", "lost / verloren ä"); err == nil {
		t.Error("answered")
	}
	image := `{"recipient":{"id":"2"},"message":{"metadata":"01JD","attachment":{"type":"image","payload":{"url":"https://example.com/a.png"}}}}`
	if rep, err := r.do(r.request("/me/messages", "application/json", image, "Authorization", "Bearer token")); err != nil || rep.status != 200 {
		t.Fatalf("%+v %v", rep, err)
	}
	r.settled()
	got := map[string]eventJSON{}
	for _, e := range events(t, c.received()) {
		got[e.Recipient.ID] = e
	}
	if m := got["1"].Message; m.Text != "lost / verloren ä" || m.MID != r.Find(Query{Recipient: "1"})[0].MessageID {
		t.Errorf("%+v", m)
	}
	m := got["2"].Message
	want := []map[string]any{{"type": "image", "payload": map[string]any{"url": "https://example.com/a.png"}}}
	if diff := cmp.Diff(want, m.Attachments); diff != "" || m.Metadata != "01JD" || m.Text != "" {
		t.Errorf("%+v: %s", m, diff)
	}
}

// There are no receipts unless they are on, the page is subscribed, and a person got a message.
func TestNoReceipts(t *testing.T) {
	r, _ := startHooked(t, Webhook{Fields: receiptFields})
	r.send("1", "receipts are off")
	if err := r.changeWebhook(within(t), func(h *Webhook) error { h.Receipts = true; return nil }); err != nil {
		t.Fatal(err)
	}
	r.send("9000000551", "refused")
	for _, body := range []string{`{"recipient":{"id":"1"},"sender_action":"typing_on"}`, `{"recipient":{"user_ref":"u"},"message":{"text":"x"}}`} {
		if rep, err := r.do(r.request("/me/messages", "application/json", body, "Authorization", "Bearer token")); err != nil || rep.status != 200 {
			t.Fatalf("%+v %v", rep, err)
		}
	}
	if err := r.Subscribe("10", "messages"); err != nil {
		t.Fatal(err)
	}
	r.send("1", "not subscribed")
	if n := r.WebhookCounts(); n != (WebhookCounts{}) {
		t.Errorf("%+v", n)
	}
	if err := r.Subscribe("10", "message_reads"); err != nil {
		t.Fatal(err)
	}
	r.send("1", "reads alone")
	if n := r.settled(); n.Events != 1 {
		t.Errorf("%+v", n)
	}
}

// Some receipts come twice, each the same as before.
func TestReceiptsTwice(t *testing.T) {
	r, c := startHooked(t, Webhook{Receipts: true, ReceiptsTwice: 3, Parallel: 1})
	const sent = 40
	for i := range sent {
		r.send(strconv.Itoa(100+i), "x")
	}
	if n := r.settled(); n.DeliveredEvents < 3*sent+10 || n.DeliveredEvents > 5*sent {
		t.Errorf("%+v", n)
	}
	reads := map[string]int{}
	for _, e := range events(t, c.received()) {
		if e.Read != nil {
			reads[e.Sender.ID]++
		}
	}
	twice := 0
	for psid, n := range reads {
		if n > 2 {
			t.Errorf("%d receipts of reading of %s", n, psid)
		}
		twice += n - 1
	}
	if len(reads) != sent || twice == 0 || twice == sent {
		t.Errorf("%d of %d receipts came twice", twice, len(reads))
	}
	if err := r.changeWebhook(within(t), func(h *Webhook) error { h.ReceiptsTwice = -1; return nil }); err == nil {
		t.Error("a negative number is taken")
	}
}

// With Shuffle a message may be read before it is delivered.
func TestReceiptsOutOfOrder(t *testing.T) {
	c := newCallback(t)
	r := start(t, Config{Seed: 5, Pages: []Page{{ID: "10", Token: "token"}}, Webhook: Webhook{Receipts: true, Shuffle: true, Parallel: 1}})
	r.hold(c.url, func() {
		for range 10 {
			r.send("1", "x")
		}
	})
	r.settled()
	reads, early := 0, 0
	for _, e := range events(t, c.received()) {
		switch {
		case e.Read != nil:
			reads++
		case e.Delivery != nil && reads > 0:
			early++
		}
	}
	if reads != 10 || early == 0 {
		t.Errorf("%d reads, %d deliveries after one", reads, early)
	}
}
