package sandbox

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"math/rand/v2"
	"strconv"
	"time"
)

// authorise finds the page that a call is for and asks whether the call may speak for it. The page is returned beside an error
// too, if the token is, or was, that page's. Needs mu.
func (s *Sandbox) authorise(req *request, now time.Duration, rnd *rand.Rand) (*page, *graphError) {
	if req.token == "" {
		return nil, errNoToken(req.node)
	}
	if looksReal(req.token) {
		return nil, errReal
	}
	t := s.tokenFor(req.token, req.node)
	switch {
	case t == nil:
		return nil, errBadToken(rnd)
	case t.dead != 0:
		return t.page, errDeadToken(t.dead)
	case req.node != "me" && !s.named(t.page, req.node):
		return t.page, errNoObject
	case t.page.AppSecret != "" && !proven(t.page.AppSecret, req.token, req.params, s.start.Add(now)):
		return t.page, errBadProof
	}
	return t.page, nil
}

// proofLife is how long a timed appsecret_proof is good for.
const proofLife = 5 * time.Minute

// proven checks an appsecret_proof: hex(HMAC-SHA256(secret, token)), or of token|time beside an appsecret_time in Unix seconds
// (Meta's login security page). That a time too far ahead is refused like one too old is a guess.
func proven(secret, tok string, p params, now time.Time) bool {
	signed := tok
	if at, timed := p["appsecret_time"]; timed {
		sec, err := strconv.ParseInt(at, 10, 64)
		if err != nil || now.Sub(time.Unix(sec, 0)).Abs() > proofLife {
			return false
		}
		signed += "|" + at
	}
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(signed))
	return hmac.Equal([]byte(p["appsecret_proof"]), []byte(hex.EncodeToString(mac.Sum(nil))))
}
