package ingress_test

import (
	"crypto/sha256"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/brazier-relay/brazier/queue/ingress"
)

func TestKeys(t *testing.T) {
	t.Parallel()
	h := open(t)
	query := func(key string) func(*http.Request) { return at(messages + "?access_token=" + key) }
	for _, c := range []struct {
		name          string
		authorization string
		query         string
		want          int
	}{
		{"header", "Bearer " + acmeKey, "", 202},
		{"the page's other key", "Bearer " + acmeNextKey, "", 202},
		{"lower-case scheme", "bearer " + acmeKey, "", 202},
		{"upper-case scheme", "BEARER  " + acmeKey + " ", "", 202},
		{"query", "", acmeKey, 202},
		{"header before query", "Bearer " + acmeKey, unknownKey, 202},
		{"other scheme and query", "Basic QnJhemllcjo=", acmeKey, 202},
		{"none", "", "", 401},
		{"unknown in header", "Bearer " + unknownKey, "", 401},
		{"unknown in header, known in query", "Bearer " + unknownKey, acmeKey, 401},
		{"unknown in query", "", unknownKey, 401},
		{"other scheme", "Basic " + acmeKey, "", 401},
		{"no scheme", acmeKey, "", 401},
		{"scheme alone", "Bearer", "", 401},
		{"scheme and spaces", "Bearer   ", "", 401},
		{"other case of the key", "Bearer " + strings.ToUpper(acmeKey), "", 401},
		{"key and more", "Bearer " + acmeKey + "x", "", 401},
		{"two keys", "Bearer " + acmeKey + " " + acmeNextKey, "", 401},
		{"digest instead of the key", fmt.Sprintf("Bearer %x", sha256.Sum256([]byte(acmeKey))), "", 401},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := h.in(t)
			set := without("Authorization")
			if c.authorization != "" {
				set = with("Authorization", c.authorization)
			}
			a := h.post(query(c.query), set)
			if c.want == http.StatusAccepted {
				h.accepted(a, "queued")
				h.only(acme)
				return
			}
			h.refused(a, c.want)
			if got := a.header.Get("WWW-Authenticate"); got != "Bearer" {
				t.Errorf("WWW-Authenticate is %q", got)
			}
		})
	}
	t.Run("another page's key", func(t *testing.T) {
		h := h.in(t)
		h.refused(h.post(at("/v25.0/"+acme+"/messages"), with("Authorization", "Bearer "+nordwindKey)), http.StatusForbidden)
		h.accepted(h.post(with("Authorization", "Bearer "+nordwindKey)), "queued")
		if job := h.only(nordwind); job.Page != nordwind {
			t.Errorf("stored for page %s", job.Page)
		}
	})
	h.nothingStored()
}

// Pages and keys are changed while the Server runs. Pages with a fault change nothing.
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
	h.refused(h.post(with(unknownKey)), http.StatusUnauthorized)

	for want, pages := range map[string][]ingress.Page{
		"digits": {{ID: "acme", Keys: digests(unknownKey)}},
		"Expire": {{ID: acme, Keys: digests(unknownKey), Expire: -time.Hour}},
		"Keys":   {{ID: acme, Keys: digests(unknownKey)}, {ID: nordwind, Keys: digests(unknownKey)}},
	} {
		if err := h.server.SetPages(pages); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v does not name %s", err, want)
		}
	}
	h.accepted(h.post(with(nordwindKey)), "queued")
	h.refused(h.post(with(unknownKey)), http.StatusUnauthorized)

	// One key is replaced by another, and one page is removed.
	if err := h.server.SetPages([]ingress.Page{{ID: acme, Name: "acme", Keys: digests(acmeNextKey, unknownKey)}}); err != nil {
		t.Fatal(err)
	}
	h.accepted(h.post(with(unknownKey)), "queued")
	h.accepted(h.post(with(acmeNextKey)), "queued")
	h.refused(h.post(with(acmeKey)), http.StatusUnauthorized)
	h.refused(h.post(with(nordwindKey)), http.StatusUnauthorized)
}
