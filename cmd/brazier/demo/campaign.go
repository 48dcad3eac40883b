package demo

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/brazier-relay/brazier/cmd/brazier/pagefile"
)

// posters is how many requests the campaign has under way at one time.
const posters = 8

// trouble is a message of the campaign that does not just arrive.
type trouble struct {
	at   int // which message of the campaign
	psid string
	what string
}

// troubles are spread over the campaign. The recipients are the sandbox's; see its help.
var troubles = []trouble{
	{3, "", "has no PSID in Braze"},
	{5, "9000000551000001", "cannot be reached"},
	{7, "9000000500000002", "meets an outage of Facebook's, once"},
	{9, "9000000278000003", "wrote last more than a day ago"},
	{11, "9000000444000004", "gets the message, but Facebook's answer is lost"},
	{13, "9000000502000005", "meets an HTML error page, once"},
}

// post sends the campaign to the ingress as Braze would: templates rendered, several at a time, the dispatch in headers.
func (d *demo) post(ctx context.Context) {
	numbers := make(chan int)
	var posting sync.WaitGroup
	for range posters {
		posting.Go(func() {
			for n := range numbers {
				d.tally.answered(d.postOne(ctx, n))
			}
		})
	}
	// As fast as a campaign of this size would come, and slow enough to watch.
	pace := time.NewTicker(10 * time.Millisecond)
	defer pace.Stop()
	for n := range d.Messages {
		select {
		case <-ctx.Done():
		case <-pace.C:
			numbers <- n
		}
	}
	if ctx.Err() == nil {
		numbers <- d.Messages / 2 // one message is posted again, as Braze does when an answer is late
	}
	close(numbers)
	posting.Wait()
}

// campaign is the campaign's id.
const campaign = "order-shipped"

// psidOf is the recipient of message n of the campaign, empty where Braze knows none.
func psidOf(n int) string {
	for _, t := range troubles {
		if t.at == n {
			return t.psid
		}
	}
	return strconv.Itoa(2_000_000_000_000_000 + n)
}

// postOne posts message n of the campaign.
func (d *demo) postOne(ctx context.Context, n int) (status int, answer string) {
	return d.send(ctx, message{page: d.pages[n%2], psid: psidOf(n), campaign: campaign, user: userOf(n),
		text: fmt.Sprintf("Hi %s, your order #%d has shipped.", names[n%len(names)], 48_000+n)})
}

// message is what a campaign has for one user.
type message struct {
	page                       pagefile.Page
	psid, campaign, user, text string
}

// send posts m to the ingress. The status is 0 if there was no answer.
func (d *demo) send(ctx context.Context, m message) (status int, answer string) {
	body, _ := json.Marshal(map[string]any{
		"recipient":      map[string]string{"id": m.psid},
		"messaging_type": "UPDATE",
		"message":        map[string]string{"text": m.text},
	})
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, d.ingressURL+"/v25.0/me/messages", bytes.NewReader(body))
	if err != nil {
		return 0, err.Error()
	}
	for name, value := range map[string]string{
		"Content-Type":       "application/json",
		"Authorization":      "Bearer " + d.keys[m.page.Name],
		"X-Brazier-Campaign": m.campaign,
		"X-Brazier-Dispatch": "dispatch-of-" + m.campaign,
		"X-Brazier-Message":  "demo-message",
		"X-Brazier-User":     m.user,
	} {
		req.Header.Set(name, value)
	}
	resp, err := d.client.Do(req)
	if err != nil {
		return 0, "no answer from the ingress"
	}
	defer resp.Body.Close()
	b, _ := io.ReadAll(io.LimitReader(resp.Body, 4096)) // a short answer is reported as it is
	var got struct {
		Status string
		Error  struct{ Message string }
	}
	_ = json.Unmarshal(b, &got)
	return resp.StatusCode, got.Status + got.Error.Message
}

var names = []string{"Ada", "Bela", "Chidi", "Dewi", "Emre", "Farah", "Goran", "Hana", "Ines", "Jonas"}
