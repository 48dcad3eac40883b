package ingress_test

import (
	"crypto/sha256"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/brazier-relay/brazier/queue/ingress"
)

// Pages and keys are changed while the door is open. Pages with a fault change nothing.
func TestSetPages(t *testing.T) {
	t.Parallel()
	h := open(t)
	with := func(key string) func(*http.Request) {
		return func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+key) }
	}
	digests := func(keys ...string) (all [][sha256.Size]byte) {
		for _, k := range keys {
			all = append(all, sha256.Sum256([]byte(k)))
		}
		return all
	}
	h.accepted(h.post(with(acmeKey)), "queued")
	h.refused(h.post(with(strangeKey)), http.StatusUnauthorized)

	for want, pages := range map[string][]ingress.Page{
		"digits": {{ID: "acme", Keys: digests(strangeKey)}},
		"Expire": {{ID: acme, Keys: digests(strangeKey), Expire: -time.Hour}},
		"Keys":   {{ID: acme, Keys: digests(strangeKey)}, {ID: nordwind, Keys: digests(strangeKey)}},
	} {
		if err := h.door.SetPages(pages); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v does not name %s", err, want)
		}
	}
	h.accepted(h.post(with(nordwindKey)), "queued")
	h.refused(h.post(with(strangeKey)), http.StatusUnauthorized)

	// One key is replaced by another, and a page is gone.
	if err := h.door.SetPages([]ingress.Page{{ID: acme, Name: "acme", Keys: digests(acmeNextKey, strangeKey)}}); err != nil {
		t.Fatal(err)
	}
	h.accepted(h.post(with(strangeKey)), "queued")
	h.accepted(h.post(with(acmeNextKey)), "queued")
	h.refused(h.post(with(acmeKey)), http.StatusUnauthorized)
	h.refused(h.post(with(nordwindKey)), http.StatusUnauthorized)
}
