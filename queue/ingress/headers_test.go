package ingress_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/brazier-relay/brazier/queue"
	"github.com/brazier-relay/brazier/queue/ingress"
)

func TestTrackingIsCarried(t *testing.T) {
	t.Parallel()
	h := open(t)
	before := time.Now().Truncate(time.Millisecond)
	a := h.post(
		with("X-Brazier-Campaign", "spring sale"),
		with("X-Brazier-Canvas", "canvas-1"),
		with("X-Brazier-Dispatch", "dispatch-1"),
		with("X-Brazier-Message", "message-1"),
		with("X-Brazier-User", "  user-1 "),
		with("X-Brazier-External-Id", "Zoë"),
		with("X-Brazier-Expire", "6h"),
		with("X-Brazier-Lane", "urgent"),
		with("Idempotency-Key", "order-17"),
	)
	after := time.Now()
	h.accepted(a, "queued")
	job := h.only(acme)
	if job.Accepted.Before(before) || job.Accepted.After(after) {
		t.Errorf("accepted at %v, not between %v and %v", job.Accepted, before, after)
	}
	want := queue.Job{
		ID: a.ID, Page: acme, Lane: queue.Urgent, Key: "order-17", Recipient: "…1852", RecipientDigest: job.RecipientDigest,
		Tracking: queue.Tracking{Campaign: "spring sale", Canvas: "canvas-1", Dispatch: "dispatch-1", Message: "message-1", User: "user-1", ExternalID: "Zoë"},
		Accepted: job.Accepted, Expire: job.Accepted.Add(6 * time.Hour),
		Body: []byte(nested),
	}
	if diff := cmp.Diff(want, job); diff != "" {
		t.Errorf("job (-want +got):\n%s", diff)
	}

	h.accepted(h.post(), "queued")
	if job := h.only(acme); job.Tracking != (queue.Tracking{}) || job.Key != "" {
		t.Errorf("a request without headers has the tracking %+v and the key %q", job.Tracking, job.Key)
	}
}

func TestHeadersThatAreRefused(t *testing.T) {
	t.Parallel()
	h := open(t)
	long := strings.Repeat("x", 256)
	names := []string{"Idempotency-Key", "X-Brazier-Campaign", "X-Brazier-Canvas", "X-Brazier-Dispatch", "X-Brazier-Message",
		"X-Brazier-User", "X-Brazier-External-Id", "X-Brazier-Expire", "X-Brazier-Lane"}
	for _, name := range names {
		for _, value := range []string{
			long + "x",
			"a\tb",
			"a\u0085b", // a control character beyond ASCII
			"a\xffb",   // no UTF-8
			"{{campaign.${api_id}}}",
			"{% if x %}1{% endif %}",
		} {
			a := h.post(with(name, value))
			h.refused(a, http.StatusBadRequest)
			if !strings.HasPrefix(a.Error.Message, "header "+name+" ") {
				t.Errorf("%s: %q: the message does not name the header: %s", name, value, a.body)
			}
		}
	}
	for _, name := range names[:7] {
		h.accepted(h.post(with(name, long)), "queued")
		h.only(acme)
	}
	a := h.post(with("X-Brazier-Campaign", "a\tb"), with("X-Brazier-Lane", "fast"))
	h.refused(a, http.StatusBadRequest)
	h.nothingStored()
}

// TestIdempotency posts two requests in each case. The second is a duplicate of the first or a new message.
func TestIdempotency(t *testing.T) {
	t.Parallel()
	h := open(t)
	const unsent = "dispatch_id_for_unsent_campaign"
	type request []func(*http.Request)
	ids := func(dispatch, user, message string) request {
		return request{with("X-Brazier-Dispatch", dispatch), with("X-Brazier-User", user), with("X-Brazier-Message", message)}
	}
	key := func(key string, more ...func(*http.Request)) request {
		return append(request{with("Idempotency-Key", key)}, more...)
	}
	for _, c := range []struct {
		name          string
		first, second request
		duplicate     bool
	}{
		{"same key", key("order-1"), key("order-1"), true},
		{"same key but for spaces around it", key("order-2"), key("  order-2 "), true},
		{"another key", key("order-3"), key("order-4"), false},
		{"another case", key("order-5"), key("Order-5"), false},
		{"no key", nil, nil, false},
		{"same key, another lane", key("order-6"), key("order-6", with("X-Brazier-Lane", "urgent")), true},
		{"same ids", ids("d1", "u1", "m1"), ids("d1", "u1", "m1"), true},
		{"another dispatch", ids("d2", "u", "m"), ids("d3", "u", "m"), false},
		{"another user", ids("d4", "u1", "m"), ids("d4", "u2", "m"), false},
		{"another message", ids("d5", "u", "m1"), ids("d5", "u", "m2"), false},
		{"ids that look alike when joined", ids("d6", "a/b", "c"), ids("d6", "a", "b/c"), false},
		{"no dispatch", ids("", "u7", "m7"), ids("", "u7", "m7"), false},
		{"no user", ids("d8", "", "m8"), ids("d8", "", "m8"), false},
		{"no message", ids("d9", "u9", " "), ids("d9", "u9", " "), false},
		{"the key goes before the ids", append(ids("d10", "u", "m"), key("order-7")...), append(ids("d10", "u", "m"), key("order-8")...), false},
		{"blank key", key(""), key(""), false},
		{"blank key beside the ids", append(ids("d11", "u", "m"), key(" ")...), append(ids("d11", "u", "m"), key(" ")...), false},
		{"test send", ids(unsent, "u", "m"), ids(unsent, "u", "m"), false},
		{"test send with a key of it", key(unsent + "-17"), key(unsent + "-17"), false},
		{"test send with a key of its own", append(ids(unsent, "u", "m"), key("order-9")...), append(ids(unsent, "u", "m"), key("order-9")...), true},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := h.in(t)
			first, second := h.post(c.first...), h.post(c.second...)
			h.accepted(first, "queued")
			if c.duplicate {
				h.accepted(second, "duplicate")
				if second.ID != first.ID {
					t.Errorf("the duplicate has the id %s, the first %s", second.ID, first.ID)
				}
				if job := h.only(acme); job.ID != first.ID {
					t.Errorf("stored is %s, not %s", job.ID, first.ID)
				}
				// The key is still known after the first message has left the queue.
				third := h.post(c.second...)
				h.accepted(third, "duplicate")
				if third.ID != first.ID || len(h.take(acme)) != 0 {
					t.Errorf("after its delivery the duplicate is %s, not %s, or is stored", third.ID, first.ID)
				}
				return
			}
			h.accepted(second, "queued")
			if jobs := h.take(acme); len(jobs) != 2 || jobs[0].ID == jobs[1].ID {
				t.Errorf("%d jobs are stored, want 2", len(jobs))
			}
		})
	}
	t.Run("same key of another page", func(t *testing.T) {
		h := h.in(t)
		first := h.post(with("Idempotency-Key", "order-20"))
		second := h.post(with("Idempotency-Key", "order-20"), with("Authorization", "Bearer "+nordwindKey))
		h.accepted(first, "queued")
		h.accepted(second, "queued")
		if a, b := h.only(acme), h.only(nordwind); a.ID == b.ID || a.ID != first.ID || b.ID != second.ID {
			t.Errorf("stored are %s and %s, answered %s and %s", a.ID, b.ID, first.ID, second.ID)
		}
	})
	t.Run("same key of a page's other key", func(t *testing.T) {
		h := h.in(t)
		first := h.post(with("Idempotency-Key", "order-21"))
		second := h.post(with("Idempotency-Key", "order-21"), with("Authorization", "Bearer "+acmeNextKey))
		h.accepted(first, "queued")
		h.accepted(second, "duplicate")
		h.only(acme)
	})
	t.Run("same key, another recipient", func(t *testing.T) {
		h := h.in(t)
		first := h.post(with("Idempotency-Key", "order-23"))
		second := h.post(with("Idempotency-Key", "order-23"), withBody(strings.Replace(nested, psid, psid[1:]+"9", 1)))
		h.accepted(first, "queued")
		h.refused(second, http.StatusConflict)
		if !strings.Contains(second.Error.Message, "include the user in the key") {
			t.Errorf("no remedy in %s", second.body)
		}
		h.only(acme)
	})
	t.Run("refused before, good now", func(t *testing.T) {
		h := h.in(t)
		h.refused(h.post(with("Idempotency-Key", "order-22"), withBody("{")), http.StatusBadRequest)
		h.accepted(h.post(with("Idempotency-Key", "order-22")), "queued")
		h.only(acme)
	})
}

func TestLanes(t *testing.T) {
	t.Parallel()
	h := open(t)
	attachment := func(kind string) string {
		return `{"recipient":{"id":"` + psid + `"},"message":{"attachment":{"type":"` + kind + `","payload":{"url":"https://cdn.example/a"}}}}`
	}
	for _, c := range []struct {
		lane, body string
		want       queue.Lane // empty: refused
	}{
		{"", nested, queue.Bulk},
		{" ", nested, queue.Bulk},
		{"bulk", nested, queue.Bulk},
		{"urgent", nested, queue.Urgent},
		{"Urgent", nested, queue.Urgent},
		{"media", nested, ""},
		{"express", nested, ""},
		{"urgent,bulk", nested, ""},
		{"", attachment("image"), queue.Bulk},
		{"urgent", attachment("file"), queue.Urgent},
		{"", attachment("audio"), queue.Media},
		{"", attachment("video"), queue.Media},
		{"urgent", attachment("video"), queue.Media},
		{"express", attachment("video"), ""},
	} {
		a := h.post(with("X-Brazier-Lane", c.lane), withBody(c.body))
		if c.want == "" {
			h.refused(a, http.StatusBadRequest)
			continue
		}
		h.accepted(a, "queued")
		if job := h.only(acme); job.Lane != c.want {
			t.Errorf("lane %q, %s: stored in %s, want %s", c.lane, c.body, job.Lane, c.want)
		}
	}
	h.nothingStored()
}

func TestExpire(t *testing.T) {
	t.Parallel()
	h := open(t)
	for _, c := range []struct {
		key, value string
		want       time.Duration // 0: refused
	}{
		{acmeKey, "", ingress.DefaultExpire},
		{nordwindKey, "", 90 * time.Minute},
		{nordwindKey, " ", 90 * time.Minute},
		{nordwindKey, "6h", 6 * time.Hour},
		{acmeKey, "1s", time.Second},
		{acmeKey, "1h30m", 90 * time.Minute},
		{acmeKey, "168h", queue.MaxExpire},
		{acmeKey, "168h1s", 0},
		{acmeKey, "336h", 0},
		{acmeKey, "2 weeks", 0},
		{acmeKey, "7d", 0},
		{acmeKey, "3600", 0},
		{acmeKey, "0", 0},
		{acmeKey, "0s", 0},
		{acmeKey, "999ms", 0},
		{acmeKey, "-1h", 0},
		{acmeKey, "soon", 0},
		{acmeKey, "NaN", 0},
		{acmeKey, "9999999999999h", 0},
	} {
		a := h.post(with("Authorization", "Bearer "+c.key), with("X-Brazier-Expire", c.value))
		if c.want == 0 {
			h.refused(a, http.StatusBadRequest)
			if !strings.Contains(a.Error.Message, "X-Brazier-Expire") {
				t.Errorf("%q: the message does not name the header: %s", c.value, a.body)
			}
			continue
		}
		h.accepted(a, "queued")
		page := acme
		if c.key == nordwindKey {
			page = nordwind
		}
		if job := h.only(page); job.Expire.Sub(job.Accepted) != c.want {
			t.Errorf("%q: expires after %v, want %v", c.value, job.Expire.Sub(job.Accepted), c.want)
		}
	}
	h.nothingStored()
}

// parsed decodes JSON without rounding numbers.
func parsed(t testing.TB, b []byte) any {
	t.Helper()
	var v any
	d := json.NewDecoder(strings.NewReader(string(b)))
	d.UseNumber()
	if err := d.Decode(&v); err != nil {
		t.Fatalf("%s: %v", b, err)
	}
	return v
}
