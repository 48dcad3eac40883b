package sandbox

import (
	"cmp"
	"encoding/json"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
)

// graphError is an error in the form of the Graph API, before it is varied and written.
type graphError struct {
	status        int
	code, subcode int
	kind, message string
	local         string // the message in another language, used now and then
	title         string // error_user_title
	transient     *bool
	exact         bool // scripted: nothing is varied but the order of the fields
}

func invalid(code, subcode int, message string) *graphError {
	return &graphError{status: http.StatusBadRequest, code: code, subcode: subcode, message: message}
}

func missing(param string) *graphError {
	return invalid(100, 0, "(#100) The parameter "+param+" is required")
}

// The errors about a call as such. Their statuses and codes are guesses; the text of errBadProof is Facebook's.
var (
	errBadBody      = invalid(100, 0, "(#100) The request's body cannot be read: it is cut short or not valid JSON.")
	errMultipart    = invalid(100, 0, "(#100) The sandbox does not simulate multipart uploads.")
	errBodyTooLarge = &graphError{status: http.StatusRequestEntityTooLarge, code: 1, message: "(#1) The request is too large."}
	errBatch        = &graphError{status: 400, code: 3, kind: "GraphMethodException",
		message: "(#3) The sandbox does not simulate batch requests or the root path: POST to /me/messages"}
	errBadProof = &graphError{status: 400, code: 100, kind: "GraphMethodException", message: "Invalid appsecret_proof provided in the API argument"}
	errReal     = &graphError{status: 401, code: 190, message: "This is a sandbox: nothing was sent. " +
		"The token looks like a real page access token; use a made-up one.", exact: true}
)

// errNoToken is the error of a call without token, such as one whose Authorization header a proxy dropped (2500:
// jgorset/facepy#135, fbsamples/messenger-platform-samples#125).
func errNoToken(node string) *graphError {
	if node == "me" {
		return &graphError{status: 400, code: 2500, message: "An active access token must be used to query information about the current user."}
	}
	return &graphError{status: 400, code: 104, message: "An access token is required to request this resource."}
}

func errBadToken(rnd *rand.Rand) *graphError {
	return &graphError{status: []int{400, 401}[rnd.IntN(2)], code: 190, message: "Invalid OAuth access token."}
}

func errMethod(method string) *graphError {
	return &graphError{status: 400, code: 100, subcode: 33, kind: "GraphMethodException",
		message: "Unsupported " + strings.ToLower(clip(method, 10)) + " request."}
}

// The path is not repeated: people paste tokens into URLs too.
var (
	errUnknownPath = &graphError{status: 400, code: 2500, message: "Unknown path components: POST to /{version}/{page-id or me}/messages"}
	errNoObject    = &graphError{status: 400, code: 100, subcode: 33, kind: "GraphMethodException", message: "Unsupported post request. " +
		"Object with this ID does not exist, cannot be loaded due to missing permissions, or does not support this operation."}
)

func clip(s string, n int) string {
	if len(s) > n {
		return s[:n]
	}
	return s
}

// field is a key and its value as JSON.
type field struct{ key, value string }

// encodeObject writes fields in an order that differs from answer to answer, since JSON promises none.
func encodeObject(rnd *rand.Rand, fields []field) []byte {
	rnd.Shuffle(len(fields), func(i, j int) { fields[i], fields[j] = fields[j], fields[i] })
	b := make([]byte, 0, 256)
	for i, f := range fields {
		b = append(b, "{,"[min(i, 1)], '"')
		b = append(b, f.key...)
		b = append(b, '"', ':')
		b = append(b, f.value...)
	}
	return append(b, '}')
}

func encodeString(s string) string {
	b, err := json.Marshal(s)
	if err != nil {
		panic("sandbox: quote: " + err.Error()) // a string always has a JSON form
	}
	return string(b)
}

// varied returns the error in one of the texts and forms that Facebook might give it.
func (e graphError) varied(rnd *rand.Rand) graphError {
	if e.exact {
		return e
	}
	if e.local != "" && rnd.IntN(3) == 0 {
		e.message = e.local
	}
	if e.transient != nil && rnd.IntN(3) == 0 {
		e.transient = nil // in pasted responses it is absent more often than not
	}
	if e.title == "" && rnd.IntN(8) == 0 {
		e.title = "Sandbox"
	}
	return e
}

// body returns the error as JSON.
func (e graphError) body(rnd *rand.Rand, trace string) []byte {
	fields := []field{
		{"message", encodeString(e.message)},
		{"type", encodeString(cmp.Or(e.kind, "OAuthException"))},
		{"code", strconv.Itoa(e.code)},
		{"fbtrace_id", encodeString(trace)},
	}
	if e.subcode != 0 {
		fields = append(fields, field{"error_subcode", strconv.Itoa(e.subcode)})
	}
	if e.transient != nil {
		fields = append(fields, field{"is_transient", strconv.FormatBool(*e.transient)})
	}
	if e.title != "" {
		fields = append(fields, field{"error_user_title", encodeString(e.title)}, field{"error_user_msg", encodeString(e.message)})
	}
	if !e.exact && rnd.IntN(8) == 0 {
		fields = append(fields, field{"error_data", []string{`"sandbox"`, `{"sandbox":true}`}[rnd.IntN(2)]})
	}
	return encodeObject(rnd, []field{{"error", string(encodeObject(rnd, fields))}})
}

const traceAlphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"

func traceID(rnd *rand.Rand) string {
	b := []byte("A0123456789012345678901")
	for i := range b[1:] {
		b[i+1] = traceAlphabet[rnd.IntN(len(traceAlphabet))]
	}
	return string(b)
}

// rand returns the source of all variation of one call, the same in each run with the same seed.
func (s *Sandbox) rand(seq int64) *rand.Rand { return rand.New(rand.NewPCG(s.seed, uint64(seq))) }
