package sandbox

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// A caller that is gone before its body is whole has made no call.
func TestCallerGoneInTheBody(t *testing.T) {
	r := start(t, Config{})
	r.make("a")
	host := strings.TrimPrefix(r.url, "http://")
	for range 3 {
		conn, err := net.Dial("tcp", host)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(conn, "POST /users/track HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer key\r\nContent-Type: application/json\r\n"+
			"Content-Length: 1000\r\n\r\n%s", host, attributes(attribute("a", `"x":1`)))
		if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
			t.Fatal(err)
		}
		_, _ = conn.Read(make([]byte, 1)) // until the sandbox has closed it
		conn.Close()
	}
	r.taken(attributes(attribute("a", `"x":2`)))
	if sum := r.Summary(); sum.Calls != 1 || sum.Attributes != 1 {
		t.Errorf("%+v", sum)
	}
}

// Over HTTP/2 a call is cut alone, since its connection is others' too.
func TestFaultsOverHTTP2(t *testing.T) {
	s, err := New(Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	server := httptest.NewUnstartedServer(s)
	server.EnableHTTP2 = true
	server.StartTLS()
	defer server.Close()
	r := &rig{s, t, server.URL, server.Client()}
	r.make("a")
	for _, action := range []Action{Reset, ResetEarly, CutBody, Hang} {
		f := Fault{Action: action, Accept: action != ResetEarly}
		if action == Hang {
			f.Delay = 1
		}
		r.Script(f)
		if got, err := r.do(r.request(attributes(attribute("a", `"x":1`)))); err == nil {
			t.Errorf("%s: %+v", action, got)
		}
		got := r.post(attributes(attribute("a", `"x":1`)))
		if got.status != 201 || got.header.Get("X-RateLimit-Remaining") == "" {
			t.Errorf("after %s: %+v", action, got)
		}
	}
	if sum := r.Summary(); sum.Statuses[0] != 4 || sum.Statuses[201] != 4 || sum.Attributes != 7 {
		t.Errorf("%+v", sum)
	}
}

// ResetEarly needs no key and no body, and uses up nobody's limit.
func TestResetEarlyComesFirst(t *testing.T) {
	r := start(t, Config{Keys: []string{"key"}, Hourly: 1, Burst: Off})
	r.Script(Fault{Action: ResetEarly, Every: 2, Times: 2})
	for i, want := range []int{401, 0, 201, 0, 429} {
		key := "key"
		if i == 0 {
			key = "wrong"
		}
		req := r.request(attributes(attribute("a", `"x":1`)), "Authorization", "Bearer "+key)
		req.Close = true
		if got, err := r.do(req); (err != nil) != (want == 0) || got.status != want {
			t.Errorf("call %d: %d, %v, want %d", i+1, got.status, err, want)
		}
	}
	calls := r.Calls()
	if calls[1].Status != 0 || calls[1].Fault != "f1" || calls[1].UserAgent == "" || calls[1].Written {
		t.Errorf("%+v", calls[1])
	}
}

// Many callers at once, each with users of its own, and a script that hits some of them: what the callers were told is what the
// profiles and the record say.
func TestManyCallers(t *testing.T) {
	const callers, each = 8, 40
	r := start(t, Config{Hourly: Off, Burst: Off})
	r.client.Transport.(*http.Transport).MaxIdleConnsPerHost = callers
	for i := range callers {
		r.make(fmt.Sprint("u", i))
	}
	r.Script(Fault{Status: 500, Every: 5, Times: Standing})
	r.Script(Fault{Status: 503, Accept: true, Every: 7, Times: Standing})
	var mu sync.Mutex
	told := map[int]int{}
	var wg sync.WaitGroup
	for i := range callers {
		wg.Go(func() {
			for range each {
				id := fmt.Sprint("u", i)
				got, err := r.do(r.request(`{"attributes":[` + attribute(id, `"x":1`) + `],"events":[` + event(id, "e") + `]}`))
				if err != nil {
					t.Errorf("%s: %v", id, err)
				}
				mu.Lock()
				told[got.status]++
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	sum, logged := r.Summary(), 0
	for i := range callers {
		logged += len(r.profile(fmt.Sprint("u", i)).Events)
	}
	if diff := cmp.Diff(sum.Statuses, told); diff != "" {
		t.Errorf("statuses (-record +told):\n%s", diff)
	}
	if taken := told[201] + told[503]; sum.Events != taken || logged != taken || sum.Attributes != taken || sum.Lost != told[503] {
		t.Errorf("%d events logged of %d calls that were taken: %+v", logged, taken, sum)
	}
	if told[500] != callers*each/5 || sum.DuplicateEvents != logged-callers || sum.Overlaps != 0 {
		t.Errorf("%+v", sum)
	}
}

// Declared types outlast the profiles.
func TestForgetKeepsDeclaredTypes(t *testing.T) {
	r := start(t, Config{Types: map[string]Type{"messenger_id": String}})
	r.make("a")
	r.taken(attributes(attribute("a", `"messenger_id":"1","n":1`)))
	if status, body := r.ask("DELETE", "/control/profiles", ""); status != 200 {
		t.Error(body)
	}
	if diff := cmp.Diff(map[string]Type{"messenger_id": String}, r.Types()); diff != "" {
		t.Errorf("types (-want +got):\n%s", diff)
	}
	r.make("a") // its ids are free again
	if p := r.profile("a"); len(p.Attributes) != 0 {
		t.Errorf("%+v", p)
	}
}

// A list of profiles is as large as a load test needs.
func TestManyProfiles(t *testing.T) {
	const n = 20_000
	r := start(t, Config{})
	var list strings.Builder
	for i := range n {
		fmt.Fprintf(&list, `,{"external_id":"user-%d"}`, i)
	}
	status, body := r.ask("POST", "/control/profiles", "["+list.String()[1:]+"]")
	if status != 200 || r.Summary().Profiles != n {
		t.Fatalf("%d %.100s, %d profiles", status, body, r.Summary().Profiles)
	}
	ids := map[string]bool{}
	for _, p := range r.Profiles() {
		ids[p.BrazeID] = true
	}
	if len(ids) != n {
		t.Errorf("%d distinct ids", len(ids))
	}
}
