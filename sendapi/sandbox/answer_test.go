package sandbox

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// dial opens a connection of its own to the simulated Graph API.
func (r *rig) dial() net.Conn {
	r.t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(r.URL(), "http://"))
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { conn.Close() })
	deadline, _ := within(r.t).Deadline()
	if err := conn.SetDeadline(deadline); err != nil {
		r.t.Fatal(err)
	}
	return conn
}

// Callers write HTTP in many ways; all of them make the same call.
func TestWaysToSpeakHTTP(t *testing.T) {
	r := start(t, Config{})
	body := textBody("1", "hello")
	head := func(version, more string) string {
		return "POST /v26.0/me/messages?access_token=token HTTP/" + version + "\r\nHost: x\r\nContent-Type: application/json\r\n" + more + "\r\n"
	}
	length := fmt.Sprintf("Content-Length: %d\r\n", len(body))
	for _, tt := range []struct{ name, request string }{
		{"HTTP/1.1", head("1.1", length) + body},
		{"HTTP/1.0", head("1.0", length) + body},
		{"chunked", head("1.1", "Transfer-Encoding: chunked\r\n") + fmt.Sprintf("5\r\n%s\r\n%x\r\n%s\r\n0\r\n\r\n", body[:5], len(body)-5, body[5:])},
		{"closing", head("1.1", length+"Connection: close\r\n") + body},
		{"asking first", head("1.1", length+"Expect: 100-continue\r\n") + body},
		{"absolute", strings.Replace(head("1.1", length), "POST /", "POST "+r.URL()+"/", 1) + body},
	} {
		conn := r.dial()
		if _, err := io.WriteString(conn, tt.request); err != nil {
			t.Fatal(err)
		}
		in := bufio.NewReader(conn)
		resp, err := http.ReadResponse(in, nil)
		if err == nil && resp.StatusCode == http.StatusContinue {
			resp, err = http.ReadResponse(in, nil)
		}
		if err != nil || resp.StatusCode != http.StatusOK {
			t.Errorf("%s: %v, %v", tt.name, resp, err)
		}
	}
	if n := r.Delivered(pageIDFor("token"), "1", textDigest(t, "hello")); n != 6 {
		t.Errorf("delivered %d times", n)
	}
}

// Two calls in one write are two calls, answered in their order.
func TestPipelinedCalls(t *testing.T) {
	r := start(t, Config{})
	conn := r.dial()
	for _, id := range []string{"4711", "4712"} {
		body := textBody(id, "hello")
		if _, err := fmt.Fprintf(conn, "POST /me/messages?access_token=token HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", len(body), body); err != nil {
			t.Fatal(err)
		}
	}
	in := bufio.NewReader(conn)
	for _, id := range []string{"4711", "4712"} {
		resp, err := http.ReadResponse(in, nil)
		if err != nil {
			t.Fatal(err)
		}
		raw, err := io.ReadAll(resp.Body)
		if err != nil || !strings.Contains(string(raw), `"`+id+`"`) {
			t.Errorf("answer %s, %v, want that of %s", raw, err, id)
		}
	}
}

// A caller that goes away in the middle of its request has sent nothing.
func TestHalfARequest(t *testing.T) {
	r := start(t, Config{})
	conn := r.dial()
	body := textBody("1", "hello")
	if _, err := fmt.Fprintf(conn, "POST /me/messages?access_token=token HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", len(body), body[:len(body)-1]); err != nil {
		t.Fatal(err)
	}
	conn.Close()
	if err := r.wait(within(t), func(c Counts) bool { return c.Calls == 1 }); err != nil {
		t.Fatal(err)
	}
	if c := r.Calls()[0]; c.Accepted || c.Status != 400 || c.Code != 100 {
		t.Errorf("recorded as %+v", c)
	}
}

// Half an answer is the first part of the whole one.
func TestHalfAnAnswer(t *testing.T) {
	r := start(t, Config{})
	for _, action := range []Action{CutHeader, CutBody} {
		r.Script(Fault{Action: action, Accept: true})
		conn := r.dial()
		body := textBody("1", "hello")
		if _, err := fmt.Fprintf(conn, "POST /me/messages?access_token=token HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", len(body), body); err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(conn)
		if err != nil {
			t.Fatal(err)
		}
		header, rest, whole := strings.Cut(string(got), "\r\n\r\n")
		if !strings.HasPrefix(header, "HTTP/1.1 200 OK\r\n") || whole != (action == CutBody) {
			t.Errorf("%s: %q", action, got)
		}
		if action == CutBody && (!strings.HasPrefix(rest, `{"`) || json.Valid([]byte(rest))) {
			t.Errorf("%s: body %q", action, rest)
		}
	}
}

// A ceiling blocks as its comment says, compared with a slow and simple implementation.
func TestCeilingIsAsDocumented(t *testing.T) {
	rnd := rand.New(rand.NewPCG(5, 6))
	for range 50 {
		rate, block := 1+rnd.IntN(20), time.Duration(rnd.IntN(3000))*time.Millisecond
		l := ceiling{rate: rate, block: block}
		var times []time.Duration
		now, until := time.Duration(0), time.Duration(0)
		for range 300 {
			now += time.Duration(rnd.Int64N(int64(2 * time.Second / time.Duration(rate))))
			times = append(times, now)
			n := inLastSecond(times)
			want := limitVerdict{percent: 100 * n / rate}
			if n > rate || now < until {
				until = now + block
				want.refused, want.left = true, block
			}
			if got := l.take(now); got != want {
				t.Fatalf("rate %d, block %s, at %s: %+v, want %+v", rate, block, now, got, want)
			}
		}
	}
}

// Persons are people with a PSID, on every page and in every encoding; a token or a comment that looks like one is not.
func TestPersonsAreKnownByTheirPSID(t *testing.T) {
	r := start(t, Config{Pages: []Page{{ID: "10", Token: "token"}, {ID: "20", Token: "other"}}})
	const away = "400 551/1545041"
	for _, tt := range []struct{ name, path, contentType, body, want string }{
		{"by me", "/me/messages?access_token=token", jsonBody, textBody("9000000551", "x"), away},
		{"by page", "/v26.0/20/messages?access_token=other", jsonBody, textBody("900000055199", "x"), away},
		{"number", "/me/messages?access_token=token", jsonBody, recipient(`{"id":9000000551}`), away},
		{"form", "/me/messages?access_token=token", formBody, `recipient={"id":"9000000551"}&message={"text":"x"}`, away},
		{"sender action", "/me/messages?access_token=token", jsonBody, `{"recipient":{"id":"9000000551"},"sender_action":"typing_on"}`, away},
		{"user_ref", "/me/messages?access_token=token", jsonBody, recipient(`{"user_ref":"9000000551"}`), "200"},
		{"comment", "/me/messages?access_token=token", jsonBody, recipient(`{"comment_id":"9000000551"}`), "200"},
		{"digits within", "/me/messages?access_token=token", jsonBody, textBody("19000000551", "x"), "200"},
		{"too short", "/me/messages?access_token=token", jsonBody, textBody("900000055", "x"), "200"},
	} {
		if rep, err := r.do(r.request(tt.path, tt.contentType, tt.body)); err != nil || rep.code() != tt.want {
			t.Errorf("%s: %s, %v, want %s", tt.name, rep.raw, err, tt.want)
		}
	}
}
