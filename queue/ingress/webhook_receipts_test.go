package ingress_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/brazier-relay/brazier/queue"
	"github.com/brazier-relay/brazier/queue/ingress"
)

// receipts is a webhook with a receipt of a read, and a message.
func receipts(mid string) string {
	read := fmt.Sprintf(`{"sender":{"id":%q},"recipient":{"id":%q},"timestamp":1795600000123,"read":{"watermark":1795600000123}},`, psid, eventPage)
	return strings.Replace(eventBody(mid), `"messaging":[`, `"messaging":[`+read, 1)
}

// Receipts of pages that want them have a lane of their own, and when there is no room for them, what people do is stored all the same.
func TestWebhookReceipts(t *testing.T) {
	t.Parallel()
	app := testApp()
	app.Receipts = []string{eventPage}
	jobs := withRoadBack(t)
	jobs.UpdatesMaxBytes = 1 << 20
	h := openWebhooks(t, ingress.Config{Apps: []ingress.App{app}}, jobs)
	h.deliver(receipts("m_1"))
	if job := h.next(queue.AllPages, queue.Outcomes); job.Page != eventPage || strings.Contains(job.Recipient, psid) || job.RecipientDigest == "" {
		t.Errorf("stored as a receipt: %+v", job)
	}
	if events := h.takeEvents(); len(events) != 1 {
		t.Errorf("%d events are stored", len(events))
	}

	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for size := 64 << 10; size > 0; {
		_, err := h.q.Publish(ctx, &queue.Job{ID: queue.NewID(), Page: acme, Lane: queue.Outcomes, Body: make([]byte, size)})
		switch {
		case errors.Is(err, queue.ErrFull):
			size /= 2
		case err != nil:
			t.Fatal(err)
		}
	}
	other := strings.ReplaceAll(receipts("m_2"), "1795600000123", "1795600000999")
	h.eventually("the webhook is taken", func() bool { return h.webhook(other).status == http.StatusOK })
	if events := h.takeEvents(); len(events) != 1 {
		t.Errorf("%d events are stored beside a receipt that has no room", len(events))
	}
	if n := h.metrics()["brazier_webhook_events_total read no_room"]; n != 1 {
		t.Errorf("%v receipts counted as dropped", n)
	}
}
