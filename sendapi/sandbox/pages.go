package sandbox

import (
	"errors"
	"fmt"
	"slices"
)

// errNoPage is returned for a page that does not exist.
var errNoPage = errors.New("sandbox: no such page")

// addPage adds a page and its token. The caller holds mu, except New.
func (s *Sandbox) addPage(p Page) *page {
	pg := &page{Page: p, origin: p.ID, limits: newLimiter(p), fields: s.hooks.initialFields()}
	s.pages[p.ID] = pg
	s.tokens[p.Token] = &token{page: pg}
	return pg
}

// maxPages bounds the pages that AnyToken makes, in case somebody sends a new token with each call.
const maxPages = 10_000

// tokenFor returns the token tok with its page. With AnyToken it makes them if there are none. It returns nil if the token is not
// valid. The caller holds mu.
func (s *Sandbox) tokenFor(tok, node string) *token {
	if t := s.tokens[tok]; t != nil {
		return t
	}
	if !s.cfg.AnyToken || len(s.pages) >= maxPages {
		return nil
	}
	id, named := pageIDFor(tok), digits(node)
	if named {
		id = node
	}
	if s.pages[id] != nil {
		return nil // a page that exists has a token of its own
	}
	p := s.cfg.AnyPage
	p.ID, p.Name, p.Token = id, id, tok
	s.addPage(p).unnamed = !named
	return s.tokens[tok]
}

// named reports whether a path with this id is for the page. A page that AnyToken made for a path with me gets the id of the
// first path that has one. The caller holds mu.
func (s *Sandbox) named(p *page, id string) bool {
	if p.unnamed && digits(id) && s.pages[id] == nil {
		delete(s.pages, p.ID)
		p.ID, p.Name, p.unnamed = id, id, false
		s.pages[id] = p
	}
	return p.ID == id
}

// pageIDs returns the ids of all pages, sorted.
func (s *Sandbox) pageIDs() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	ids := make([]string, 0, len(s.pages))
	for id := range s.pages {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

// KillToken makes all tokens of a page dead: calls are answered 190 with this subcode, such as 463 (expired) or 460 (password
// changed). SetToken ends this.
func (s *Sandbox) KillToken(pageID string, subcode int) error {
	if subcode <= 0 {
		return fmt.Errorf("sandbox: kill token: subcode must be above 0 (got %d)", subcode)
	}
	return s.withPage(pageID, func(p *page) error {
		s.killTokens(p, subcode)
		return nil
	})
}

// SetToken gives a page a new token. Its old tokens are dead from now on: 190/460. The present token becomes valid again if it was
// dead.
func (s *Sandbox) SetToken(pageID, tok string) error {
	switch {
	case tok == "":
		return errors.New("sandbox: set token: the token must not be empty")
	case looksReal(tok):
		return fmt.Errorf("sandbox: set token: the token %w", errRealToken)
	}
	return s.withPage(pageID, func(p *page) error {
		if t := s.tokens[tok]; t != nil && t.page != p {
			return errors.New("sandbox: set token: another page has this token")
		}
		s.killTokens(p, 460)
		s.tokens[tok] = &token{page: p}
		return nil
	})
}

// killTokens makes all tokens of a page dead. Tokens that are dead already keep their subcode. The caller holds mu.
func (s *Sandbox) killTokens(p *page, subcode int) {
	for _, t := range s.tokens {
		if t.page == p && t.dead == 0 {
			t.dead = subcode
		}
	}
}

// Restrict keeps a page from sending: each call is answered with this code, such as 10/1893063 (temporarily restricted), 368 or
// 2022 (blocked for policy). A code of 0 ends the restriction.
func (s *Sandbox) Restrict(pageID string, code, subcode int) error {
	return s.withPage(pageID, func(p *page) error {
		p.restricted = nil
		if code != 0 {
			p.restricted = restriction(code, subcode)
		}
		return nil
	})
}

func restriction(code, subcode int) *graphError {
	return invalid(code, subcode, fmt.Sprintf("(#%d) This Page is temporarily restricted from sending messages.", code))
}

func (s *Sandbox) withPage(id string, f func(*page) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.pages[id]
	if p == nil {
		return fmt.Errorf("%w: %q", errNoPage, id)
	}
	return f(p)
}

// pageState is a page as GET /pages shows it: no token, no secret.
type pageState struct {
	ID         string `json:"id"`
	Name       string `json:"name"`
	TokenDead  int    `json:"token_dead,omitempty"` // 190's subcode
	Restricted int    `json:"restricted,omitempty"` // code
	Rate       int    `json:"rate"`
	MediaRate  int    `json:"media_rate"`
	HighVolume int    `json:"high_volume"`
	// Subscribed are the fields of the webhook.
	Subscribed []string `json:"subscribed"`
}

func (s *Sandbox) pageStates() []pageState {
	list := []pageState{}
	for _, id := range s.pageIDs() {
		_ = s.withPage(id, func(p *page) error { // pages are never removed
			st := pageState{ID: id, Name: p.Name, Rate: p.Rate, MediaRate: p.MediaRate, HighVolume: p.HighVolume,
				Subscribed: append([]string{}, p.fields...)}
			if p.restricted != nil {
				st.Restricted = p.restricted.code
			}
			st.TokenDead = s.tokenDead(p)
			list = append(list, st)
			return nil
		})
	}
	return list
}

// tokenDead returns 0 if a page has a valid token, or else the subcode of a dead one. The caller holds mu.
func (s *Sandbox) tokenDead(p *page) int {
	dead := 0
	for _, t := range s.tokens {
		if t.page != p {
			continue
		}
		if t.dead == 0 {
			return 0
		}
		dead = t.dead
	}
	return dead
}
