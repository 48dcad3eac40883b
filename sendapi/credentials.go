package sendapi

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"strconv"
	"time"
)

// Credentials let a call act for one page.
//
// They print, and marshal to JSON and YAML, as a constant: no format verb and no
// structured logger shows a secret through this type. The fields themselves are
// plain strings and hide nothing.
type Credentials struct {
	// Token is the page access token, from somebody with the MESSAGE task on the
	// page, for an app with the permission pages_messaging (Send API reference).
	// The token names the page: the path /me/messages means its page.
	Token string

	// AppSecret is the secret of the token's app. Where it is set, each call
	// carries an appsecret_proof. Leave it empty unless the app requires proofs.
	AppSecret string
}

const masked = "sendapi.Credentials(masked)"

// Format writes a constant, whatever the verb.
func (Credentials) Format(s fmt.State, _ rune) { _, _ = io.WriteString(s, masked) }

// String returns a constant.
func (Credentials) String() string { return masked }

// MarshalText returns a constant, so that JSON and YAML encoders show no secret.
func (Credentials) MarshalText() ([]byte, error) { return []byte(masked), nil }

// Fingerprint identifies these credentials without revealing them: 16 hexadecimal
// digits of a SHA-256. It may be stored and logged.
func (c Credentials) Fingerprint() string {
	sum := sha256.Sum256([]byte(c.Token + "\x00" + c.AppSecret))
	return hex.EncodeToString(sum[:8])
}

// query returns the query of a call's URL: empty without an AppSecret, otherwise the
// timed appsecret_proof with its time (Meta's login security page).
//
// The proof is lower-case hex of HMAC-SHA256 with the app secret as key over the
// token, a vertical bar and the time in whole seconds since 1970. Facebook accepts it
// for five minutes from that time: a leaked proof soon expires, and a call is refused
// if this machine's clock is wrong by more. The form without a time is valid as long as
// the token and is not used here. A wrong proof is refused with code 100 of type
// GraphMethodException (howdyai/botkit#1455).
func (c Credentials) query(now time.Time) string {
	if c.AppSecret == "" {
		return ""
	}
	at := strconv.FormatInt(now.Unix(), 10)
	mac := hmac.New(sha256.New, []byte(c.AppSecret))
	_, _ = io.WriteString(mac, c.Token)
	_, _ = io.WriteString(mac, "|"+at)
	return "?appsecret_proof=" + hex.EncodeToString(mac.Sum(nil)) + "&appsecret_time=" + at
}
