package ingress

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/brazier-relay/brazier/queue"
	"github.com/brazier-relay/brazier/sendapi"
)

// route reads the page out of a path of the Send API: /messages under "me" or a page id, with or without a version
// before it. It is no http.ServeMux, because that redirects paths it finds unclean.
func route(path string) (page string, ok bool) {
	parts := strings.Split(strings.Trim(path, "/"), "/")
	if len(parts) == 3 && isVersion(parts[0]) {
		parts = parts[1:]
	}
	if len(parts) != 2 || parts[1] != "messages" || (parts[0] != "me" && !isDigits(parts[0])) {
		return "", false
	}
	return parts[0], true
}

// noRoute says what is wrong with a path, also where Graph has something that is not here.
func noRoute(r *http.Request) string {
	path := strings.Trim(r.URL.Path, "/")
	last := path[strings.LastIndexByte(path, '/')+1:]
	switch {
	case r.Method != http.MethodPost:
	case path == "" || isVersion(path):
		return "batches are not supported here: post each message to /v25.0/me/messages"
	case last == "message_attachments":
		return "uploads are not supported here: name a file by its url in the message"
	}
	return "no such path: post to /v25.0/me/messages"
}

func isVersion(s string) bool {
	major, minor, ok := strings.Cut(s, ".")
	return ok && strings.HasPrefix(major, "v") && isDigits(major[1:]) && isDigits(minor)
}

func isDigits(s string) bool { return s != "" && strings.Trim(s, "0123456789") == "" }

// authenticate returns the page that the request's key stands for.
func (d *Door) authenticate(w http.ResponseWriter, r *http.Request) (*knownPage, *refusal) {
	key := ""
	if scheme, rest, ok := strings.Cut(r.Header.Get("Authorization"), " "); ok && strings.EqualFold(scheme, "Bearer") {
		key = strings.TrimSpace(rest)
	} else if r.URL.RawQuery != "" {
		key = r.URL.Query().Get("access_token")
	}
	if key == "" && keyInBody(w, r) {
		return nil, &refusal{status: http.StatusUnauthorized, reason: reasonKey, kind: string(sendapi.CauseToken),
			text: "the key is in the body: put it into the header Authorization: Bearer …"}
	}
	if key == "" {
		return nil, &refusal{status: http.StatusUnauthorized, reason: reasonKey, text: "no key: send the header Authorization: Bearer with a key of this relay"}
	}
	// Digests are looked up. The time that takes may say how much of a digest is right, which helps nobody: whoever cannot
	// invert SHA-256 cannot choose a key for the digest that it gives. A wrong key costs as much as a right one.
	page, ok := (*d.keys.Load())[sha256.Sum256([]byte(key))]
	if !ok {
		return nil, &refusal{status: http.StatusUnauthorized, reason: reasonKey, text: "unknown key: use a key of this relay, not the page access token"}
	}
	return page, nil
}

// keyInBody reports whether what has arrived of a request's body names a key, as the forms of Facebook's own samples do. It
// waits no longer than finishBody does, and reads no more than a message is long.
func keyInBody(w http.ResponseWriter, r *http.Request) bool {
	const maxPeek = 16 << 10 // bytes
	if r.ContentLength == 0 || r.Header.Get("Expect") != "" ||
		http.NewResponseController(w).SetReadDeadline(time.Now().Add(bodyGrace)) != nil {
		return false
	}
	body, _ := io.ReadAll(io.LimitReader(r.Body, maxPeek)) // what there is of it
	return bytes.Contains(body, []byte("access_token"))
}

// invalid refuses a body that Facebook can only refuse.
func invalid(err error) *refusal {
	refused := &refusal{status: http.StatusBadRequest, reason: reasonMessage, text: err.Error()}
	if why, ok := errors.AsType[*sendapi.InvalidError](err); ok {
		refused.kind = string(why.Cause)
		if why.Cause == sendapi.CauseToken {
			refused.status, refused.reason = http.StatusUnauthorized, reasonKey
		}
	}
	return refused
}

// read makes a job of a request.
func (d *Door) read(r *http.Request, page *knownPage, body []byte) (*queue.Job, *refusal) {
	send, err := sendapi.Parse(r.Header.Get("Content-Type"), body)
	if err != nil && len(bytes.TrimSpace(body)) == 0 && r.URL.Query().Has("recipient") {
		return nil, &refusal{status: http.StatusBadRequest, reason: reasonMessage, kind: string(sendapi.CauseMisplaced),
			text: "the request is in the query: put it into the body, as JSON"}
	}
	if err != nil {
		return nil, invalid(err)
	}
	h := headers{Header: r.Header}
	job := &queue.Job{
		Page:            page.ID,
		Lane:            h.lane(send.Media()),
		Recipient:       send.Recipient.Short(),
		RecipientDigest: recipientDigest(send.Recipient),
		Tracking: queue.Tracking{
			Campaign:   h.text("X-Brazier-Campaign"),
			Canvas:     h.text("X-Brazier-Canvas"),
			Dispatch:   h.text("X-Brazier-Dispatch"),
			Message:    h.text("X-Brazier-Message"),
			User:       h.text("X-Brazier-User"),
			ExternalID: h.text("X-Brazier-External-Id"),
		},
		Accepted: d.cfg.Queue.Now(),
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

// recipientDigest tells recipients apart without naming them: 72 bits, so that no two meet by chance.
func recipientDigest(r sendapi.Recipient) string {
	sum := sha256.Sum256([]byte(string(r.Kind) + "\x00" + r.Value))
	return base64.RawStdEncoding.EncodeToString(sum[:9])
}

// body reads a request's body. Its memory grows with what arrives, not with what the headers promise, and what is large
// counts in the room from then on, under v.held.
func (d *Door) body(w http.ResponseWriter, r *http.Request, v *visit) ([]byte, *refusal) {
	limited := http.MaxBytesReader(w, r.Body, d.cfg.MaxBody)
	most := d.cfg.MaxBody + 1 // one more, to see whether it goes on
	switch n := r.ContentLength; {
	case n > d.cfg.MaxBody:
		return nil, d.unread(new(http.MaxBytesError))
	case n >= 0:
		most = n
	}
	body := make([]byte, 0, min(most, smallBody))
	for int64(len(body)) < most {
		if len(body) == cap(body) {
			size := min(2*int64(cap(body)), most)
			more := size - int64(cap(body))
			if !d.room.take(more) {
				return nil, crowded()
			}
			v.held += more
			body = append(make([]byte, 0, size), body...)
		}
		n, err := limited.Read(body[len(body):cap(body)])
		body = body[:len(body)+n]
		if err == io.EOF && r.ContentLength < 0 {
			return body, nil
		}
		if err != nil && int64(len(body)) < most {
			return nil, d.unread(err)
		}
	}
	if int64(len(body)) > d.cfg.MaxBody {
		return nil, d.unread(new(http.MaxBytesError))
	}
	return body, nil
}

// unread says why a body could not be read.
func (d *Door) unread(err error) *refusal {
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return &refusal{status: http.StatusRequestEntityTooLarge, reason: reasonTooLarge,
			text: "the body is over " + strconv.FormatInt(d.cfg.MaxBody, 10) + " bytes, the limit of this relay: shorten the message"}
	case errors.Is(err, os.ErrDeadlineExceeded):
		return &refusal{status: http.StatusRequestTimeout, reason: reasonSlow, text: "the body did not arrive in time: send it again"}
	default:
		return &refusal{status: http.StatusBadRequest, reason: reasonCutOff, text: "the body ended early: send as many bytes as Content-Length says"}
	}
}

// headers reads the optional headers and keeps the first thing that is wrong with them.
type headers struct {
	http.Header
	refused *refusal
}

func (h *headers) refuse(name, reason string) {
	if h.refused == nil {
		h.refused = &refusal{status: http.StatusBadRequest, reason: reasonHeader, text: "header " + name + " " + reason}
	}
}

// maxText bounds a tracking header. Braze's ids are 36 characters.
const maxText = 256

func (h *headers) text(name string) string {
	v := strings.TrimSpace(h.Get(name))
	switch {
	case v == "":
	case len(v) > maxText:
		h.refuse(name, "is longer than 256 bytes: shorten it")
	case !utf8.ValidString(v) || strings.ContainsFunc(v, unicode.IsControl):
		h.refuse(name, "holds bytes that are no printable text: send plain UTF-8")
	case strings.Contains(v, "{{") || strings.Contains(v, "{%"):
		h.refuse(name, "holds Liquid that was not rendered: check the tag's spelling")
	}
	return v
}

// placeholder is what Braze renders as dispatch id in previews and test sends (Braze dispatch id documentation).
const placeholder = "dispatch_id_for_unsent_campaign"

// key returns what tells a repetition from a new message, or "" where nothing does. One dispatch goes to many people
// and one person may get several messages, so it takes all three ids to make a key of them. The tab between them stands
// in none of them (see text), so that different ids never make the same key.
//
// A key that is there but blank is no missing one: its Liquid came out empty, and the ids may be too coarse for a caller
// who chose to send a key. Sending twice is the smaller harm.
func (h *headers) key(t queue.Tracking) string {
	const name = "Idempotency-Key"
	key := h.text(name)
	if len(h.Values(name)) == 0 && t.Dispatch != "" && t.User != "" && t.Message != "" {
		key = t.Dispatch + "\t" + t.User + "\t" + t.Message
	}
	if strings.Contains(key, placeholder) {
		return ""
	}
	return key
}

func (h *headers) lane(media bool) queue.Lane {
	const name = "X-Brazier-Lane"
	lane := queue.Bulk
	switch v := h.text(name); strings.ToLower(v) {
	case "", "bulk":
	case "urgent":
		lane = queue.Urgent
	default:
		h.refuse(name, "is neither urgent nor bulk")
	}
	if media {
		return queue.Media
	}
	return lane
}

func (h *headers) expire(otherwise time.Duration) time.Duration {
	const name = "X-Brazier-Expire"
	v := h.text(name)
	if v == "" {
		return otherwise
	}
	d, err := time.ParseDuration(v)
	if err != nil || d < time.Second || d > queue.MaxExpire {
		h.refuse(name, "is no time between 1s and 168h: write it like 30m or 6h")
	}
	return d
}
