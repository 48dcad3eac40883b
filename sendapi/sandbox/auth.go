package sandbox

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"math/rand/v2"
	"strconv"
	"time"
)

// authorise returns the page that a call is for, and an error if the call may not act for that page. It returns the page with an
// error too, if the token is, or was, that page's. The caller holds mu.
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

// proofMaxAge is how long a timed appsecret_proof is valid.
const proofMaxAge = 5 * time.Minute

// proven checks an appsecret_proof: hex(HMAC-SHA256(secret, token)), or of token|time beside an appsecret_time in Unix seconds
// (Meta's login security page). It is a guess that a time too far ahead is refused like one too old.
func proven(secret, tok string, p params, now time.Time) bool {
	signed := tok
	if at, timed := p["appsecret_time"]; timed {
		sec, err := strconv.ParseInt(at, 10, 64)
		if err != nil || now.Sub(time.Unix(sec, 0)).Abs() > proofMaxAge {
			return false
		}
		signed += "|" + at
	}
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(signed))
	return hmac.Equal([]byte(p["appsecret_proof"]), []byte(hex.EncodeToString(mac.Sum(nil))))
}

func errDeadToken(subcode int) *graphError {
	e := invalid(190, subcode, "Error validating access token: The session is invalid.")
	switch subcode {
	case 458:
		e.message = "Error validating access token: The user has not authorized the application."
	case 460:
		e.message = "Error validating access token: The session has been invalidated because the user changed their password or Facebook has changed the session for security reasons."
	case 463:
		e.message = "Error validating access token: Session has expired on Monday, 02-Nov-26 07:00:00 PST."
		e.local = "Ошибка проверки маркера доступа: срок действия сеанса истёк."
	}
	return e
}
