package webhook

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"net/url"
	"strings"
)

// SignatureHeader has the signature of a body (webhooks page). The older X-Hub-Signature, of SHA-1, is still sent beside it
// and proves nothing: never pass it to Verify.
const SignatureHeader = "X-Hub-Signature-256"

// Verify reports whether a body is from Facebook: whether signature, the value of SignatureHeader, is "sha256=" and the
// hexadecimal HMAC-SHA256 of the body with one of the app's secrets. The comparison takes the same time whatever differs.
//
// The body is the bytes as they arrived. Facebook signs what it sends, with other characters than ASCII as \uXXXX, so JSON
// that was decoded and encoded again does not verify (webhooks page). Several secrets are for the time in which a new
// secret replaces an old one. An empty secret verifies nothing.
func Verify(secrets [][]byte, signature string, body []byte) bool {
	digits, ok := strings.CutPrefix(signature, "sha256=")
	if !ok || len(digits) != hex.EncodedLen(sha256.Size) {
		return false
	}
	var claimed [sha256.Size]byte
	if _, err := hex.Decode(claimed[:], []byte(digits)); err != nil {
		return false
	}
	return signedByOne(secrets, claimed[:], body)
}

// signedByOne reports whether one of the secrets gives the signature.
func signedByOne(secrets [][]byte, signature, message []byte) bool {
	var sum [sha256.Size]byte
	for _, secret := range secrets {
		if len(secret) == 0 {
			continue // everybody knows it
		}
		mac := hmac.New(sha256.New, secret)
		_, _ = mac.Write(message)
		if hmac.Equal(mac.Sum(sum[:0]), signature) {
			return true
		}
	}
	return false
}

// ErrVerifyToken is the error of Challenge for a verify token that is not one of the app's.
var ErrVerifyToken = errors.New("hub.verify_token is not the app's verify token: enter the same token in the app dashboard and here")

// Challenge answers the GET request by which Facebook verifies a webhook's URL: it returns what the answer's body has to be,
// as text/plain with status 200. The request has no signature; hub.verify_token, which somebody entered in the app
// dashboard, proves that the URL belongs to the app (Graph API, webhooks getting started). The comparison takes the same
// time whatever differs. An empty token never matches.
//
// The error is ErrVerifyToken, or says which parameter is wrong; it holds no value of the query.
func Challenge(query url.Values, verifyTokens [][]byte) (string, error) {
	if query.Get("hub.mode") != "subscribe" {
		return "", errors.New("hub.mode must be subscribe")
	}
	challenge := query.Get("hub.challenge")
	if challenge == "" || identifier(text(challenge)) != challenge { // what is echoed must not be a page of HTML
		return "", errors.New("hub.challenge must have 1 to 64 characters, each a letter, a digit or one of -_.: of ASCII")
	}
	claimed := sha256.Sum256([]byte(query.Get("hub.verify_token")))
	match := 0
	for _, token := range verifyTokens {
		own := sha256.Sum256(token)
		if len(token) > 0 {
			match |= subtle.ConstantTimeCompare(claimed[:], own[:])
		}
	}
	if match == 0 {
		return "", ErrVerifyToken
	}
	return challenge, nil
}
