package braze_test

import (
	"bufio"
	"encoding/json"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/brazier-relay/brazier/worker/braze"
)

// line is one answer of Braze's that is known, from testdata/braze_answers.jsonl.
type line struct {
	Name    string
	Request string
	Status  *int
	Headers map[string]string
	Body    *string
	Expect  string
}

func lines(t testing.TB) []line {
	t.Helper()
	f, err := os.Open("testdata/braze_answers.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var all []line
	for s := bufio.NewScanner(f); s.Scan(); {
		var l line
		if err := json.Unmarshal(s.Bytes(), &l); err != nil {
			t.Fatal(err)
		}
		all = append(all, l)
	}
	return all
}

// what is to be made of a line: the objects that are sent, and their results with the setting RepeatEvents off.
type what struct {
	objects      []braze.Object
	results      []string // outcome, cause, and part of the reason
	meaning      braze.Meaning
	wait         braze.Wait
	text         string // part of the verdict's text
	unattributed string // part of the only unattributed error
	calls        int    // default 1
	repeat       []string
}

var (
	waitShort  = braze.Wait{First: time.Second, Max: time.Minute}
	waitLimit  = braze.Wait{First: 5 * time.Second, Max: time.Minute}
	waitDenied = braze.Wait{First: time.Minute, Max: time.Minute}
)

func limited(d time.Duration) braze.Wait { w := waitLimit; w.For = d; return w }
func failed(d time.Duration) braze.Wait  { w := waitShort; w.For = d; return w }

const (
	noID      = "dead|refused|'external_id', 'braze_id', 'user_alias', 'email' or 'phone' is required"
	badMail   = "dead|refused|The value provided for the 'email' field is not a valid email."
	done      = "done||"
	notTaken  = "again|not_taken|"
	doubtful  = "again|in_doubt|"
	deadDoubt = "dead|in_doubt|Braze may have the event"
)

var (
	oneAttribute = []braze.Object{attribute("a")}
	oneEvent     = []braze.Object{event("a")}
	twoEvents    = []braze.Object{event("a"), event("b")}
	both         = []braze.Object{attribute("a"), event("b")}
)

var expected = map[string]what{
	"success_attributes": {objects: many(2), results: []string{done, done}},
	"success_events":     {objects: []braze.Object{attribute("a"), event("a"), event("b")}, results: []string{done, done, done}},
	"success_200":        {objects: oneEvent, results: []string{done}},
	"success_no_body": {objects: both, results: []string{doubtful, deadDoubt}, repeat: []string{doubtful, doubtful}, meaning: braze.Failed,
		wait: waitShort, text: "HTTP 201, but the body is not Braze's"},
	"queued_maintenance": {objects: oneAttribute, results: []string{done}},
	"partial_event_without_id": {objects: twoEvents, results: []string{done, noID},
		unattributed: "'quantity' is not valid (of purchases 0, which was not sent)"},
	"partial_attributes":    {objects: many(3), results: []string{badMail, badMail, done}},
	"partial_blocked_user":  {objects: oneAttribute, results: []string{"dead|refused|provided external_id is blacklisted and disallowed"}},
	"partial_schema":        {objects: oneEvent, results: []string{"dead|refused|did not contain a required property of 'product_id'"}},
	"partial_string_errors": {objects: oneAttribute, results: []string{done}, unattributed: "minor error message"},
	"partial_unknown_array": {objects: oneEvent, results: []string{done}, unattributed: "x (of carts 0, which was not sent)"},
	"all_invalid":           {objects: twoEvents, results: []string{noID, noID}},
	// Whatever is sent is refused: this may be ours or theirs. TestRefusedWithoutAName has the single bad object.
	"bad_json": {objects: many(2), results: []string{"again|refused|HTTP 400: Bad Request", "again|refused|HTTP 400: Bad Request"}, calls: 3,
		meaning: braze.Rejected, wait: waitLimit, text: "Bad Request"},
	"body_too_large": {objects: []braze.Object{large("a"), large("b")}, results: []string{"dead|too_large|HTTP 413", "dead|too_large|HTTP 413"}, calls: 3},
	"invalid_key": {objects: both, results: []string{notTaken, notTaken}, meaning: braze.Denied, wait: waitDenied,
		text: "HTTP 401: Invalid API Key: check that the key is valid"},
	"validation_text_under_401": {objects: many(3), results: []string{notTaken, notTaken, notTaken}, meaning: braze.Denied, wait: waitDenied,
		text: "HTTP 401"},
	"unknown_key": {objects: both, results: []string{notTaken, notTaken}, meaning: braze.Denied, wait: waitDenied,
		text: "HTTP 404: the key is unknown at URL; check that URL is the REST endpoint"},
	"rate_limited_burst":      {objects: both, results: []string{notTaken, notTaken}, meaning: braze.Limited, wait: limited(3 * time.Second), text: "429"},
	"rate_limited_hourly":     {objects: both, results: []string{notTaken, notTaken}, meaning: braze.Limited, wait: limited(time.Minute), text: "429"},
	"rate_limited_no_headers": {objects: both, results: []string{notTaken, notTaken}, meaning: braze.Limited, wait: waitLimit, text: "429"},
	"server_error_500": {objects: both, results: []string{doubtful, deadDoubt}, repeat: []string{doubtful, doubtful}, meaning: braze.Failed,
		wait: waitShort, text: "HTTP 500"},
	"unavailable": {objects: both, results: []string{doubtful, deadDoubt}, repeat: []string{doubtful, doubtful}, meaning: braze.Failed,
		wait: failed(30 * time.Second), text: "HTTP 503"},
	"gateway_timeout": {objects: both, results: []string{doubtful, deadDoubt}, repeat: []string{doubtful, doubtful}, meaning: braze.Failed,
		wait: waitShort, text: "HTTP 504"},
	"connection_reset_after_body": {objects: both, results: []string{doubtful, deadDoubt}, repeat: []string{doubtful, doubtful},
		meaning: braze.NoAnswer, wait: waitShort, text: "the call was sent and not answered"},
	"connection_refused": {objects: both, results: []string{notTaken, notTaken}, meaning: braze.Unsent, wait: waitShort,
		text: "Braze cannot be reached"},
	"timeout_30s": {objects: both, results: []string{doubtful, deadDoubt}, repeat: []string{doubtful, doubtful}, meaning: braze.NoAnswer,
		wait: waitShort, text: "no answer in time"},
	"identify_success": {objects: oneAttribute, results: []string{done}},
}

// Every answer that is known leads to what is written beside it, from a real server.
func TestKnownAnswers(t *testing.T) {
	all := lines(t)
	if len(all) != 27 || len(expected) != len(all) {
		t.Fatalf("%d lines and %d expectations, want 27", len(all), len(expected))
	}
	for _, l := range all {
		t.Run(l.Name, func(t *testing.T) {
			w, ok := expected[l.Name]
			if !ok {
				t.Fatalf("no expectation for: %s", l.Expect)
			}
			checkLine(t, l, w, false)
			if w.repeat != nil {
				w.results = w.repeat
				checkLine(t, l, w, true)
			}
		})
	}
}

func checkLine(t *testing.T, l line, w what, repeatEvents bool) {
	t.Helper()
	c := client(t, play(t, l), func(c *braze.Config) {
		c.RepeatEvents = repeatEvents
		if l.Name == "timeout_30s" {
			c.Timeout = 50 * time.Millisecond
		}
	})
	results, v := track(t, c, w.objects...)
	for i, r := range results {
		want := strings.SplitN(w.results[i], "|", 3)
		if string(r.Outcome) != want[0] || string(r.Cause) != want[1] || !strings.Contains(r.Reason, want[2]) {
			t.Errorf("object %d: %+v, want %s", i, r, w.results[i])
		}
		if (r.Outcome == braze.Done) != (r.Reason == "") {
			t.Errorf("object %d: %s with the reason %q", i, r.Outcome, r.Reason)
		}
	}
	if w.meaning == "" {
		w.meaning = braze.Taken
	}
	if v.Meaning != w.meaning || v.Wait != w.wait || !strings.Contains(v.Text, w.text) || (v.Text == "") != (w.meaning == braze.Taken) {
		t.Errorf("verdict %+v, want %s, %+v, %q", v, w.meaning, w.wait, w.text)
	}
	if unattributed := strings.Join(v.Unattributed, "|"); unattributed != w.unattributed {
		t.Errorf("unattributed %q, want %q", unattributed, w.unattributed)
	}
	if calls := max(w.calls, 1); v.Calls != calls {
		t.Errorf("%d calls, want %d", v.Calls, calls)
	}
	if l.Status != nil && v.Status != *l.Status {
		t.Errorf("status %d, want %d", v.Status, *l.Status)
	}
	if v.Key != braze.Fingerprint(theKey) {
		t.Errorf("key %q", v.Key)
	}
}

// play starts what gives the line's answer, and returns its URL.
func play(t *testing.T, l line) string {
	t.Helper()
	if l.Name == "connection_refused" {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		listener.Close()
		return "http://" + listener.Addr().String()
	}
	release := make(chan struct{})
	s := serve(t, func(_ int, _ body, w http.ResponseWriter) {
		switch {
		case l.Name == "timeout_30s":
			<-release
		case l.Status == nil:
			reset(t, w)
		default:
			w.Header().Set("Date", time.Unix(1795600000, 0).UTC().Format(http.TimeFormat)) // the resets of the lines count from here
			for k, v := range l.Headers {
				w.Header().Set(k, v)
			}
			w.WriteHeader(*l.Status)
			if l.Body != nil {
				_, _ = w.Write([]byte(*l.Body))
			}
		}
	})
	t.Cleanup(func() { close(release) }) // before the server's own, which waits for its calls
	return s.URL
}

// reset cuts a call's connection.
func reset(t *testing.T, w http.ResponseWriter) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		t.Errorf("hijack: %v", err)
		return
	}
	if err := conn.(*net.TCPConn).SetLinger(0); err != nil {
		t.Errorf("linger: %v", err)
	}
	conn.Close()
}

// What no line has: other statuses, other bodies, odd headers.
func TestOtherAnswers(t *testing.T) {
	const date = "Thu, 26 Nov 2026 10:00:00 GMT"
	at := time.Date(2026, 11, 26, 10, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		name    string
		status  int
		header  map[string]string
		body    string
		meaning braze.Meaning
		wait    braze.Wait
		text    string
	}{
		{"no plan", 403, nil, `{"message":"Access Denied"}`, braze.Denied, waitDenied, "HTTP 403: Access Denied: check that the plan"},
		{"redirect", 302, map[string]string{"Location": "https://elsewhere.example/users/track"}, "", braze.Denied, waitDenied, "a redirect, not followed"},
		{"permanent redirect", 308, map[string]string{"Location": "/"}, "<html>", braze.Denied, waitDenied, "a redirect, not followed"},
		{"not modified", 304, nil, "", braze.Denied, waitDenied, "HTTP 304"},
		{"method", 405, nil, "<h1>no</h1>", braze.Denied, waitDenied, "HTTP 405: unexpected of Braze; check URL"},
		{"proxy", 407, nil, "", braze.Denied, waitDenied, "HTTP 407"},
		{"request timeout", 408, nil, "", braze.Failed, waitShort, "HTTP 408"},
		{"too early", 425, nil, "", braze.Failed, waitShort, "HTTP 425"},
		{"bad gateway", 502, nil, "<html>Bad Gateway</html>", braze.Failed, waitShort, "HTTP 502"},
		{"its own status", 598, nil, `{"message":"Host Unhealthy"}`, braze.Failed, waitShort, "HTTP 598: Host Unhealthy"},
		{"portal", 200, nil, "<html>Please sign in</html>", braze.Failed, waitShort, "is URL a Braze REST endpoint?"},
		{"another service", 200, nil, `{"status":"ok"}`, braze.Failed, waitShort, "is URL a Braze REST endpoint?"},
		{"empty object", 201, nil, `{}`, braze.Failed, waitShort, "the body is not Braze's"},
		{"an error under 200", 200, nil, `{"message":"Invalid API Key"}`, braze.Failed, waitShort, "the body is not Braze's"},
		{"array", 201, nil, `["success"]`, braze.Failed, waitShort, "the body is not Braze's"},
		{"half an answer", 201, nil, `{"message":"succ`, braze.Failed, waitShort, "the body is not Braze's"},
		{"counters only", 201, nil, `{"attributes_processed":1}`, braze.Taken, braze.Wait{}, ""},
		{"message in capitals", 201, nil, `{"message":"SUCCESS"}`, braze.Taken, braze.Wait{}, ""},
		{"message twice", 201, nil, `{"message":"success","message":"queued"}`, braze.Taken, braze.Wait{}, ""},
		{"errors null", 201, nil, `{"message":"success","errors":null}`, braze.Taken, braze.Wait{}, ""},
		{"reset now", 429, map[string]string{"X-RateLimit-Reset": unix(at)}, "", braze.Limited, limited(time.Second), "429"},
		{"reset gone by", 429, map[string]string{"X-RateLimit-Reset": unix(at.Add(-time.Hour))}, "", braze.Limited, limited(time.Second), "429"},
		{"reset in fractions", 429, map[string]string{"X-RateLimit-Reset": unix(at.Add(7*time.Second)) + ".0"}, "", braze.Limited, limited(7 * time.Second), "429"},
		{"reset in ms", 429, map[string]string{"X-RateLimit-Reset": unix(at) + "000"}, "", braze.Limited, waitLimit, "429"},
		{"reset is text", 429, map[string]string{"X-RateLimit-Reset": "soon"}, "", braze.Limited, waitLimit, "429"},
		{"reset NaN", 429, map[string]string{"X-RateLimit-Reset": "NaN"}, "", braze.Limited, waitLimit, "429"},
		{"429 with retry-after", 429, map[string]string{"Retry-After": "17"}, "", braze.Limited, limited(17 * time.Second), "429"},
		{"429 with both", 429, map[string]string{"Retry-After": "17", "X-RateLimit-Reset": unix(at.Add(9 * time.Second))}, "", braze.Limited,
			limited(9 * time.Second), "429"},
		{"retry-after a date", 503, map[string]string{"Retry-After": at.Add(20 * time.Second).Format(http.TimeFormat)}, "", braze.Failed,
			failed(20 * time.Second), "503"},
		{"retry-after a day", 503, map[string]string{"Retry-After": "86400"}, "", braze.Failed, failed(time.Minute), "503"},
		{"retry-after 0", 503, map[string]string{"Retry-After": "0"}, "", braze.Failed, failed(time.Second), "503"},
		{"retry-after below 0", 503, map[string]string{"Retry-After": "-5"}, "", braze.Failed, waitShort, "503"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := serve(t, func(_ int, _ body, w http.ResponseWriter) {
				w.Header().Set("Date", date)
				for k, v := range c.header {
					w.Header().Set(k, v)
				}
				answer(w, c.status, c.body)
			})
			_, v := track(t, client(t, s.URL), attribute("a"))
			if v.Meaning != c.meaning || v.Wait != c.wait || !strings.Contains(v.Text, c.text) || v.Status != c.status || v.Calls != 1 {
				t.Errorf("%+v, want %s, %+v, %q", v, c.meaning, c.wait, c.text)
			}
		})
	}
}

// Without the answer's own time a limit's end is counted by this machine's clock.
func TestResetWithoutDate(t *testing.T) {
	for wait, want := range map[time.Duration][2]time.Duration{
		30 * time.Second: {20 * time.Second, 30 * time.Second},
		-time.Hour:       {time.Second, time.Second},
		time.Hour:        {time.Minute, time.Minute},
	} {
		s := serve(t, func(_ int, _ body, w http.ResponseWriter) {
			w.Header()["Date"] = nil
			w.Header().Set("X-RateLimit-Reset", unix(time.Now().Add(wait)))
			answer(w, 429, "")
		})
		if _, v := track(t, client(t, s.URL), attribute("a")); v.Wait.For < want[0] || v.Wait.For > want[1] {
			t.Errorf("reset in %s: wait %s, want between %s and %s", wait, v.Wait.For, want[0], want[1])
		}
	}
}

func unix(at time.Time) string {
	b, _ := json.Marshal(at.Unix())
	return string(b)
}

// Errors of objects in forms that nobody has seen are no reason to fail, and never make an object dead that they do not name.
func TestErrorsInAnyForm(t *testing.T) {
	for _, c := range []struct {
		errors       string
		want         []string // of two events
		unattributed []string
	}{
		{`[{"type":"bad","input_array":"events","index":1}]`, []string{"done", "dead refused"}, nil},
		{`[{"type":"bad","input_array":"events","index":"1"}]`, []string{"done", "dead refused"}, nil},
		{`[{"type":{"a":1},"input_array":"events","index":1}]`, []string{"done", "dead refused"}, nil},
		{`[{"type":"bad","input_array":"events"}]`, []string{"done", "done"}, []string{"bad"}},
		{`[{"type":"bad","index":1}]`, []string{"done", "done"}, []string{"bad"}},
		{`[{"type":"bad","input_array":"attributes","index":1}]`, []string{"done", "done"}, []string{"bad (of attributes 1, which was not sent)"}},
		{`[{"type":"bad","input_array":"events","index":2}]`, []string{"done", "done"}, []string{"bad (of events 2, which was not sent)"}},
		{`[{"type":"bad","input_array":"events","index":-1}]`, []string{"done", "done"}, []string{"bad"}},
		{`[{"type":"bad","input_array":"events","index":1.5}]`, []string{"done", "done"}, []string{"bad"}},
		{`[{"type":"bad","input_array":"events","index":null}]`, []string{"done", "done"}, []string{"bad"}},
		{`[{"type":"bad","input_array":7,"index":1}]`, []string{"done", "done"}, []string{"bad"}},
		{`[{}]`, []string{"done", "done"}, []string{"an error in an unknown form"}},
		{`[null,7,["x"]]`, []string{"done", "done"}, []string{"an error in an unknown form", "an error in an unknown form", "an error in an unknown form"}},
		{`"a text"`, []string{"done", "done"}, []string{"a text"}},
		{`{"type":"bad","input_array":"events","index":0}`, []string{"dead refused", "done"}, nil},
		{`{"events":["bad"]}`, []string{"done", "done"}, []string{"an error in an unknown form"}},
		{`[]`, []string{"done", "done"}, nil},
		{`false`, []string{"done", "done"}, []string{"an error in an unknown form"}},
	} {
		s := serve(t, always(201, `{"message":"success","errors":`+c.errors+`}`))
		results, v := track(t, client(t, s.URL), twoEvents...)
		got := []string{strings.TrimSpace(string(results[0].Outcome + " " + braze.Outcome(results[0].Cause))),
			strings.TrimSpace(string(results[1].Outcome + " " + braze.Outcome(results[1].Cause)))}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s: results (-want +got):\n%s", c.errors, diff)
		}
		if diff := cmp.Diff(c.unattributed, v.Unattributed); diff != "" {
			t.Errorf("%s: unattributed (-want +got):\n%s", c.errors, diff)
		}
	}
}

// Several errors of one object become one reason, and a count that does not add up is told.
func TestManyErrorsAndCounts(t *testing.T) {
	s := serve(t, always(201, `{"message":"success","attributes_processed":0,"events_processed":7,"errors":[
		{"type":"one","input_array":"events","index":0},{"type":"two","input_array":"events","index":0},
		{"type":"three","input_array":"events","index":0},{"type":"four","input_array":"events","index":0}]}`))
	results, v := track(t, client(t, s.URL), both...)
	if want := "one; two; three; 1 more"; results[1].Reason != want {
		t.Errorf("reason %q, want %q", results[1].Reason, want)
	}
	if diff := cmp.Diff([]string{"Braze processed 0 of 1 attributes"}, v.Unattributed); diff != "" {
		t.Errorf("unattributed (-want +got):\n%s", diff)
	}
}

// An answer of any size is read up to a bound, and one that breaks off is judged by what came of it.
func TestLongAndBrokenAnswers(t *testing.T) {
	long := serve(t, always(201, `{"message":"success","x":"`+strings.Repeat("x", 2<<20)+`"}`))
	if _, v := track(t, client(t, long.URL), attribute("a")); v.Meaning != braze.Failed {
		t.Errorf("an answer without end: %+v", v)
	}
	broken := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "100")
		_, _ = w.Write([]byte(success))
	}))
	defer broken.Close()
	if _, v := track(t, client(t, broken.URL), attribute("a")); v.Meaning != braze.Taken {
		t.Errorf("an answer that is whole without its last bytes: %+v", v)
	}
}
