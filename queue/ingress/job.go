package ingress

import (
	"bytes"
	"net/http"

	"github.com/brazier-relay/brazier/queue"
	"github.com/brazier-relay/brazier/sendapi"
)

// read makes a job of a request with its body.
func (s *Server) read(r *http.Request, page *knownPage, body []byte) (*queue.Job, *refusal) {
	send, err := sendapi.Parse(r.Header.Get("Content-Type"), body)
	if err != nil && len(bytes.TrimSpace(body)) == 0 && r.URL.Query().Has("recipient") {
		return nil, &refusal{status: http.StatusBadRequest, reason: reasonMessage, kind: string(sendapi.CauseMisplaced),
			text: "the message is in the query string: send it in the body, as JSON"}
	}
	if err != nil {
		return nil, invalid(err)
	}
	h := headers{Header: r.Header}
	job := &queue.Job{
		Page:            page.ID,
		Lane:            h.lane(send.Media()),
		Recipient:       send.Recipient.Short(),
		RecipientDigest: send.Recipient.Digest(),
		Tracking: queue.Tracking{
			Campaign:   h.text("X-Brazier-Campaign"),
			Canvas:     h.text("X-Brazier-Canvas"),
			Dispatch:   h.text("X-Brazier-Dispatch"),
			Message:    h.text("X-Brazier-Message"),
			User:       h.text("X-Brazier-User"),
			ExternalID: h.text("X-Brazier-External-Id"),
		},
		Accepted: s.cfg.Queue.Now(),
		Body:     send.Body,
	}
	job.Expire = job.Accepted.Add(h.expire(page.Expire))
	job.Key = h.key(job.Tracking)
	if h.refused != nil {
		return nil, h.refused
	}
	job.ID = queue.NewID()
	if job.Key != "" {
		job.ID = queue.KeyedID(page.ID, job.Key)
	}
	return job, nil
}
