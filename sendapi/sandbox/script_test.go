package sandbox

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// TestScriptIsAsDocumented compares random scripts with what the comments of Fault promise: of several faults that match a call, the
// first scripted strikes; one counts the calls that it sees, strikes every Nth of them, and is used up after Times.
func TestScriptIsAsDocumented(t *testing.T) {
	rnd := rand.New(rand.NewPCG(11, 13))
	pick := func(from ...string) string { return from[rnd.IntN(len(from))] }
	for round := range 200 {
		s := newSandbox(Config{})
		script := make([]Fault, 1+rnd.IntN(5))
		for i := range script {
			script[i] = Fault{Code: i + 1, Page: pick("", "", "10", "20"), Recipient: pick("", "", "7", "77", "8"), Text: pick("", "", "hello", "vip"),
				Every: rnd.IntN(4), Times: []int{0, 1, 3, Standing}[rnd.IntN(4)]}
			s.Script(script[i])
		}
		seen, hits := make([]int, len(script)), make([]int, len(script))
		for range 60 {
			page, to, text := pick("10", "20"), pick("7", "771", "8"), pick("hello", "a vip", "hello vip")
			want := 0
			for i, f := range script {
				matches := (f.Page == "" || f.Page == page) && strings.HasPrefix(to, f.Recipient) && strings.Contains(text, f.Text)
				if !matches || f.Times != Standing && hits[i] >= max(f.Times, 1) {
					continue
				}
				seen[i]++
				if seen[i]%max(f.Every, 1) == 0 {
					hits[i]++
					want = f.Code
					break
				}
			}
			got := 0
			if a := s.strike(false, page, &send{recipient: to, message: map[string]any{"text": text}}); a != nil {
				got = a.fault.Code
			}
			if got != want {
				t.Fatalf("round %d: fault %d struck, want %d: %+v", round, got, want, script)
			}
		}
		for i, f := range s.faultStates() {
			if f.seen != seen[i] || f.hits != hits[i] {
				t.Errorf("round %d: fault %d saw %d and struck %d, want %d and %d", round, i+1, f.seen, f.hits, seen[i], hits[i])
			}
		}
	}
}

// A fault scripted over the control listener is the fault that the library would have been given, and is shown as it was given.
func TestControlFaultsAreFaults(t *testing.T) {
	r := start(t, Config{})
	given := `{"page":"10","recipient":"77","text":"vip","every":3,"times":-1,"accept":true,"delay":"1.5s","status":503,"code":2,"subcode":9,` +
		`"type":"T","message":"m","is_transient":false,"header":{"Retry-After":"7"},"body":"b","action":"answer"}`
	if status, body := r.control("POST", "/faults", given); status != 200 {
		t.Fatal(body)
	}
	want := Fault{Page: "10", Recipient: "77", Text: "vip", Every: 3, Times: Standing, Action: Answer, Accept: true, Delay: 1500 * time.Millisecond, Status: 503,
		Code: 2, Subcode: 9, Type: "T", Message: "m", Transient: new(false), Header: http.Header{"Retry-After": {"7"}}, Body: "b"}
	if diff := cmp.Diff(want, r.faultStates()[0].fault, cmpopts.IgnoreFields(Fault{}, "OnHit")); diff != "" {
		t.Errorf("scripted (-want +got):\n%s", diff)
	}
	_, body := r.control("GET", "/faults", "")
	var list []struct{ Fault json.RawMessage }
	if err := json.Unmarshal([]byte(body), &list); err != nil || len(list) != 1 {
		t.Fatalf("%s: %v", body, err)
	}
	var shown, scripted any
	if json.Unmarshal(list[0].Fault, &shown) != nil || json.Unmarshal([]byte(given), &scripted) != nil {
		t.Fatal(body)
	}
	if diff := cmp.Diff(scripted, shown); diff != "" {
		t.Errorf("shown (-want +got):\n%s", diff)
	}
}

// The control listener reports what the library reports: calls, counts, duplicates, recipients.
func TestControlTellsTheRecord(t *testing.T) {
	r := start(t, Config{Pages: []Page{{ID: "10", Token: "token"}, {ID: "20", Token: "other"}}})
	for _, id := range []string{"71", "72", "71", "9000000551", "9000000046"} {
		r.send(id, "hello")
	}
	_, _ = r.trySend("9000000444", "hello")
	if _, err := r.do(r.request("/me/messages?access_token=other", jsonBody, toOne(`"sender_action":"typing_on"`))); err != nil {
		t.Fatal(err)
	}
	get := func(path string, v any) {
		t.Helper()
		status, body := r.control("GET", path, "")
		if err := json.Unmarshal([]byte(body), v); status != 200 || err != nil {
			t.Fatalf("%s: %d %v", path, status, err)
		}
	}
	var calls []Call
	get("/calls", &calls)
	same := cmp.Comparer(func(a, b time.Time) bool { return a.Equal(b) })
	if diff := cmp.Diff(r.Calls(), calls, same); diff != "" {
		t.Errorf("calls (-library +control):\n%s", diff)
	}
	var one []Call
	get("/calls?page=10&recipient=71&limit=1", &one)
	if diff := cmp.Diff(r.Find(Query{Page: "10", Recipient: "71", Limit: 1}), one, same); diff != "" {
		t.Errorf("one call (-library +control):\n%s", diff)
	}
	var sum Summary
	get("/summary", &sum)
	if diff := cmp.Diff(r.Summary(), sum, same); diff != "" {
		t.Errorf("summary (-library +control):\n%s", diff)
	}
	var dups []Duplicate
	get("/duplicates", &dups)
	if diff := cmp.Diff(r.Duplicates(), dups); diff != "" {
		t.Errorf("duplicates (-library +control):\n%s", diff)
	}
	_, recipients := r.control("GET", "/recipients", "")
	if got, want := strings.Fields(recipients), []string{"71", "72", "71", "9000000046", "9000000444"}; !slices.Equal(got, want) {
		t.Errorf("recipients %q, want %q", got, want)
	}
}

// The checks come in a fixed order (see the package comment): token, page, limits, request, script, recipient.
func TestOrderOfChecks(t *testing.T) {
	r := start(t, Config{Pages: []Page{{ID: "10", Token: "ten", Rate: 2, Block: time.Hour}, {ID: "20", Token: "twenty"}}})
	r.setClock(time.Second)
	const wrong, person = `{"recipient":{"id":"PSID"},"message":{}}`, "9000000551"
	step := func(name, path, token, body, want string) {
		t.Helper()
		rep, err := r.do(r.request(path, jsonBody, body, "Authorization", "Bearer "+token))
		if err != nil || !slices.Contains(strings.Split(want, "|"), rep.code()) {
			t.Errorf("%s: %s, %v, want %s", name, rep.raw, err, want)
		}
	}
	r.Script(Fault{Code: 1200, Times: Standing, Recipient: person})
	step("path before token", "/me/feed", "nobody's", wrong, "400 2500/0")
	step("token before page", "/20/messages", "nobody's", wrong, "400 190/0|401 190/0")
	step("page before request", "/20/messages", "ten", wrong, "400 100/33")
	step("request before script", "/me/messages", "ten", wrong, "400 100/0")
	step("script before recipient", "/me/messages", "ten", textBody(person, "x"), "400 1200/0")
	if err := r.Restrict("20", 368, 0); err != nil {
		t.Fatal(err)
	}
	step("restriction before request", "/me/messages", "twenty", wrong, "400 368/0")
	rep, err := r.do(r.request("/me/messages", jsonBody, wrong, "Authorization", "Bearer ten"))
	if err != nil || !slices.Contains([]string{"400 613/0", "400 80006/0", "400 32/0"}, rep.code()) {
		t.Errorf("limits before request: %s, %v", rep.raw, err)
	}
	if err := r.KillToken("20", 463); err != nil {
		t.Fatal(err)
	}
	step("token before restriction", "/me/messages", "twenty", wrong, "400 190/463")
}

// Everything can be queried and changed while calls come in. Run with -race.
func TestControlUnderLoad(t *testing.T) {
	r := start(t, Config{AnyPage: Page{Rate: 1000}, RecordLimit: 500})
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					_, _ = r.trySend(fmt.Sprint(70+i), "x")
				}
			}
		})
	}
	for i := range 30 {
		seen := r.Counts().Calls
		if err := r.wait(within(t), func(c Counts) bool { return c.Calls > seen }); err != nil {
			t.Fatal(err)
		}
		id := r.Script(Fault{Action: []Action{Answer, Reset, Pass}[i%3], Code: []int{613, 0, 0}[i%3], Recipient: "71", Times: 3})
		page := pageIDFor("token")
		for what, err := range map[string]error{
			"kill": r.KillToken(page, 463), "heal": r.SetToken(page, "token"), "restrict": r.Restrict(page, 368, 0), "lift": r.Restrict(page, 0, 0),
			"latency": r.setLatency(time.Microsecond, 0),
		} {
			if err != nil {
				t.Errorf("%s: %v", what, err)
			}
		}
		for _, path := range []string{"/summary", "/calls?limit=3", "/duplicates", "/pages", "/faults", "/recipients", "/"} {
			if status, body := r.control("GET", path, ""); status != 200 {
				t.Errorf("%s: %d %s", path, status, body)
			}
		}
		r.Clear(id)
	}
	close(stop)
	wg.Wait()
	sum := r.Summary()
	if sum.Calls != sum.Accepted+sum.Actions+sum.Refused+sum.Dropped || sum.Calls-sum.Forgotten != min(sum.Calls, 500) {
		t.Errorf("counts do not add up: %+v", sum)
	}
}
