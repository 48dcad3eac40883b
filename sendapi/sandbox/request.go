package sandbox

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"unicode/utf8"
)

// maxBody is how many bytes of a request's body the sandbox reads. Facebook's own limit is not known; attachments come by URL.
const maxBody = 1 << 20

// How a token was sent, as Call.Auth names it.
const (
	authNone = iota
	authBearer
	authQuery
	authForm
	authJSON
)

var authNames = [...]string{"", "bearer", "query", "form", "json"}

// The edges of a page that are simulated.
const (
	messages       = "messages"
	subscribedApps = "subscribed_apps"
)

// request is a call as read, before anything in it has been judged.
type request struct {
	version string // as in the path; empty without
	node    string // "me" or a page id
	edge    string // messages or subscribedApps
	token   string
	auth    uint8
	params  params
}

// params are the parameters of a call in Graph's flat view: the query, then the body, whether it came as JSON or as a form.
// Objects are their JSON text, scalars are plain text.
type params map[string]string

// readHead reads what is known before the body: the path, and the token if it came in header or query.
func readHead(r *http.Request) (request, *graphError) {
	var req request
	segments := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	if isVersion(segments[0]) {
		req.version, segments = segments[0], segments[1:]
	}
	req.params = params{}
	if r.URL.RawQuery != "" {
		req.params.addForm(r.URL.RawQuery)
	}
	req.token, req.auth = headToken(r, req.params)
	switch {
	case len(segments) == 0 || segments[0] == "":
		return req, errBatch
	case segments[len(segments)-1] != subscribedApps && r.Method != http.MethodPost:
		return req, errMethod(r.Method)
	case req.version != "" && !knownVersion(req.version):
		return req, errUnknownPath
	case len(segments) != 2 || segments[1] != messages && segments[1] != subscribedApps:
		return req, errUnknownPath
	}
	req.node, req.edge = segments[0], segments[1]
	return req, nil
}

func headToken(r *http.Request, query params) (string, uint8) {
	scheme, token, found := strings.Cut(r.Header.Get("Authorization"), " ")
	if found && strings.EqualFold(scheme, "Bearer") {
		return strings.TrimSpace(token), authBearer
	}
	if t := query["access_token"]; t != "" {
		return t, authQuery
	}
	return "", authNone
}

// readBody adds the body's parameters. The body decides how it is read where the Content-Type does not.
func (req *request) readBody(r *http.Request) *graphError {
	body, err := io.ReadAll(io.LimitReader(r.Body, maxBody+1))
	if err != nil {
		return errBadBody
	}
	if len(body) > maxBody {
		return errBodyTooLarge
	}
	if coding := r.Header.Get("Content-Encoding"); coding != "" && !strings.EqualFold(coding, "identity") {
		return errBadBody
	}
	auth := uint8(authForm)
	switch mediaType(r.Header.Get("Content-Type"), body) {
	case "multipart/form-data":
		return errMultipart
	case "application/json":
		auth = authJSON
		if !utf8.Valid(body) {
			return errBadBody
		}
		if err := req.params.addJSON(body); err != nil {
			return errBadBody
		}
	default:
		req.params.addForm(string(body))
	}
	if t := req.params["access_token"]; t != "" && req.auth == authNone {
		req.token, req.auth = t, auth
	}
	return nil
}

func mediaType(header string, body []byte) string {
	if header == "application/json" {
		return header
	}
	if t, _, err := mime.ParseMediaType(header); err == nil {
		switch t {
		case "application/json", "application/x-www-form-urlencoded", "multipart/form-data":
			return t
		}
	}
	if b := bytes.TrimSpace(body); len(b) > 0 && b[0] == '{' {
		return "application/json"
	}
	return "application/x-www-form-urlencoded"
}

// addForm adds the parameters of a query or form and ignores what it cannot read.
func (p params) addForm(s string) {
	values, _ := url.ParseQuery(s)
	for k, v := range values {
		p[k] = v[len(v)-1]
	}
}

func (p params) addJSON(body []byte) error {
	if len(bytes.TrimSpace(body)) == 0 {
		return nil
	}
	var raw map[string]json.RawMessage
	if err := json.Unmarshal(body, &raw); err != nil {
		return err
	}
	for k, v := range raw {
		if len(v) > 0 && v[0] == '"' {
			var s string
			if err := json.Unmarshal(v, &s); err != nil {
				return err
			}
			p[k] = s
			continue
		}
		if string(v) != "null" {
			p[k] = string(v)
		}
	}
	return nil
}

// object parses a parameter that is an object. Meta's curl samples have single quotes inside forms, so these are read too.
func (p params) object(name string) (map[string]any, error) {
	text := p[name]
	m, err := parseObject([]byte(text))
	if err != nil && strings.Contains(text, "'") {
		if m, again := parseObject([]byte(doubleQuotes(text))); again == nil {
			return m, nil
		}
	}
	return m, err
}

func parseObject(text []byte) (map[string]any, error) {
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	var m map[string]any
	if err := d.Decode(&m); err != nil {
		return nil, err
	}
	if m == nil {
		return nil, errors.New("null")
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, errors.New("more than one value")
	}
	return m, nil
}

// doubleQuotes turns strings in single quotes into JSON strings.
func doubleQuotes(s string) string {
	var b strings.Builder
	single, double := false, false
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case c == '\\' && i+1 < len(s):
			i++
			if s[i] != '\'' {
				b.WriteByte(c)
			}
			b.WriteByte(s[i])
		case c == '\'' && !double:
			single = !single
			b.WriteByte('"')
		case c == '"' && single:
			b.WriteString(`\"`)
		case c == '"':
			double = !double
			b.WriteByte(c)
		default:
			b.WriteByte(c)
		}
	}
	return b.String()
}

// asText returns a string or a number as text: Graph takes numbers for strings.
func asText(v any) (string, bool) {
	switch v := v.(type) {
	case string:
		return v, true
	case json.Number:
		return v.String(), true
	}
	return "", false
}

func runes(s string) int { return utf8.RuneCountInString(s) }

// Versions of the Graph API (Graph changelog). It is a guess that Facebook answers calls to older versions, which have ended, with
// the oldest version that has not.
const (
	oldestVersion = 21
	newestVersion = 26
)

func isVersion(s string) bool {
	major, minor, ok := strings.Cut(strings.TrimPrefix(s, "v"), ".")
	return ok && s[0] == 'v' && major != "" && minor != "" && digits(major) && digits(minor)
}

func knownVersion(v string) bool {
	major, _, _ := strings.Cut(v[1:], ".")
	n, err := strconv.Atoi(major)
	return err == nil && n >= 2 && n <= newestVersion
}

// servedVersion is the version that the answer's facebook-api-version names.
func servedVersion(v string) string {
	if v == "" {
		return "v" + strconv.Itoa(newestVersion) + ".0"
	}
	major, _, _ := strings.Cut(v[1:], ".")
	if n, err := strconv.Atoi(major); err != nil || n < oldestVersion {
		return "v" + strconv.Itoa(oldestVersion) + ".0"
	}
	return v
}
