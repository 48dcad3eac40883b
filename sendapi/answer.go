package sendapi

import (
	"bytes"
	"encoding/json"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// answer holds the fields of both kinds of answer. They are raw, because any of them
// may have another type than documented. Of a key that comes twice the last counts.
type answer struct {
	RecipientID json.RawMessage `json:"recipient_id"`
	MessageID   json.RawMessage `json:"message_id"`
	Error       json.RawMessage `json:"error"`
}

// decodeAnswer turns the answer to a POST of me/messages into a Receipt or an
// Error. The body may be anything: HTML, nothing, half an answer. A Retry-After date
// is counted from now.
//
// Success is HTTP 2xx and a JSON object without an error. The objects differ: that
// of a message has recipient_id and message_id, of a sender action only the first,
// of a message to a user_ref or phone number only the second. One with neither is
// a success too, though an odd one: see [Receipt.Unnamed].
//
// A refusal is an object error with message, type, code, and at times
// error_subcode, is_transient, error_user_title, error_user_msg, error_data (a
// string or an object) and fbtrace_id. An error decides whatever the status is:
// another sender has seen one with HTTP 200.
//
// Refusals were seen with HTTP 400 (codes 2, 10, 32, 100, 190, 551), 403 (codes 4,
// 10, 200, 613) and 500 (code 2), and HTML with 502. The status of a real 80006 is
// not known, and neither is whether Facebook ever answers 429. The header
// WWW-Authenticate repeats type and message of a refusal and is not read.
//
// HTTP 2xx with anything but a JSON object comes from something else than the Send
// API, such as a proxy, and is in doubt: the status says that something was carried
// out. With other statuses the status decides.
func decodeAnswer(status int, header http.Header, body []byte, now time.Time) (Receipt, *Error) {
	usage := parseUsage(header, now)
	silence := func(cause error) *Error {
		return &Error{Status: status, Class: rowOfStatus(status).silent, Silent: true, Usage: usage, Err: cause}
	}
	var a answer
	if err := json.Unmarshal(body, &a); err != nil || bytes.TrimLeft(body, " \t\r\n")[0] != '{' {
		return Receipt{}, silence(errNotJSON)
	}
	receipt := Receipt{RecipientID: rawID(a.RecipientID), MessageID: rawID(a.MessageID), Usage: usage}
	if failure := decodeError(status, a.Error); failure != nil {
		failure.Usage = usage
		if receipt.MessageID != "" && failure.Class != ClassDeliveredAnyway {
			// Facebook gives a message id only to a message that exists.
			failure.Class, failure.Err = ClassInDoubt, errBoth
		}
		return Receipt{}, failure
	}
	if status < 200 || status > 299 {
		return Receipt{}, silence(errNoError)
	}
	return receipt, nil
}

// graphError holds the fields of an error object that are read, raw as in answer.
type graphError struct {
	Message   json.RawMessage `json:"message"`
	Type      json.RawMessage `json:"type"`
	Code      json.RawMessage `json:"code"`
	Subcode   json.RawMessage `json:"error_subcode"`
	Transient json.RawMessage `json:"is_transient"`
	TraceID   json.RawMessage `json:"fbtrace_id"`
}

// decodeError reads the value of "error", and returns nil where there is none.
func decodeError(status int, raw json.RawMessage) *Error {
	if len(raw) == 0 || string(raw) == "null" || string(raw) == "false" {
		return nil
	}
	// An error that is not an object is a refusal without a reason.
	var g graphError
	if err := json.Unmarshal(raw, &g); err != nil {
		g = graphError{}
	}
	e := &Error{
		Status:    status,
		Code:      rawInt(g.Code),
		Subcode:   rawInt(g.Subcode),
		Type:      identifier(rawString(g.Type)),
		Transient: rawBool(g.Transient),
		TraceID:   identifier(rawString(g.TraceID)),
		Param:     paramIn(rawString(g.Message)),
	}
	e.Class = classify(e.Code, e.Subcode, e.Type, e.Transient, status)
	return e
}

// rawString returns a JSON string, and "" for anything else.
func rawString(raw json.RawMessage) string {
	var s string
	if len(raw) == 0 || raw[0] != '"' || json.Unmarshal(raw, &s) != nil {
		return ""
	}
	return s
}

// rawID returns an id that came as a string or, against the documentation, as a
// number, digit for digit.
func rawID(raw json.RawMessage) string {
	if len(raw) > 0 && (raw[0] == '-' || '0' <= raw[0] && raw[0] <= '9') {
		return string(raw)
	}
	return rawString(raw)
}

// rawInt returns a code that came as a number or as a string of digits. It is 0 for
// anything else, and for a number that is longer than any code, as a PSID is.
func rawInt(raw json.RawMessage) int {
	s := strings.TrimSpace(rawID(raw))
	f, err := strconv.ParseFloat(s, 64)
	if err != nil || f != math.Trunc(f) || math.Abs(f) > math.MaxInt32 {
		return 0
	}
	return int(f)
}

// rawBool returns true for true, 1 and either of them as a string.
func rawBool(raw json.RawMessage) bool {
	raw = bytes.Trim(raw, `"`)
	return string(raw) == "true" || string(raw) == "1"
}

// identifier returns a name or trace id, and "" for what does not look like one: a
// sentence, a PSID, an address. Trace ids seen have up to 23 characters
// of base64.
func identifier(s string) string {
	if len(s) > 64 {
		return ""
	}
	alphabetic := false
	for _, c := range []byte(s) {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z':
			alphabetic = true
		case '0' <= c && c <= '9', strings.IndexByte("+/=_-", c) >= 0:
		default:
			return ""
		}
	}
	if !alphabetic {
		return ""
	}
	return s
}
