package sandbox

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestSummary(t *testing.T) {
	r := start(t, Config{})
	page := pageIDFor("token")
	for _, id := range []string{"1", "1", "1", "2", "9000000551", "9000000551", "9000000502", "9000000046"} {
		r.send(id, "hello")
	}
	_, _ = r.trySend("9000000444", "hello") // accepted, answer lost
	_, _ = r.trySend("9000000445", "hello") // cut
	if _, err := r.do(r.request("/me/messages?access_token=token", jsonBody, `{"recipient":{"id":"1"},"sender_action":"typing_on"}`)); err != nil {
		t.Fatal(err)
	}
	if _, err := r.do(r.request("/me/messages", jsonBody, `{}`)); err != nil { // of no page
		t.Fatal(err)
	}
	sum := r.Summary()
	want := Counts{Calls: 12, Accepted: 6, Actions: 1, Refused: 4, Dropped: 1, Duplicates: 2, Lost: 2}
	if diff := cmp.Diff(want, sum.Counts); diff != "" {
		t.Errorf("counts (-want +got):\n%s", diff)
	}
	if sum.Calls != sum.Accepted+sum.Actions+sum.Refused+sum.Dropped || sum.distinct() != 4 {
		t.Errorf("counts do not add up: %+v", sum.Counts)
	}
	if diff := cmp.Diff(map[string]int{"551/1545041": 2, "http 502": 1, "2500": 1}, sum.RefusedBy); diff != "" {
		t.Errorf("refused (-want +got):\n%s", diff)
	}
	if p := sum.Pages[page]; p.Calls != 11 || p.RefusedBy["2500"] != 0 || p.First.After(p.Last) || p.First.IsZero() {
		t.Errorf("page: %+v", p)
	}
	dups := []Duplicate{{Page: page, Recipient: "1", Body: textDigest(t, "hello"), Times: 3}}
	if diff := cmp.Diff(dups, r.Duplicates()); diff != "" {
		t.Errorf("duplicates (-want +got):\n%s", diff)
	}
	r.resetRecord()
	if sum := r.Summary(); sum.Counts != (Counts{}) || len(r.Calls()) != 0 || r.Delivered(page, "1", textDigest(t, "hello")) != 0 {
		t.Errorf("after the reset: %+v", sum)
	}
}

func TestFind(t *testing.T) {
	r := start(t, Config{Pages: []Page{{ID: "10", Token: "token"}, {ID: "20", Token: "other"}}})
	for i := range 6 {
		r.setClock(time.Duration(i) * time.Second)
		token := []string{"token", "other"}[i%2]
		if _, err := r.do(r.request("/me/messages", jsonBody, textBody(fmt.Sprint(7000+i/2), "x"), "Authorization", "Bearer "+token)); err != nil {
			t.Fatal(err)
		}
	}
	at := r.start.Add(3 * time.Second)
	for name, tt := range map[string]struct {
		q    Query
		want []int64
	}{
		"all":       {Query{}, []int64{1, 2, 3, 4, 5, 6}},
		"page":      {Query{Page: "20"}, []int64{2, 4, 6}},
		"recipient": {Query{Recipient: "7001"}, []int64{3, 4}},
		"since":     {Query{Since: at}, []int64{4, 5, 6}},
		"limit":     {Query{Limit: 2}, []int64{5, 6}},
		"together":  {Query{Page: "10", Since: at.Add(-2 * time.Second), Limit: 1}, []int64{5}},
		"nobody":    {Query{Recipient: "700"}, nil},
		"never":     {Query{Since: at.Add(time.Hour)}, nil},
	} {
		var got []int64
		for _, c := range r.Find(tt.q) {
			got = append(got, c.Seq)
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	if calls := r.DeliveredTo("10", "7002"); len(calls) != 1 || calls[0].Seq != 5 || calls[0].MessageID == "" {
		t.Errorf("delivered: %+v", calls)
	}
}

// The record drops the oldest calls; counts and deliveries stay exact.
func TestRecordIsBounded(t *testing.T) {
	p := &page{Page: Page{ID: "10"}, origin: "10"}
	for _, limit := range []int{1, 10, chunkSize, chunkSize + 1, 3*chunkSize - 1} {
		r := newRecord(limit)
		const n = 5 * chunkSize
		for i := range n {
			r.add(entry{page: p, recipient: fmt.Sprint(i), flags: flagAccepted, status: 200})
			kept := 0
			if i == n-1 || i%777 == 0 {
				for e := range r.newestFirst() {
					if want := fmt.Sprint(i - kept); e.recipient != want {
						t.Fatalf("limit %d: entry %d is %s, want %s", limit, kept, e.recipient, want)
					}
					kept++
				}
				if want := min(limit, i+1); kept != want || r.forgotten != i+1-want {
					t.Fatalf("limit %d after %d: keeps %d, forgot %d", limit, i+1, kept, r.forgotten)
				}
			}
		}
		if len(r.chunks) > limit/chunkSize+2 {
			t.Errorf("limit %d: %d chunks", limit, len(r.chunks))
		}
		if r.total.Accepted != n || r.delivered[newMessageKey("10", "0", Digest{})] != 1 {
			t.Errorf("limit %d: counts %+v", limit, r.total.Counts)
		}
	}
}

func TestMessageDigest(t *testing.T) {
	same := []string{`{"text":"é","metadata":"1"}`, `{ "metadata" : "1", "text" : "\u00e9" }`, "{\"metadata\":\"1\",\n\"text\":\"é\"}"}
	var first Digest
	for i, m := range same {
		d, err := MessageDigest([]byte(m))
		if err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			first = d
		}
		if d != first {
			t.Errorf("%s has another digest", m)
		}
	}
	if d, _ := MessageDigest([]byte(`{"text":"e","metadata":"1"}`)); d == first {
		t.Error("another text has the same digest")
	}
	for _, bad := range []string{``, `null`, `[]`, `{`, `{} {}`, `"x"`} {
		if _, err := MessageDigest([]byte(bad)); err == nil {
			t.Errorf("%q has a digest", bad)
		}
	}
	var back Digest
	j, err := json.Marshal(first)
	if err != nil || json.Unmarshal(j, &back) != nil || back != first {
		t.Errorf("digest over JSON: %s, %v, %v", j, back, err)
	}
	if json.Unmarshal([]byte(`"abc"`), &back) == nil {
		t.Error("half a digest taken")
	}
}

func TestWaitEndsWithItsContext(t *testing.T) {
	r := start(t, Config{})
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := r.wait(ctx, func(Counts) bool { return false }); err != context.Canceled {
		t.Errorf("Wait: %v", err)
	}
	if err := r.wait(ctx, func(c Counts) bool { return c.Calls == 0 }); err != nil {
		t.Errorf("Wait for what is: %v", err)
	}
}

// Nothing that the sandbox returns contains a token, a secret or a message text.
func TestKeepsSecrets(t *testing.T) {
	const token, secret, text = "swordfish-token", "swordfish-secret", "swordfish-text"
	r := start(t, Config{Pages: []Page{{ID: "10", Token: token, AppSecret: secret}}})
	for _, path := range []string{"/me/messages", "/me/messages?access_token=" + token, "/" + token + "/messages", "/me/" + token, "/" + token} {
		for _, body := range []string{textBody("1", text), `{"` + text, `{"recipient":"` + token + `","access_token":"` + token + `","message":"` + text + `"}`} {
			rep, err := r.do(r.request(path, jsonBody, body))
			if err != nil {
				t.Fatal(err)
			}
			if s := rep.raw + fmt.Sprint(rep.header); strings.Contains(s, "swordfish") {
				t.Errorf("answer: %s", s)
			}
		}
	}
	r.Script(Fault{Code: 2, Times: Standing})
	out := r.Banner() + r.Help() + fmt.Sprintf("%+v %+v %+v %+v", r.Calls(), r.Summary(), r.Duplicates(), r.faultStates())
	for _, path := range []string{"/", "/summary", "/calls", "/duplicates", "/pages", "/faults"} {
		status, body := r.control("GET", path, "")
		if status != 200 {
			t.Errorf("%s: %d", path, status)
		}
		out += body
	}
	for _, path := range []string{"/pages/10/token", "/pages/11/token", "/faults", "/latency"} {
		_, body := r.control("POST", path, `{"token":"`+token+`"}`)
		out += body
	}
	if i := strings.Index(out, "swordfish"); i >= 0 {
		t.Errorf("gives out …%s", out[max(0, i-80):min(len(out), i+40)])
	}
}
