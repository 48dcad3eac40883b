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

// Fingerprint tells these credentials from others and gives nothing of them away:
// 16 hexadecimal digits of a SHA-256. It may be stored and logged.
func (c Credentials) Fingerprint() string {
	sum := sha256.Sum256([]byte(c.Token + "\x00" + c.AppSecret))
	return hex.EncodeToString(sum[:8])
}

// query returns the parameters of a call that stand in its URL: none without an
// AppSecret, else the timed appsecret_proof with its time, as Meta's pages have
// them (login security page).
//
// The proof is lower-case hex of HMAC-SHA256 with the app secret as key over the
// token, a vertical bar and the time in whole seconds since 1970. Facebook takes it
// for five minutes from that time, so a proof that leaks is soon worth nothing, and
// a clock that is wrong by more is refused. The form without a time lasts as long as
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
