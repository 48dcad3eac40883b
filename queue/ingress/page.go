package ingress

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/brazier-relay/brazier/queue"
	"github.com/brazier-relay/brazier/sendapi"
)

// Page is a Facebook page that callers may post messages for.
type Page struct {
	ID   string // Facebook page id, digits
	Name string // how logs and metrics name the page; default ID
	// Keys are the SHA-256 digests of the keys that callers present for this page. A key names one page.
	Keys [][sha256.Size]byte
	// Expire is how long a message is worth delivering when its request does not say. Default [DefaultExpire], at most
	// [queue.MaxExpire].
	Expire time.Duration
	// QueueShare is the part of the queue that the page may fill of what the other pages leave, above 0 and up to 1.
	// Default [queue.DefaultShare].
	QueueShare float64
}

// DefaultExpire is the expiry of messages for a page without one of its own.
const DefaultExpire = 24 * time.Hour

func (p Page) withDefaults() Page {
	p.Name = cmp.Or(p.Name, p.ID)
	p.Expire = cmp.Or(p.Expire, DefaultExpire)
	p.QueueShare = cmp.Or(p.QueueShare, queue.DefaultShare)
	return p
}

// pageFaults returns the faults of Config.Pages, each of them a *[ConfigError].
func pageFaults(pages []Page) (faults []error) {
	owners := map[[sha256.Size]byte]string{}
	for _, p := range pages {
		p = p.withDefaults()
		refuse := func(format string, args ...any) {
			faults = append(faults, &ConfigError{"Pages", fmt.Sprintf("page %q: %s", p.Name, fmt.Sprintf(format, args...))})
		}
		if !isDigits(p.ID) {
			refuse("ID must be a Facebook page id, digits only (got %q)", p.ID)
		}
		if p.Expire < 0 || p.Expire > queue.MaxExpire {
			refuse("Expire must be above 0 and up to %v (got %v)", queue.MaxExpire, p.Expire)
		}
		if !(p.QueueShare > 0 && p.QueueShare <= 1) {
			refuse("QueueShare must be above 0 and up to 1 (got %v)", p.QueueShare)
		}
		for _, k := range p.Keys {
			if owner, taken := owners[k]; taken {
				refuse("Keys: one of the keys belongs to page %q already; a key names one page", owner)
			}
			owners[k] = p.Name
		}
	}
	return faults
}

// keyring maps the digest of a key to the page that the key names.
type keyring map[[sha256.Size]byte]*knownPage

// knownPage is a page in use.
type knownPage struct {
	Page
	refusals *sampler
}

// SetPages replaces the pages that callers may post messages for. It may be called at any time. After an error, a
// *[ConfigError] or several joined, the pages are as they were.
func (s *Server) SetPages(pages []Page) error {
	if err := errors.Join(pageFaults(pages)...); err != nil {
		return err
	}
	s.usePages(pages)
	return nil
}

// usePages is SetPages for pages without a fault.
func (s *Server) usePages(pages []Page) {
	keys, shares := keyring{}, map[string]float64{}
	for _, p := range pages {
		p = p.withDefaults()
		shares[p.ID] = p.QueueShare
		known := &knownPage{Page: p, refusals: s.newSampler("rejected", p.Name)}
		for _, k := range p.Keys {
			keys[k] = known
		}
	}
	for _, known := range keys {
		s.metrics.expect(known.Name)
	}
	s.keys.Store(&keys)
	s.cfg.Queue.SetShares(shares)
}

// authenticate returns the page that the key of the request names.
func (s *Server) authenticate(w http.ResponseWriter, r *http.Request, e *exchange) (*knownPage, *refusal) {
	key := ""
	if scheme, rest, ok := strings.Cut(r.Header.Get("Authorization"), " "); ok && strings.EqualFold(scheme, "Bearer") {
		key = strings.TrimSpace(rest)
	} else if r.URL.RawQuery != "" {
		key = r.URL.Query().Get("access_token")
	}
	if key == "" {
		var found bool
		if found, e.whole = keyInBody(w, r); found {
			return nil, &refusal{status: http.StatusUnauthorized, reason: reasonKey, kind: string(sendapi.CauseToken),
				text: "the key is in the body: send it in the header Authorization: Bearer …"}
		}
		return nil, &refusal{status: http.StatusUnauthorized, reason: reasonKey, text: "no key: send a Brazier key in the header Authorization: Bearer …"}
	}
	// The lookup compares digests, so its duration may tell how much of a digest is right. That is of no use to an attacker,
	// who cannot choose a key by its SHA-256 digest.
	page, ok := (*s.keys.Load())[sha256.Sum256([]byte(key))]
	if !ok {
		return nil, &refusal{status: http.StatusUnauthorized, reason: reasonKey, text: "unknown key: use a Brazier key, not the page access token"}
	}
	return page, nil
}

// keyInBody reports whether the part of the body that has arrived contains access_token, as the forms in Facebook's own
// samples do, and whether that part is the whole body. It waits for the body no longer than finishBody does.
func keyInBody(w http.ResponseWriter, r *http.Request) (found, whole bool) {
	const maxPeek = 16 << 10 // bytes, more than a message has
	if r.ContentLength == 0 || r.Header.Get("Expect") != "" ||
		http.NewResponseController(w).SetReadDeadline(time.Now().Add(bodyGrace)) != nil {
		return false, r.ContentLength == 0
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, maxPeek)) // the error is most often the read deadline
	return bytes.Contains(body, []byte("access_token")), err == nil && len(body) < maxPeek
}
